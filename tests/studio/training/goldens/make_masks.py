"""Writes ``masks.json``: rows of every format under real chat templates, to the last id.

Run ``python -m tests.studio.training.goldens.make_masks`` after adding a case, and read what changed.
Nothing of the studio is used here. What each template writes is put down a second time, in plain Python,
beside which of it is to be trained; what each format makes of its row is written out by hand as turns.
A turn is a role (``s``, ``u``, ``a``, ``t``) and its text; a capital ``A`` is an answer to be trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("masks.json")
SPECIAL = (
    "<s>",
    "</s>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|im_sep|>",
    "[INST]",
    "[/INST]",
    "<think>",
    "</think>",
)
Turn = tuple[str, str]
Part = tuple[str, bool]
Row = list[Part]
ROLES = {"s": "system", "u": "user", "a": "assistant", "A": "assistant", "t": "tool"}
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. "
)
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n"
)


# ------------------------------------------------------------------ templates, a second time


def chatml(turns: Sequence[Turn]) -> list[Row]:
    row: Row = []
    for role, said in turns:
        row += [(f"<|im_start|>{ROLES[role]}\n", False), (f"{said}<|im_end|>\n", role == "A")]
    return [row]


def qwen_25(turns: Sequence[Turn]) -> list[Row]:
    return chatml(turns if turns[0][0] == "s" else [("s", QWEN), *turns])


def qwen_3(turns: Sequence[Turn]) -> list[Row]:
    """Thoughts stand before the last answer only: one row per answer that is trained."""
    rows = []
    for index, (role, said) in enumerate(turns):
        if role == "A":
            (row,) = chatml([(r.lower(), t) for r, t in turns[:index]])
            start, end = "<|im_start|>assistant\n", f"<think>\n\n</think>\n\n{said}<|im_end|>\n"
            rows.append([*row, (start, False), (end, True)])
    return rows


def llama_3(turns: Sequence[Turn]) -> list[Row]:
    row: Row = [("<s>", False)]
    for role, said in turns:
        row.append((f"<|start_header_id|>{ROLES[role]}<|end_header_id|>\n\n", False))
        row.append((f"{said.strip()}<|eot_id|>", role == "A"))
    return [row]


def llama_2(turns: Sequence[Turn]) -> list[Row]:
    row, system = [], ""
    for role, said in turns:
        if role == "s":
            system = f"<<SYS>>\n{said}\n<</SYS>>\n\n"
        elif role == "u":
            row.append((f"<s>[INST] {(system + said).strip()} [/INST]", False))
            system = ""
        else:
            row.append((f" {said.strip()} </s>", role == "A"))
    return [row]


def mistral(turns: Sequence[Turn]) -> list[Row]:
    row, system = [("<s>", False)], ""
    for role, said in turns:
        if role == "s":
            system = f"{said}\n\n"
        elif role == "u":
            row.append((f"[INST] {system}{said}[/INST]", False))
            system = ""
        else:
            row.append((f" {said.strip()}</s>", role == "A"))
    return [row]


def gemma(turns: Sequence[Turn]) -> list[Row]:
    row, system = [("<s>", False)], ""
    for role, said in turns:
        if role == "s":
            system = f"{said}\n\n"
            continue
        name = "user" if role == "u" else "model"
        row.append((f"<start_of_turn>{name}\n{system}", False))
        row.append((f"{said.strip()}<end_of_turn>\n", role == "A"))
        system = ""
    return [row]


def phi_4(turns: Sequence[Turn]) -> list[Row]:
    row: Row = []
    for role, said in turns:
        row += [(f"<|im_start|>{ROLES[role]}<|im_sep|>", False), (f"{said}<|im_end|>", role == "A")]
    return [row]


def vicuna(turns: Sequence[Turn]) -> list[Row]:
    row: Row = [] if turns[0][0] == "s" else [(VICUNA, False)]
    for role, said in turns:
        if role in "aA":
            row += [("ASSISTANT:", False), (f" {said}</s>", role == "A")]
        else:
            row.append((f"{'USER: ' if role == 'u' else ''}{said} ", False))
    return [row]


def alpaca(turns: Sequence[Turn]) -> list[Row]:
    row: Row = [] if turns[0][0] == "s" else [(ALPACA, False)]
    for role, said in turns:
        if role in "aA":
            row += [("### Response:\n", False), (f"{said}</s>\n\n", role == "A")]
        else:
            row.append((f"{'### Instruction:' + chr(10) if role == 'u' else ''}{said}\n\n", False))
    return [row]


TEMPLATES: dict[str, Callable[[Sequence[Turn]], list[Row]]] = {
    "chatml": chatml,
    "llama-3": llama_3,
    "llama-2": llama_2,
    "mistral": mistral,
    "gemma": gemma,
    "phi-4": phi_4,
    "qwen-2.5": qwen_25,
    "qwen-3": qwen_3,
    "vicuna": vicuna,
    "alpaca": alpaca,
}


# ------------------------------------------------------------------ rows of every format

LETTER = "\n\nAnswer with the letter of the right choice."
LABEL = "Which label fits this text? Answer with the label only.\n\n"
TALK = [["human", "Q"], ["gpt", "A"], ["human", " R "], ["gpt", " B "]]
Case = dict[str, Any]
ASKED = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "R"},
]
CASES: dict[str, Case] = {
    "instruction": {
        "format": "instruction",
        "row": {
            "instruction": "Q",
            "input": "I",
            "output": "A",
            "system": "S",
            "history": [["P", "O"]],
        },
        "turns": "sS|uP|AO|uQ\n\nI|AA",
    },
    "sharegpt": {
        "format": "sharegpt",
        "row": {"conversations": [{"from": f, "value": v} for f, v in TALK], "system": "S"},
        "turns": "sS|uQ|AA|u R |A B ",
    },
    "messages": {
        "format": "messages",
        "row": {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "Ä1"},
                {"role": "user", "content": "R"},
                {"role": "assistant", "content": "B"},
                {"role": "user", "content": "T"},
                {"role": "assistant", "content": "C"},
            ]
        },
        "turns": "uQ|AÄ1|uR|AB|uT|AC",
    },
    "messages, weight 0": {
        "format": "messages",
        "row": {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A", "weight": 0},
                {"role": "user", "content": "R"},
                {"role": "assistant", "content": "B"},
            ]
        },
        "turns": "uQ|aA|uR|AB",
    },
    "messages, weights": {
        "format": "messages",
        "train_on": "weights",
        "weights": [0.5, 2.0],
        "row": {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A", "weight": 0.5},
                {"role": "user", "content": "R"},
                {"role": "assistant", "content": "B", "weight": 2},
            ]
        },
        "turns": "uQ|AA|uR|AB",
    },
    "messages, last answer": {
        "format": "messages",
        "train_on": "last_answer",
        "row": {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": "R"},
                {"role": "assistant", "content": "B"},
            ]
        },
        "turns": "uQ|aA|uR|AB",
    },
    "prompt_completion": {
        "format": "prompt_completion",
        "row": {"prompt": "Q", "completion": "A"},
        "turns": "uQ|AA",
    },
    "question_answer": {
        "format": "question_answer",
        "row": {"question": "Q", "context": "C", "choices": ["x", "y"], "answer": "y"},
        "turns": f"uC\n\nQ\nA. x\nB. y{LETTER}|AB",
    },
    "classification": {
        "format": "classification",
        "row": {"text": "T", "label": "pos"},
        "turns": f"u{LABEL}T|Apos",
    },
    "rendered_chat": {
        "format": "rendered_chat",
        "row": {"text": "### Human: Q### Assistant: A"},
        "turns": "uQ|AA",
    },
    "custom": {
        "format": "custom",
        "row": {"q": "Q", "a": "A"},
        "turns": "uQ?|AA!",
        "settings": {"user_template": "{{ q }}?", "assistant_template": "{{ a }}!"},
    },
    "pairs": {
        "format": "pairs",
        "row": {"source": "Q", "target": "A", "system": "S"},
        "turns": "sS|uQ|AA",
    },
    "chat_export": {
        "format": "chat_export",
        "row": {
            "chat_messages": [
                {"sender": "human", "text": "Q"},
                {"sender": "assistant", "text": "A"},
                {"sender": "human", "text": "R"},
                {"sender": "assistant", "text": "B"},
            ]
        },
        "turns": "uQ|AA|uR|AB",
    },
    "kto": {
        "format": "kto",
        "row": {"prompt": "Q", "completion": "A", "label": True},
        "turns": "uQ|AA",
    },
    "preference, chosen": {
        "format": "preference",
        "row": {"prompt": "Q", "chosen": "A", "rejected": "B"},
        "turns": "uQ|AA",
    },
    "messages, text parts": {
        "format": "messages",
        "row": {
            "messages": [
                {"role": "developer", "content": "S"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": "R"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
            ]
        },
        "turns": "sS|uQR|AA",
    },
    "prompt_completion, turns": {
        "format": "prompt_completion",
        "turns": "uQ|aA|uR|AB",
        "row": {"prompt": ASKED, "completion": [{"role": "assistant", "content": "B"}]},
    },
    "preference, turns": {
        "format": "preference",
        "turns": "uQ|aA|uR|AB",
        "row": {
            "chosen": [*ASKED, {"role": "assistant", "content": "B"}],
            "rejected": [*ASKED, {"role": "assistant", "content": "C"}],
        },
    },
    "kto, turns": {
        "format": "kto",
        "turns": "uQ|aA|uR|AB",
        "row": {
            "prompt": ASKED,
            "completion": [{"role": "assistant", "content": "B"}],
            "label": False,
        },
    },
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>\n"
    + json.dumps(TOOL)
    + "\n</tools>\n\nFor "
    "each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
    "<args-json-object>}\n</tool_call><|im_end|>\n"
)
QWEN_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
ASSISTANT = "<|im_start|>assistant\n"
RESULT = "<|im_start|>user\n<tool_response>\n7\n</tool_response><|im_end|>\n"
QUESTION = "<|im_start|>user\nQ<|im_end|>\n"
TEKKEN = "<s>[AVAILABLE_TOOLS]" + json.dumps([TOOL]) + "[/AVAILABLE_TOOLS]"
TOOLED: dict[str, list[list[Any]]] = {  # template -> rows of parts: a call, its result, an answer
    "qwen-2.5": [
        [
            [f"<|im_start|>system\n{QWEN}\n\n{QWEN_TOOLS}{QUESTION}{ASSISTANT}", False],
            [QWEN_CALL, True],
            [RESULT + ASSISTANT, False],
            ["B<|im_end|>\n", True],
        ]
    ],
    "qwen-3": [
        [
            [f"<|im_start|>system\n{QWEN_TOOLS}{QUESTION}{ASSISTANT}", False],
            ["<think>\n\n</think>\n\n" + QWEN_CALL, True],
        ],
        [
            [
                f"<|im_start|>system\n{QWEN_TOOLS}{QUESTION}{ASSISTANT}{QWEN_CALL}{RESULT}{ASSISTANT}",
                False,
            ],
            ["<think>\n\n</think>\n\nB<|im_end|>\n", True],
        ],
    ],
    "mistral-tekken": [
        [
            [TEKKEN + "[INST]Q[/INST]", False],
            ['[TOOL_CALLS]add[ARGS]{"a": 1}</s>', True],
            ["[TOOL_RESULTS]7[/TOOL_RESULTS]", False],
            ["B</s>", True],
        ]
    ],
}
TOOL_CASES: dict[str, Case] = {
    "sharegpt, tools": {
        "format": "sharegpt",
        "row": {
            "conversations": [
                {"from": "human", "value": "Q"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "7"},
                {"from": "gpt", "value": "B"},
            ],
            "tools": json.dumps([TOOL]),
        },
    },
    "messages, tools": {
        "format": "messages",
        "row": {
            "messages": [
                {"role": "user", "content": "Q"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "7"},
                {"role": "assistant", "content": "B"},
            ],
            "tools": [TOOL],
        },
    },
    "function_calling": {
        "format": "function_calling",
        "row": {"query": "Q", "tools": [TOOL], "answers": [CALL["function"]]},
        "only_call": True,
    },
    "glaive": {
        "format": "glaive",
        "row": {
            "system": "SYSTEM: " + json.dumps(TOOL),
            "chat": 'USER: Q\n\n\nASSISTANT: <functioncall> {"name": "add", "arguments": \'{"a": 1}\'} <|endoftext|>'
            "\n\n\nFUNCTION RESPONSE: 7\n\n\nASSISTANT: B <|endoftext|>\n",
        },
    },
}
RAW: dict[str, Case] = {
    "prompt_completion, raw": {
        "format": "prompt_completion",
        "row": {"prompt": "Q: ", "completion": "A"},
        "settings": {"chat_template": False},
        "parts": [["Q: ", False], ["A</s>", True]],
    },
    "text": {"format": "text", "row": {"text": "Tü"}, "parts": [["Tü</s>", True]]},
    "custom, text": {
        "format": "custom",
        "row": {"a": "A"},
        "parts": [["A.</s>", True]],
        "settings": {"shape": "text", "text_template": "{{ a }}."},
    },
}


def turns_of(written: str) -> list[Turn]:
    return [(t[0], t[1:]) for t in written.split("|")]


def golden_tokenizer() -> Any:
    """One token per byte and the special tokens of all templates, in a fixed order."""
    from tests.tiny import make_tiny_tokenizer

    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    return tokenizer


def golden(tokenizer: Any, parts: Sequence[Part], weights: Sequence[float] = ()) -> dict[str, Any]:
    """A row as it must be: ``text`` with trained parts in brackets, tokens, ids, labels, weights."""
    ids: list[int] = []
    labels: list[int] = []
    factors: list[float] = []
    left = list(weights)
    for text, trained in parts:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        factor = left.pop(0) if trained and left else 1.0
        ids += piece
        labels += piece if trained else [-100] * len(piece)
        factors += [factor if trained else 0.0] * len(piece)
    return {
        "text": "".join(f"⟦{t}⟧" if trained else t for t, trained in parts),
        "tokens": " ".join(tokenizer.convert_ids_to_tokens(ids)),
        "input_ids": ids,
        "labels": labels,
        "weights": factors if weights else None,
    }


def goldens() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Case -> template -> rows; raw text has the template ``none``."""
    tokenizer = golden_tokenizer()
    found = {
        case: {
            name: _rows(tokenizer, write(turns_of(values["turns"])), values.get("weights", ()))
            for name, write in TEMPLATES.items()
        }
        for case, values in CASES.items()
    }
    tooled = {
        case: {
            name: [golden(tokenizer, row) for row in _tooled(rows, values)]
            for name, rows in TOOLED.items()
        }
        for case, values in TOOL_CASES.items()
    }
    raw = {c: {"none": [golden(tokenizer, [tuple(p) for p in v["parts"]])]} for c, v in RAW.items()}
    return {**found, **tooled, **raw}


def _tooled(rows: list[Any], values: Case) -> list[Any]:
    """The rows with a call, its result and an answer, or only the call."""
    return [rows[0][:2]] if values.get("only_call") else rows


def _rows(tokenizer: Any, rows: list[Row], weights: Sequence[float]) -> list[dict[str, Any]]:
    if len(rows) == 1:
        return [golden(tokenizer, rows[0], weights)]
    shared: Sequence[Any] = [[w] for w in weights] or [()] * len(rows)
    return [golden(tokenizer, r, w) for r, w in zip(rows, shared, strict=True)]


def as_json() -> str:
    """The file: one line per list of numbers, so that it can be read and compared."""
    lines = ["{"]
    for c, (case, templates) in enumerate(goldens().items()):
        lines.append(f" {json.dumps(case)}: {{")
        for t, (name, rows) in enumerate(templates.items()):
            lines.append(f"  {json.dumps(name)}: [")
            for r, row in enumerate(rows):
                fields = (
                    f"    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
                    for k, v in row.items()
                )
                lines.append("   {\n" + ",\n".join(fields) + "\n   }" + "," * (r + 1 < len(rows)))
            lines.append("  ]" + "," * (t + 1 < len(templates)))
        lines.append(" }" + "," * (c + 1 < len(CASES) + len(TOOL_CASES) + len(RAW)))
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_json(), encoding="utf-8")

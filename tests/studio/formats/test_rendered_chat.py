"""Conversations that were rendered to text are recognised, and read back as the messages they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from studio.chat_templates import template
from studio.data.reading.source import SourceRow
from studio.data.rendered_chat import style_of
from studio.data.row_format import RowError
from studio.errors import StudioError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1+1?\n\nThink of apples."},
    {"role": "assistant", "content": "It is 2."},
    {"role": "user", "content": "And é?"},
    {"role": "assistant", "content": "A letter: « é »"},
]


def read(text: str) -> Any:
    variant = FORMATS["rendered_chat"]
    return variant.payload.convert({"text": text}, variant.settings())["messages"]


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("chatml", "ChatML"),
        ("qwen-2.5", "ChatML"),
        ("qwen-3", "ChatML"),
        ("phi-4", "ChatML"),
        ("llama-3", "Llama 3"),
        ("llama-2", "Llama 2 or Mistral"),
        ("mistral", "Llama 2 or Mistral"),
        ("mistral-tekken", "Llama 2 or Mistral"),
        ("gemma", "Gemma"),
        ("zephyr", "Zephyr or Phi-3"),
        ("phi-3", "Zephyr or Phi-3"),
        ("deepseek", "DeepSeek"),
        ("alpaca", "Alpaca"),
        ("vicuna", "Vicuna"),
    ],
)
def test_what_a_template_of_the_program_renders_is_read_back(name: str, title: str) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = lambda words: pytest.fail(words)
    environment.globals["strftime_now"] = lambda words: "26 Jul 2024"
    source = environment.from_string(template(name).source)
    turns = TURNS if name != "gemma" else TURNS[1:]
    text = source.render(messages=turns, bos_token="<s>", eos_token="</s>", tools=None)
    style = style_of(text)
    assert style is not None
    assert style.title == title
    found = read(text)
    if name == "qwen-3":  # it writes an empty thought before the last answer
        found[-1]["content"] = found[-1]["content"].removeprefix("<think>\n\n</think>\n\n")
    if name == "llama-3":  # it writes dates into the system message
        assert found[0]["content"].endswith("Be brief.")
        found[0]["content"] = "Be brief."
    if name.startswith("mistral") and found[0]["role"] == "user":  # the rules stand in the question
        found[0]["content"] = found[0]["content"].removeprefix("Be brief.\n\n")
        turns = turns[1:]
    assert found == turns


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "<|im_start|>user\nWhat is 0+1?<|im_end|>\n<|im_start|>assistant\nIt is 1.<|im_end|>\n",
            said(("user", "What is 0+1?"), ("assistant", "It is 1.")),
        ),
        (
            "### Human: Hi### Assistant: Yes?### Human: No### Assistant: Bye",
            said(("user", "Hi"), ("assistant", "Yes?"), ("user", "No"), ("assistant", "Bye")),
        ),
        (
            "Below is an instruction.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n3</s>",
            said(
                ("system", "Below is an instruction."), ("user", "Add\n\n1 2"), ("assistant", "3")
            ),
        ),
        (
            "### Instruction:\nAdd\n\n### Input:\n\n### Response:\n3\n\n### End",
            said(("user", "Add"), ("assistant", "3")),
        ),
        (
            "<s>[INST] Hi [/INST] Yes? </s><s>[INST] No [/INST] Bye </s>",
            said(("user", "Hi"), ("assistant", "Yes?"), ("user", "No"), ("assistant", "Bye")),
        ),
        (
            "[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT][INST]Hi[/INST]Yes?</s>",
            said(("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?")),
        ),
        (
            "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\nYes?<|eot|>",
            said(("user", "Hi"), ("assistant", "Yes?")),
        ),
        (
            "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>Yes?<|end_of_text|>\n",
            said(("user", "Hi"), ("assistant", "Yes?")),
        ),
        (
            "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Yes?<|END_OF_TURN_TOKEN|>",
            said(("user", "Hi"), ("assistant", "Yes?")),
        ),
        (
            "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: No\n\nAssistant: Bye",
            said(("user", "Hi"), ("assistant", "Yes?"), ("user", "No"), ("assistant", "Bye")),
        ),
        (
            "<|user|>\nHi</s>\n<|assistant|>\nIt was cut off in the mid",
            said(("user", "Hi"), ("assistant", "It was cut off in the mid")),
        ),
        (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\n12<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n12 it is\n</think>\n\nTwelve.<|im_end|>\n<|endoftext|>",
            said(
                ("user", "Hi"),
                ("tool", "12"),
                ("assistant", "<think>\n12 it is\n</think>\n\nTwelve."),
            ),
        ),
    ],
)
def test_texts_of_the_wild(text: str, wanted: list[dict[str, str]]) -> None:
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A text about nothing.", "no rendered conversation"),
        (
            "Templates write <|im_start|>user\nfor a question and <|im_start|>assistant\nlater.",
            "no rendered",
        ),
        ("### Instruction:\nOnly a question", "no rendered conversation"),
        (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            "ends where the answer should begin",
        ),
        (
            "<|im_start|>user\nHi<|im_end|>\nlost<|im_start|>assistant\nb<|im_end|>",
            "text after “<|im_end|>”",
        ),
        ("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nb<|im_end|>", "an empty turn 1"),
        (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>judge\nb<|im_end|>\n<|im_start|>assistant\nc",
            "role “judge”",
        ),
        ("[AVAILABLE_TOOLS][][/AVAILABLE_TOOLS][INST] a [/INST] b</s>", "no rendered conversation"),
        ("[INST] a [/INST][TOOL_CALLS][{}]</s>", "calls a tool"),
    ],
)
def test_what_cannot_be_read_back_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(RowError) as caught:
        read(text)
    assert words in caught.value.what

    from studio.data.detect import Chosen

    variant = FORMATS["rendered_chat"]
    with pytest.raises(StudioError, match=r"^line 7 of rows\.jsonl ") as located:
        Chosen(variant, variant.settings()).convert(
            SourceRow(7, {"text": text}, 0), Path("rows.jsonl")
        )
    assert located.value.line == 7


@pytest.mark.parametrize(
    "text",
    [
        "Use [INST] and [/INST] around a question.",
        "# FAQ\n\n### Question\nWhy?\n\n### Answer\nBecause.",
        "The USER: field and the ASSISTANT field",
        "Human: nobody answers",
        "<|user|> alone",
        "",
    ],
)
def test_a_text_about_templates_is_not_a_conversation(text: str) -> None:
    assert style_of(text) is None


ONE = said(("user", "Hi"), ("assistant", "Yes?"))


@pytest.mark.parametrize(
    ("title", "text"),
    [
        (
            "Kimi",
            "<|im_user|>user<|im_middle|>Hi<|im_end|><|im_assistant|>assistant<|im_middle|>Yes?<|im_end|>",
        ),
        ("Nemotron", "<extra_id_1>User\nHi\n<extra_id_1>Assistant\nYes?\n"),
        ("EXAONE or Baize", "[|user|]Hi\n[|assistant|]Yes?[|endofturn|]\n"),
        ("EXAONE or Baize", "[|Human|] Hi\n[|AI|] Yes?"),
        ("Zephyr or Phi-3", "<|USER|>Hi<|ASSISTANT|>Yes?"),
        ("Zephyr or Phi-3", "<|prompter|>Hi<|endoftext|><|assistant|>Yes?<|endoftext|>"),
        ("Zephyr or Phi-3", "<|User|>:Hi<eoh>\n<|Bot|>:Yes?<eoa>\n"),
        (
            "Zephyr or Phi-3",
            "<|startoftext|><|bom|><|user|> Hi<|eom|><|bom|><|assistant|> Yes?<|eom|>",
        ),
        (
            "OpenChat",
            "GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant: Yes?<|end_of_turn|>",
        ),
        ("Seed", "<seed:bos>user\nHi<seed:eos><seed:bos>assistant\nYes?<seed:eos>"),
        ("Apertus", "<s><|user_start|>Hi<|user_end|><|assistant_start|>Yes?<|assistant_end|>"),
        ("MiniMax", "]~!b[]~b]user\nHi[e~[\n]~b]ai\nYes?[e~[\n"),
        ("Alpaca", "### Instruction\nHi\n\n### Response\nYes?"),
        ("a transcript", "<｜begin▁of▁sentence｜>User: Hi\n\nAssistant: Yes?<｜end▁of▁sentence｜>"),
        ("a transcript", "User: Hi\nAssistant: Yes?"),
        ("a transcript", "<|begin_of_sentence|>User: Hi\nAssistant: Yes?<|end_of_sentence|>"),
        (
            "GPT-OSS",
            "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Yes?<|return|>",
        ),
    ],
)
def test_marks_of_other_families(title: str, text: str) -> None:
    style = style_of(text)
    assert style is not None
    assert style.title == title
    assert read(text) == ONE


def test_channels_of_gpt_oss() -> None:
    """The analysis is the thought of the answer; system and developer are one system message."""
    text = (
        "<|start|>system<|message|>You are ChatGPT.<|end|><|start|>developer<|message|># Instructions\n\nBe kind."
        "<|end|><|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Yes?<|return|>"
    )
    system = {"role": "system", "content": "You are ChatGPT.\n\n# Instructions\n\nBe kind."}
    assert read(text) == [system, ONE[0], {**ONE[1], "reasoning_content": "Hm."}]
    called = text.replace(
        "<|start|>assistant<|channel|>final<|message|>Yes?<|return|>",
        "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
    )
    with pytest.raises(RowError, match="calls a tool in marks that cannot be read back"):
        read(called)
    with pytest.raises(RowError, match="has a thought before turn 5, which is not an answer"):
        read(text.replace("assistant<|channel|>final", "user") + text)
    with pytest.raises(RowError, match="ends with a thought"):
        read(text.partition("<|start|>assistant<|channel|>final")[0])


@pytest.mark.parametrize(
    "text",
    [
        "A play.\n\nUser: enters\nAssistant: leaves",
        "### Input\nfoo\n\n### Output\nbar",
        "The array x[|user|] of OCaml",
        "`<|end_of_turn|>` closes a turn of the User: see there",
    ],
)
def test_other_texts_about_templates_are_not_conversations(text: str) -> None:
    assert style_of(text) is None

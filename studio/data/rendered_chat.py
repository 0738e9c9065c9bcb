"""Conversations that a chat template already rendered to text: which one it was, and their messages.

Trained as plain text, such a row teaches the questions, too, and the marks of another model. Here
the text becomes messages again, so that the model's own template renders them and only the answers
are trained. A text that cannot be read completely is an error; nothing of it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from studio.data.conversation import Message, answered
from studio.data.message_names import ROLES
from studio.data.row_format import RowError

_SPEAKERS = {
    **ROLES,
    "instruction": "user",
    "input": "user",
    "context": "user",
    "question": "user",
    "prompt": "user",
    "response": "assistant",
    "answer": "assistant",
    "output": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "[system_prompt]": "system",
    "[inst]": "user",
    "[/inst]": "assistant",
}
_STARTS = (
    "<s>",
    "<bos>",
    "<|begin_of_text|>",
    "<|startoftext|>",
    "<｜begin▁of▁sentence｜>",
    "<BOS_TOKEN>",
    "[gMASK]",
    "<sop>",
    "<|endoftext|>",
    "<|begin_of_sentence|>",
    "<|bom|>",
    "]~!b[",
)
_ENDS = (
    *("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|EOT|>"),
    *("<|end_of_sentence|>", "<｜end▁of▁sentence｜>"),
)
_LLAMA_2_SYSTEM = re.compile(r"\A\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_TOOL_MARKS = ("[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]")


@dataclass(frozen=True)
class Style:
    """The marks of a family of templates.

    ``sign`` occurs in each of its texts. ``header`` begins a message; its group ``role`` names who
    speaks. ``ends`` close a message. ``preamble``: text before the first header is the system
    message.
    """

    title: str
    sign: str
    header: re.Pattern[str]
    ends: tuple[str, ...] = ()
    preamble: bool = False

    def headers_in(self, text: str) -> list[re.Match[str]]:
        """The headers in a text, in order."""
        return list(self.header.finditer(text)) if self.sign in text else []


STYLES = (
    Style(
        "ChatML",
        "<|im_start|>",
        re.compile(r"<\|im_start\|>[ \t]*(?P<role>\w+)[ \t]*(?:<\|im_sep\|>|\r?\n|\Z)"),
        ("<|im_end|>",),
    ),
    Style(
        "Llama 3",
        "<|",
        re.compile(
            r"<\|(?:start_header_id|header_start)\|>\s*(?P<role>\w+)\s*"
            r"<\|(?:end_header_id|header_end)\|>"
        ),
        ("<|eot_id|>", "<|eom_id|>", "<|eot|>"),
    ),
    Style(
        "Gemma",
        "<start_of_turn>",
        re.compile(r"<start_of_turn>[ \t]*(?P<role>\w+)[ \t]*(?:\r?\n|\Z)"),
        ("<end_of_turn>",),
    ),
    Style(
        "Zephyr or Phi-3",
        "|>",
        re.compile(
            r"<\|(?P<role>system|user|assistant|observation|tool|model|prompter|bot)\|>:?",
            re.IGNORECASE,
        ),
        ("<|end|>", "<|eom|>", "<eoh>", "<eoa>"),
    ),
    Style(
        "GPT-OSS",
        "<|message|>",
        re.compile(
            r"<\|start\|>(?P<role>\w+)[^<]*(?:<\|channel\|>(?P<channel>\w+)[^<]*)?"
            r"(?:<\|constrain\|>\w+)?<\|message\|>"
        ),
        ("<|end|>", "<|return|>", "<|call|>"),
    ),
    Style(
        "Kimi",
        "<|im_middle|>",
        re.compile(r"<\|im_(?P<role>system|user|assistant)\|>\w*<\|im_middle\|>"),
        ("<|im_end|>",),
    ),
    Style(
        "Nemotron",
        "<extra_id_1>",
        re.compile(r"<extra_id_[01]>(?P<role>System|User|Assistant)\r?\n"),
    ),
    Style(
        "EXAONE or Baize",
        "|]",
        re.compile(r"\[\|(?P<role>system|user|assistant|Human|AI)\|\]"),
        ("[|endofturn|]",),
        preamble=True,
    ),
    Style(
        "OpenChat",
        "<|end_of_turn|>",
        re.compile(r"(?:GPT4 (?:Correct|Code) |Code )?(?P<role>User|Assistant):"),
        ("<|end_of_turn|>",),
    ),
    Style("Seed", "<seed:bos>", re.compile(r"<seed:bos>(?P<role>\w+)\r?\n"), ("<seed:eos>",)),
    Style(
        "Apertus",
        "_start|>",
        re.compile(r"<\|(?P<role>system|developer|user|assistant)_start\|>"),
        ("<|system_end|>", "<|developer_end|>", "<|user_end|>", "<|assistant_end|>"),
    ),
    Style("MiniMax", "]~b]", re.compile(r"\]~b\](?P<role>\w+)\r?\n"), ("[e~[",)),
    Style(
        "Granite",
        "<|start_of_role|>",
        re.compile(r"<\|start_of_role\|>(?P<role>\w+)<\|end_of_role\|>"),
    ),
    Style(
        "DeepSeek",
        "<｜User｜>",
        re.compile(r"<｜(?P<role>User|Assistant)｜>"),
        ("<｜end▁of▁sentence｜>",),
        preamble=True,
    ),
    Style(
        "Command R",
        "<|CHATBOT_TOKEN|>",
        re.compile(r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>SYSTEM|USER|CHATBOT)_TOKEN\|>"),
        ("<|END_OF_TURN_TOKEN|>",),
    ),
    Style(
        "Llama 2 or Mistral",
        "[/INST]",
        re.compile(r"(?P<role>\[SYSTEM_PROMPT\]|\[/?INST\])"),
        ("[/SYSTEM_PROMPT]",),
    ),
    Style(
        "Alpaca",
        "###",
        re.compile(
            r"###[ \t]*(?P<role>Instruction|Input|Context|Response|Human|Assistant|User|System|"
            r"Question|Answer|Output|Prompt)[ \t]*:"
        ),
        ("### End",),
        preamble=True,
    ),
    Style(
        "Vicuna", "USER:", re.compile(r"(?:\A|(?<=[\s>]))(?P<role>USER|ASSISTANT):"), preamble=True
    ),
    Style("HH-RLHF", "Assistant:", re.compile(r"(?:\A\s*|\n\n)(?P<role>Human|Assistant):")),
    Style(
        "Alpaca",
        "###",
        re.compile(
            r"###[ \t]*(?P<role>Instruction|Input|Response|System|User|Assistant|Human)[ \t]*\r?\n"
        ),
    ),
    Style(
        "a transcript",
        "Assistant:",
        re.compile(r"(?:\A\s*|\n+|(?<=\|>)|(?<=｜>))(?P<role>User|Human|Assistant|System):[ \t\n]"),
    ),
)


def style_of(text: str) -> Style | None:
    """The style of a rendered conversation with a question and an answer, or ``None``.

    Without a preamble the text has to begin with a mark, so that a text about templates is not
    mistaken for a conversation.
    """
    for style in STYLES:
        found = style.headers_in(text)
        if not found or not (style.preamble or not _bare(text[: found[0].start()])):
            continue
        roles = [_SPEAKERS.get(m["role"].lower()) for m in found]
        asked = next((i for i, role in enumerate(roles) if role == "user"), None)
        if asked is not None and "assistant" in roles[asked:]:
            return style
    return None


def messages_in_text(text: str, name: str) -> list[Message]:
    """The messages of a rendered conversation in column ``name``; raises ``RowError``."""
    style = style_of(text)
    if style is None:
        raise RowError(
            f"holds no rendered conversation in column “{name}”: no question and answer between "
            "the marks of a known chat template",
            "Correct or remove the row, or choose the format “Plain text”.",
            column=name,
            code="not_rendered",
        )
    if any(mark in text for mark in _TOOL_MARKS):
        raise _unread(style, name, "calls a tool in marks that cannot be read back")
    found = style.headers_in(text)
    messages: list[Message] = []
    thoughts: list[str] = []
    preamble = _bare(text[: found[0].start()])
    if preamble:
        messages.append({"role": "system", "content": preamble})
    ends = [m.start() for m in found[1:]] + [len(text)]
    for number, (mark, end) in enumerate(zip(found, ends, strict=True), start=1):
        role = _role(mark["role"], style, name)
        content = _content(text[mark.end() : end], style, name, number)
        if role == "user" and mark["role"] == "[INST]":
            system = _LLAMA_2_SYSTEM.match(content)
            if system is not None:
                messages.append({"role": "system", "content": system[1].strip()})
                content = content[system.end() :].strip()
        if not content and role == "system":
            continue
        if not content and mark["role"] in ("Input", "Context"):
            continue  # an instruction without input
        if not content:
            last = number == len(found) and role == "assistant"
            what = "ends where the answer should begin" if last else f"has an empty turn {number}"
            raise _unread(style, name, what)
        if style.title == "GPT-OSS" and "to=" in mark[0]:
            raise _unread(style, name, "calls a tool in marks that cannot be read back")
        if style.title == "GPT-OSS" and mark["channel"] == "analysis":
            thoughts.append(content)
            continue
        if thoughts and role != "assistant":
            raise _unread(
                style, name, f"has a thought before turn {number}, which is not an answer,"
            )
        joins = role == "system" or (role == "user" and style.title == "Alpaca")
        if messages and messages[-1]["role"] == role and joins:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": role, "content": content})
        if thoughts:
            messages[-1]["reasoning_content"] = "\n\n".join(thoughts)
            thoughts = []
    if thoughts:
        raise _unread(style, name, "ends with a thought, which no answer follows,")
    return answered(messages, name)


def _role(given: str, style: Style, name: str) -> str:
    role = _SPEAKERS.get(given.lower())
    if role is None:
        raise _unread(style, name, f"has the unknown role “{given}”")
    return role


def _content(part: str, style: Style, name: str, number: int) -> str:
    """The text of a turn without the marks that close it."""
    closing = (*style.ends, *_ENDS, *_STARTS)
    content = part.strip()
    while mark := next((m for m in closing if content.endswith(m)), None):
        content = content.removesuffix(mark).rstrip()
    inside = next((m for m in (*style.ends, *_ENDS) if m in content), None)
    if inside is not None:
        raise _unread(style, name, f"has text after “{inside}”, which ends turn {number},")
    return content


def _bare(text: str) -> str:
    """A text without marks that begin a sequence."""
    text = text.strip()
    while mark := next((m for m in _STARTS if text.startswith(m)), None):
        text = text.removeprefix(mark).lstrip()
    return text


def _unread(style: Style, name: str, what: str) -> RowError:
    return RowError(
        f"{what} in column “{name}”, a conversation in the style of {style.title}",
        "Correct or remove the row.",
        column=name,
        code="not_rendered",
    )


def rendered_style(row: Mapping[str, object]) -> str:
    """The style of a canonical row of plain text that is a rendered conversation, or nothing."""
    text = row.get("text")
    style = style_of(text) if isinstance(text, str) else None
    return style.title if style is not None else ""

"""The Modelfile of Ollama: its text, and what it takes from the model's generation config.

The syntax follows ``parser/parser.go`` of Ollama. Nothing here reads weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.node_settings.ollama_name import LONGEST_PART

MODELFILE = "Modelfile"
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Names in ``generation_config.json`` -> names of the parameters of Ollama."""


@dataclass(frozen=True)
class Modelfile:
    """``parameters`` are pairs of a name and a value; a stop word is a string, and may be repeated."""

    model: str
    adapter: str = ""
    template: str = ""
    system: str = ""
    parameters: Sequence[tuple[str, float | int | str]] = ()
    comments: Sequence[str] = field(default=())

    def text(self) -> str:
        """The text of the file. Raises ``ValueError`` for text that a Modelfile cannot contain."""
        lines = [f"# {' '.join(comment.split())}" for comment in self.comments]
        lines += [f"FROM {self.model}"]
        lines += [f"ADAPTER {self.adapter}"] if self.adapter else []
        lines += [f"TEMPLATE {_quoted(self.template)}"] if self.template else []
        lines += [f"SYSTEM {_quoted(self.system)}"] if self.system else []
        for name, value in self.parameters:
            lines.append(f"PARAMETER {name} {_word(value)}")
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    if '"""' in text:
        raise ValueError('a Modelfile cannot contain text with three quotation marks (""")')
    return f'"""{text}"""'


def _word(value: float | int | str) -> str:
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return _quoted(value) if value.endswith('"') or "\n" in value else f'"{value}"'


def model_name(project: str) -> str:
    """The name of a model made from that of a project: ``support-tone``."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", project.lower())[:LONGEST_PART].strip("-._")
    return plain or "my-model"


def sampling(config: Mapping[str, Any]) -> list[tuple[str, float | int | str]]:
    """The parameters of Ollama that a generation config states; with ``do_sample`` off, the temperature is 0."""
    if config.get("do_sample") is False:
        return [("temperature", 0)]
    return [
        (theirs, config[ours])
        for ours, theirs in _SAMPLING.items()
        if isinstance(config.get(ours), (int, float)) and not isinstance(config[ours], bool)
    ]


def stop_words(after_answer: str, before_user: str, special: Sequence[str]) -> list[str]:
    """The texts that end an answer: the first special token that the chat template writes after an answer, else the
    start of the next question. ``special`` are the special tokens of the tokenizer."""
    found = [(after_answer.index(t), -len(t), t) for t in special if t and t in after_answer]
    if found:
        return [min(found)[2]]
    start = before_user.strip()
    return [start] if len(start) > 2 else []


def commands(name: str) -> list[str]:
    """What is entered in the folder of the Modelfile."""
    return [f"ollama create {name} -f {MODELFILE}", f"ollama run {name}"]

"""What a chat template writes around the messages of a conversation, found by rendering a few, and the same as a
template of Ollama.

Why: Ollama renders conversations with templates of Go (``text/template``), not with Jinja. Most chat templates write
fixed texts around the messages. These texts are found with marked messages, and compared with the chat template on
conversations of several shapes; a template that does more is refused with the first difference. Tools, images and
reasoning are not covered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

Message = Mapping[str, str]
Render = Callable[[Sequence[Message], bool], str]
"""The text of a conversation; with ``True`` it ends where the next answer starts. Raises ``NotFixed``."""

_SYSTEM, _USER, _ANSWER, _NEXT = "Sx7Qa", "Ux1Qb", "Ax1Qc", "Ux2Qd"
_INNER = 'Two lines\n\nwith "quotes", {{ braces }}, `code` \\ and ünïcödé 你好.'


class NotFixed(Exception):
    """A chat template that does not consist of fixed texts around the messages; the text is the reason, as the end
    of a sentence."""


@dataclass(frozen=True)
class Turns:
    """The texts around the messages.

    ``opening`` is written before the first message if there is no system message, else ``before_system`` and
    ``after_system`` around it; ``before_system`` is ``None`` if the template takes no system message. What is
    ``joined`` contains the start of the first question, which then has no ``before_user``. ``asking`` starts an
    answer.
    """

    opening: str
    opening_joined: bool
    before_system: str | None
    after_system: str
    system_joined: bool
    before_user: str
    after_user: str
    before_answer: str
    after_answer: str
    asking: str
    strips: bool = False  # white space around messages, which a template of Ollama keeps

    def text(self, messages: Sequence[Message]) -> str:
        """A conversation as the template of Ollama renders it."""
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        said = bool(system) and self.before_system is not None
        parts = [f"{self.before_system}{system}{self.after_system}" if said else self.opening]
        joined = self.system_joined if said else self.opening_joined
        others = [m for m in messages if m["role"] != "system"]
        for message in others:
            if message["role"] == "user":
                start = "" if joined else self.before_user
                joined = False
                parts.append(f"{start}{message['content']}{self.after_user}")
            else:
                last = message is others[-1]
                end = "" if last else self.after_answer
                parts.append(f"{self.before_answer}{message['content']}{end}")
        if others and others[-1]["role"] == "user":
            parts.append(self.asking)
        return "".join(parts)

    def without_bos(self, bos: str) -> Turns:
        """The same without BOS at the start, for a program that adds it."""
        before, opening = self.before_system, self.opening
        if not opening and not self.opening_joined:  # Llama 2 starts every question with BOS
            first = self.before_user.removeprefix(bos)
            if first != self.before_user:
                opening, joined = first, True
            else:
                joined = False
        else:
            opening, joined = opening.removeprefix(bos), self.opening_joined
        before = before if before is None else before.removeprefix(bos)
        return replace(self, opening=opening, opening_joined=joined, before_system=before)

    def starts_with(self, text: str) -> bool:
        """Whether every conversation starts with this text."""
        return all(
            self.text([*lead, {"role": "user", "content": "?"}]).startswith(text)
            for lead in ([], [{"role": "system", "content": "?"}])
        )


def find_turns(render: Render) -> Turns:
    """The texts that a chat template writes around messages. Raises ``NotFixed``."""
    user, answer, later = _said("user", _USER), _said("assistant", _ANSWER), _said("user", _NEXT)
    opening, after_user = _parts(render([user], False), _USER)
    asked = _parts(render([user], True), _USER)[1]
    asking = _rest(asked, after_user)
    talk = render([user, answer, later], True)
    _, to_answer, to_user, _ = _parts(talk, _USER, _ANSWER, _NEXT)
    after_answer = _parts(render([user, answer], False), _USER, _ANSWER)[2]
    before_user = _rest(to_user, after_answer)
    before_system, after_system = _system(render, user)
    system_joined = before_system is not None and not after_system.endswith(before_user)
    opening_joined = not opening.endswith(before_user)
    found = Turns(
        opening if opening_joined else opening.removesuffix(before_user),
        opening_joined,
        before_system,
        after_system if system_joined else after_system.removesuffix(before_user),
        system_joined,
        before_user,
        after_user,
        _rest(to_answer, after_user),
        after_answer,
        asking,
    )
    _compare(render, found)
    padded = [_said("user", " a \n"), _said("assistant", "\n b "), _said("user", "c")]
    return replace(found, strips=render(padded, True) != found.text(padded))


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _system(render: Render, user: Message) -> tuple[str | None, str]:
    try:
        text = render([_said("system", _SYSTEM), user], True)
    except NotFixed:
        return None, ""
    if _SYSTEM not in text:
        return None, ""
    before, after, _ = _parts(text, _SYSTEM, _USER)
    return before, after


def _parts(text: str, *marks: str) -> list[str]:
    """What is before, between and after the marks."""
    found = []
    for mark in marks:
        before, there, text = text.partition(mark)
        if not there:
            raise NotFixed("it does not write every message as it is")
        found.append(before)
    return [*found, text]


def _rest(text: str, start: str) -> str:
    if not text.startswith(start):
        raise NotFixed("what it writes after a message depends on the next one")
    return text.removeprefix(start)


def probes(system: bool) -> list[list[Message]]:
    """Conversations for the comparison."""
    first, second = _said("user", "Hello"), _said("assistant", "Hi there")
    short: list[list[Message]] = [
        [first],
        [_said("user", _INNER)],
        [first, second, _said("user", _INNER)],
        [_said("user", _INNER), _said("assistant", _INNER), first, second, _said("user", "Why?")],
        [first, second] * 4 + [first],
    ]
    lead = _said("system", f"You are terse. {_INNER}")
    return short + ([[lead, *talk] for talk in short] if system else [])


def _compare(render: Render, found: Turns) -> None:
    for talk in probes(found.before_system is not None):
        if render(talk, True) != found.text(talk):
            count = len(talk)
            raise NotFixed(
                f"a conversation of {count} message{'s' if count > 1 else ''} has other texts around its messages"
            )


# ------------------------------------------------------------------ as a template of Ollama


def go_template(turns: Turns) -> str:
    """The template for ``TEMPLATE`` in a Modelfile: ``turns.text`` of the messages that Ollama passes to it."""
    opening = _literal(turns.opening) + _set_joined(turns.opening_joined)
    head = opening
    if turns.before_system is not None:
        system = f"{_literal(turns.before_system)}{{{{- .System }}}}{_literal(turns.after_system)}"
        system += _set_joined(turns.system_joined)
        head = f"{{{{- if .System }}}}{system}{{{{- else }}}}{opening}{{{{- end }}}}"
    start = _literal(turns.before_user)
    joined = turns.opening_joined or turns.system_joined
    if joined:
        start = f"{{{{- if not $joined }}}}{start}{{{{- end }}}}{{{{- $joined = false }}}}"
    lines = [
        "{{- $joined := false }}" if joined else "",
        head,
        "{{- range $i, $_ := .Messages }}",
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
        '{{- if eq .Role "user" }}',
        f"{start}{{{{- .Content }}}}{_literal(turns.after_user)}",
        '{{- else if eq .Role "assistant" }}',
        f"{_literal(turns.before_answer)}{{{{- .Content }}}}"
        f"{{{{- if not $last }}}}{_literal(turns.after_answer)}{{{{- end }}}}",
        "{{- end }}",
        f'{{{{- if and $last (eq .Role "user") }}}}{_literal(turns.asking)}{{{{- end }}}}',
        "{{- end }}",
    ]
    return "\n".join(line for line in lines if line)


def _set_joined(joined: bool) -> str:
    return "{{- $joined = true }}" if joined else ""


def _literal(text: str) -> str:
    """An action that writes exactly this text. Characters that the parser of Modelfiles drops are escaped."""
    if not text:
        return ""
    return '{{- "' + "".join(map(_escaped, text)) + '" }}'


_NAMED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

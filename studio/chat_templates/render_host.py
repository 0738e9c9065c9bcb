"""A program that renders templates, one request a line, until its input ends.

Why a process of its own: a template may loop for ever or build a number of a billion digits in one
step, which nothing in the same process can end. A timer of the system, on Windows the watchdog of
faulthandler, ends this program when a row takes too long; whoever started it sees its output end.
It imports nothing of the studio and must not be imported for its functions elsewhere.

Three kinds of requests: templates of a row, with plain Jinja; conversations with a chat template,
with transformers' function for these (loaded at the first one; torch is not); and the names in a
template, because Jinja computes constants when it looks for them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from jinja2 import StrictUndefined, UndefinedError, meta
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import missing

_MEMORY_BYTES = 512 << 20
_NO_MEMORY, _FAILED = 4, 3
"""Exit codes (``studio.chat_templates.process``)."""
_FREE_S, _FREE_S_A_CHARACTER = 0.05, 2e-7
"""CPU time of one text that does not count as slow: hundreds of times what templates need."""
_LARGEST_REPEAT = 10_000_000
_LARGEST_POWER_BITS = 100_000


class _Named(StrictUndefined):
    """Says which name is missing in a way that the caller can tell from other mistakes."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_obj is missing:
            return f"column:{self._undefined_name}"
        return str(super()._undefined_message)


class _Bounded(ImmutableSandboxedEnvironment):
    """The sandbox, with a clear word for the two operators that make much of little."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, (str, list, tuple)) and isinstance(times, int):
                    _refuse(len(text) * times > _LARGEST_REPEAT, "repeats a sequence too often")
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 0)
            _refuse(bits > _LARGEST_POWER_BITS, "computes a power that is too large")
        return super().call_binop(context, operator, left, right)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise SecurityError(what)


def _shown(value: Any) -> Any:
    """A null or a NaN is an empty cell, and renders to nothing."""
    return "" if value is None or value != value else value


_ENVIRONMENT = _Bounded(undefined=_Named, keep_trailing_newline=True, finalize=_shown)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    return _ENVIRONMENT.from_string(source)


def render(sources: list[str], row: dict[str, Any], largest: int) -> dict[str, Any]:
    """The rendered texts, or which template failed and why."""
    texts: list[str] = []
    for index, source in enumerate(sources):
        try:
            texts.append(_text(_compiled(source), row, largest))
        except UndefinedError as error:
            kind, found, name = str(error).partition("column:")
            if found and not kind:
                return {"at": index, "missing": name}
            return {"at": index, "error": str(error)}
        except MemoryError:
            return {"at": index, "error": "needs too much memory", "memory": True}
        except RecursionError:
            return {"at": index, "error": "calls itself without end"}
        except Exception as error:  # a template may fail in any way that Jinja can
            return {"at": index, "error": str(error) or type(error).__name__}
    return {"texts": texts}


def _text(template: Any, row: dict[str, Any], largest: int) -> str:
    pieces, length = [], 0
    for piece in template.generate({"row": row, **row}):
        length += len(piece)
        _refuse(length > largest, f"renders more than {largest:,} characters")
        pieces.append(piece)
    return "".join(pieces)


# ------------------------------------------------------------------ names


class _Generation(Extension):
    """The tag of chat templates that marks what the model writes."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_PARSER = _Bounded(extensions=[_Generation, loopcontrols])


def names(source: str) -> list[str] | None:
    """The variables that a template reads; ``None`` if it cannot be parsed."""
    try:
        return sorted(meta.find_undeclared_variables(_PARSER.parse(source)))
    except Exception:
        return None


# ------------------------------------------------------------------ chat templates


@lru_cache(maxsize=1)
def _transformers() -> Any:
    """transformers' module for chat templates, with the sandbox of this one, within a memory limit
    of its own: what it loads does not count."""
    _bound_memory(None)
    from transformers.utils import chat_template_utils

    chat_template_utils.ImmutableSandboxedEnvironment = _Bounded
    _bound_memory(_MEMORY_BYTES)
    return chat_template_utils


def render_talks(request: dict[str, Any], watchdog: _Watchdog) -> dict[str, Any]:
    """For each conversation its wanted texts: a text that the first one begins with as its length,
    a failure with its reason. ``spent`` is the CPU time of slow texts; beyond the request's
    ``budget`` no further text is rendered."""
    found = []
    spent, memory = 0.0, False
    for messages, tools, wanted, kwargs in request["talks"]:
        given = [_message(m) for m in messages]
        texts: list[Any] = []
        for count, ask in wanted:
            if spent > request["budget"]:
                texts.append({"error": "takes too long", "slow": True})
                continue
            watchdog.restart()
            began = time.process_time()
            made = _chat(request, given[:count], tools, ask, kwargs)
            size = len(made) if isinstance(made, str) else 0
            spent += _slow_s(began, size)
            memory = memory or (isinstance(made, dict) and bool(made.get("memory")))
            if texts and isinstance(texts[0], str) and isinstance(made, str):
                made = size if texts[0].startswith(made) else made
            texts.append(made)
        found.append(texts)
    return {"talks": found, "spent": spent, "memory": memory}


def _slow_s(began: float, characters: int) -> float:
    """The CPU time since ``began`` that is more than any such text needs."""
    free = _FREE_S + characters * _FREE_S_A_CHARACTER
    return max(0.0, time.process_time() - began - free)


def _message(given: dict[str, Any]) -> dict[str, Any]:
    """As apply_chat_template does: without nulls, which many templates take for a value, and with the
    thoughts under the name that GPT-OSS reads, too."""
    message = {k: v for k, v in given.items() if v is not None}
    if "reasoning_content" in message:
        message.setdefault("thinking", message["reasoning_content"])
    return message


def _chat(
    request: dict[str, Any], messages: list[Any], tools: Any, ask: bool, kwargs: dict[str, Any]
) -> Any:
    try:
        if not messages:
            raise ValueError("there are no messages")
        (text,), marks = _transformers().render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=request["chat"],
            add_generation_prompt=ask,
            return_assistant_tokens_mask=request["marks"],
            **{**request["tokens"], **kwargs},
        )
        largest = request["largest"]
        _refuse(len(text) > largest, f"renders more than {largest:,} characters")
    except MemoryError:
        return {"error": "needs too much memory", "memory": True}
    except RecursionError:
        return {"error": "calls itself without end, or is nested too deeply"}
    except Exception as error:  # a template may fail in any way that Jinja can
        return {"error": str(error) or type(error).__name__}
    return {"text": text, "marks": marks[0]} if request["marks"] else text


# ------------------------------------------------------------------ limits and requests


class _Watchdog:
    """Ends this program when a text takes too long.

    Where there is ``SIGALRM``, its default action ends the program. The watchdog of faulthandler, which takes its
    place on Windows, first reads the stack of the thread that it interrupts, which may crash.
    """

    def __init__(self, seconds: float, report: TextIO) -> None:
        self._seconds, self._report = seconds, report
        self._started = -seconds

    def restart(self) -> None:
        """Another text begins. On Windows a restart starts a thread, so it is left out where hardly any
        time has passed since the last one."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            return
        now = time.monotonic()
        if now - self._started > self._seconds / 10:
            self._started = now
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._report)

    def stop(self) -> None:
        """The request is answered."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            faulthandler.cancel_dump_traceback_later()


def _bound_memory(more: int | None) -> None:
    """Let the program take so much more memory than it has; without a number, as much as there is."""
    if sys.platform == "win32":
        return  # the time limit and the bounds on operators remain
    try:
        import resource

        most = resource.RLIM_INFINITY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if more is not None:
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    except (ImportError, ValueError, OSError):
        return  # not on this system: as on Windows


def main() -> None:
    """Answer requests until the input ends: ``{"sources", "row", "seconds", "largest"}`` for a row,
    ``{"chat", "tokens", "talks", "marks", "seconds", "largest", "budget"}`` for conversations,
    ``{"names", "seconds"}`` for the names in a template."""
    _bound_memory(_MEMORY_BYTES)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whoever started it may have ignored it
    quiet = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the end, for the watchdog
    for line in sys.stdin:
        request = json.loads(line)
        if "chat" in request:
            _transformers()
        watchdog = _Watchdog(request["seconds"], quiet)
        watchdog.restart()
        if "chat" in request:
            reply = render_talks(request, watchdog)
        elif "names" in request:
            reply = {"names": names(request["names"])}
        else:
            began = time.process_time()
            reply = render(request["sources"], request["row"], request["largest"])
            reply["spent"] = _slow_s(began, sum(map(len, reply.get("texts", ()))))
        text = json.dumps(reply)
        watchdog.stop()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:  # the exit code 1 is that of faulthandler's watchdog
        os._exit(_NO_MEMORY if isinstance(error, MemoryError) else _FAILED)

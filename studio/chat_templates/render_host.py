"""A program that renders custom templates, one request a line, until its input ends.

Why a process of its own: a template may loop for ever or build a number of a billion digits in one
step, which nothing in the same process can end. The watchdog of faulthandler runs in C beside the
interpreter and ends this program when a row takes too long; whoever started it sees its output
end. It imports nothing of the studio and must not be imported for its functions elsewhere.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import missing

_MEMORY_BYTES = 512 << 20
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
                    _refuse(len(text) * times > _LARGEST_REPEAT, "repeats something too often")
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 0)
            _refuse(bits > _LARGEST_POWER_BITS, "takes a power that is too large")
        return super().call_binop(context, operator, left, right)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise SecurityError(what)


def _shown(value: Any) -> Any:
    """A null or a NaN is an empty cell, and renders to nothing."""
    return "" if value is None or value != value else value


_ENVIRONMENT = _Bounded(undefined=_Named, keep_trailing_newline=True, finalize=_shown)


class _Generation(Extension):
    """``{% generation %}``, with which chat templates mark answers: what it wraps is kept."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


_CHAT = _Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
"""With what chat templates have beside plain Jinja."""
_CHAT.filters["tojson"] = _tojson
_CHAT.globals.update(
    raise_exception=_raise, strftime_now=lambda form: datetime.now().strftime(form)
)


@lru_cache(maxsize=64)
def _compiled(source: str, chat: bool) -> Any:
    return (_CHAT if chat else _ENVIRONMENT).from_string(source)


def render(
    sources: list[str], row: dict[str, Any], largest: int, chat: bool = False
) -> dict[str, Any]:
    """The rendered texts, or which template failed and why."""
    texts: list[str] = []
    for index, source in enumerate(sources):
        try:
            texts.append(_text(_compiled(source, chat), row, largest))
        except UndefinedError as error:
            kind, found, name = str(error).partition("column:")
            if found and not kind:
                return {"at": index, "missing": name}
            return {"at": index, "error": str(error)}
        except MemoryError:
            return {"at": index, "error": "needs too much memory"}
        except RecursionError:
            return {"at": index, "error": "calls itself without an end"}
        except (
            TemplateError,
            ArithmeticError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
        ) as error:
            return {"at": index, "error": str(error) or type(error).__name__}
    return {"texts": texts}


def _text(template: Any, row: dict[str, Any], largest: int) -> str:
    pieces, length = [], 0
    for piece in template.generate({"row": row, **row}):
        length += len(piece)
        _refuse(length > largest, f"makes more than {largest:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _bound_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        return  # not on this system: the time limit and the bounds on operators remain


def main() -> None:
    """Answer requests ``{"sources", "row", "seconds", "largest", "chat"}`` until the input ends."""
    _bound_memory()
    quiet = open(os.devnull, "w")  # noqa: SIM115 - open until the end, for the watchdog
    for line in sys.stdin:
        request = json.loads(line)
        faulthandler.dump_traceback_later(request["seconds"], exit=True, file=quiet)
        reply = json.dumps(
            render(request["sources"], request["row"], request["largest"], request["chat"])
        )
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.write(reply + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

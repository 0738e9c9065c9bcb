"""Errors of the libraries that read a model's files, as one sentence that names the file and the likely
cause.

Why in one place: transformers, tokenizers and huggingface_hub fail in any way over a file that is
damaged, or newer than they are, and name neither. The files are looked at only after an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from studio.errors import Stopped, StudioError
from studio.model.supported import installed_version
from studio.system.memory import out_of_memory_in

Part = Literal["tokenizer", "config", "model"]
_CODES = {"tokenizer": "no_tokenizer", "config": "bad_config", "model": "model_load"}
_FILES: dict[str, tuple[str, ...]] = {
    "tokenizer": (
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "vocab.json",
        "config.json",
    ),
    "config": ("config.json",),
    "model": ("config.json", "generation_config.json"),
}
_TEXTS = ("chat_template.jinja", "merges.txt", "vocab.txt")
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
_LIBRARY = re.compile(r"requires the (\S+) library|need to (?:have|install) (\S+) installed")
_LONGEST_REASON = 240
_AGAIN = "Download or copy the model again."
_NEWER = f"{_AGAIN} If it was made with a newer version of {{}}, update that library."


@contextmanager
def reading(folder: Path, part: Part, name: str = "", field: str | None = None) -> Iterator[None]:
    """Whatever a library raises in the block over the files in ``folder`` is a ``StudioError``.

    Errors of the system (a disk, permissions, memory) and ours stay as they are. ``name`` is what the
    user calls the model.
    """
    try:
        yield
    except (StudioError, Stopped):
        raise
    except BaseException as error:
        if not of_the_files(error):
            raise
        raise unreadable(folder, part, error, name or str(folder), field) from error


def of_the_files(error: BaseException) -> bool:
    """Whether an error may come from the contents of a file; tokenizers also raises ``PanicException``,
    which is not an ``Exception``."""
    if type(error).__name__ == "PanicException":
        return True
    if out_of_memory_in(error) is not None:
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
    return isinstance(error, Exception)


def unreadable(
    folder: Path, part: Part, error: BaseException, name: str, field: str | None = None
) -> StudioError:
    """The error of a library over the files of a model, as a sentence."""
    file, sentence, hint = _cause(folder, part, error, name)
    return StudioError(
        sentence,
        title="No tokenizer" if part == "tokenizer" else "The model cannot be loaded",
        hint=hint,
        code=_CODES[part],
        field=field,
        file=str(folder / file),
    )


def _cause(folder: Path, part: Part, error: BaseException, name: str) -> tuple[str, str, str]:
    """The file, a sentence and a hint."""
    reason = reason_of(error)
    for file in _FILES[part]:
        mistake = mistake_in(folder / file)
        if mistake:
            return file, f"{file} of {name} {mistake}.", _AGAIN
    for file in _TEXTS if part == "tokenizer" else ():
        if _is_binary(folder / file):
            return file, f"{file} of {name} is damaged: it is not UTF-8 text.", _AGAIN
    package = _LIBRARY.search(str(error)) if isinstance(error, ImportError) else None
    if package is not None:
        missing = package.group(1) or package.group(2)
        return (
            "",
            f"the {part} of {name} needs the package {missing}, which is not installed.",
            f"Install {missing}, or choose a model with "
            + ("a tokenizer.json." if part == "tokenizer" else "another architecture."),
        )
    if part == "tokenizer":
        return _tokenizer_cause(folder, reason, name)
    library = f"transformers {installed_version('transformers')}"
    file = _named_in(str(error)) or "config.json"
    return (
        file,
        f"{file} of {name} does not fit {library}: {reason}.",
        _NEWER.format("transformers"),
    )


def _tokenizer_cause(folder: Path, reason: str, name: str) -> tuple[str, str, str]:
    found = [f for f in _VOCABULARIES if (folder / f).is_file()]
    if not found:
        return (
            "tokenizer.json",
            f"{name} has no tokenizer: tokenizer.json is missing.",
            "Choose a model folder that contains its tokenizer files.",
        )
    file = found[0]
    if file.endswith(".model") and find_spec("sentencepiece") is None:
        return (
            file,
            f"{file} of {name} is damaged, or needs the package sentencepiece, which is not installed.",
            f"Install sentencepiece, or choose a model with a tokenizer.json. {_AGAIN}",
        )
    if file != "tokenizer.json":
        return file, f"{file} of {name} cannot be read: {reason}.", _AGAIN
    refusal = _refusal(folder / "tokenizer.json")
    if refusal:
        return (
            "tokenizer.json",
            f"tokenizer.json of {name} cannot be read by tokenizers {installed_version('tokenizers')}: it is "
            f"damaged, or was made by a newer version ({refusal}).",
            _NEWER.format("tokenizers"),
        )
    file = "tokenizer_config.json"
    return (
        file,
        f"{file} of {name} does not fit its tokenizer, or transformers "
        f"{installed_version('transformers')}: {reason}.",
        _NEWER.format("transformers"),
    )


def _refusal(path: Path) -> str:
    """Why the library refuses a tokenizer.json; empty if it takes it."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except BaseException as error:
        if not of_the_files(error):
            raise
        return reason_of(error)
    return ""


def mistake_in(path: Path) -> str:
    """Why a file contains no JSON object, as the end of a sentence; empty if it does, or is not
    there."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return "is damaged: it is not UTF-8 text"
    except json.JSONDecodeError as error:
        if not path.stat().st_size:
            return "is empty"
        return f"is truncated or damaged: line {error.lineno} is not valid JSON ({error.msg})"
    except RecursionError:
        return "is damaged: it is nested too deeply"
    except ValueError as error:
        return f"is damaged: {reason_of(error)}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not isinstance(data, dict):
        return "is damaged: it does not contain a JSON object"
    is_right = _VALUES.get(path.name)
    wrong = next((k for k, v in data.items() if is_right is not None and not is_right(v)), None)
    return "" if wrong is None else f"is damaged: the value of “{wrong[:40]}” is of a wrong type"


def _is_token(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("content"), str)
    return value is None or isinstance(value, (str, list))


_VALUES: dict[str, Callable[[Any], bool]] = {
    "added_tokens.json": lambda value: type(value) is int,
    "special_tokens_map.json": _is_token,
}


def _is_binary(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return True
    except OSError:
        return False
    return False


def reason_of(error: BaseException) -> str:
    """What a library says, on one line, without what is not for the user."""
    lines: Sequence[str] = [" ".join(line.split()) for line in str(error).splitlines()]
    text = " ".join(line for line in lines if line).rstrip(".")
    if not text or isinstance(error, (KeyError, IndexError, AttributeError, AssertionError)):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON].rstrip() + " ..."


def _named_in(text: str) -> str:
    return next((f for f in ("generation_config.json", "config.json") if f in text), "")

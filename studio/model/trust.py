"""Which models may run Python code of their own, as trusted by the user.

Some models come with code that transformers would run with all rights of the user. Trust applies to
a source, a revision and a list of files with their hashes, and is given in a dialog or with
``main.py trust``. It is void when a file changes. The code is neither run nor imported here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.model.folder_files import is_readable, json_or_empty, shown
from studio.system.atomic import write_atomic
from studio.system.paths import config_dir
from studio.system.stored_json import parse, read_regular


@dataclass(frozen=True)
class OwnCode:
    """The code of a model: ``files`` maps names to sha256."""

    source: str
    revision: str | None
    folder: Path
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One hash for all files."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    def text(self, name: str) -> str:
        """The text of one file, for review."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")


def own_code(folder: Path, source: str = "", revision: str | None = None) -> OwnCode | None:
    """The code beside a model whose config requires it, or ``None``."""
    if not asks_for_code(folder):
        return None
    found = (p for p in sorted(folder.rglob("*.py")) if is_readable(folder, p))
    files = {p.relative_to(folder).as_posix(): _sha256(p) for p in found}
    return OwnCode(source, revision, folder, files) if files else None


def names_other_repos(folder: Path) -> bool:
    """Whether model or tokenizer requires code from another repository, which cannot be reviewed here."""
    maps = (_auto_map(folder, name) for name in ("config.json", "tokenizer_config.json"))
    return any("--" in str(v) for found in maps for v in found.values())


def trusted(code: OwnCode) -> bool:
    """Whether the user trusts exactly these files of this source and revision."""
    return any(_same(entry, code) for entry in _entries())


def may_run_code(folder: Path) -> bool:
    """Whether a model folder contains code and exactly this code is trusted, independent of the
    folder (a merged model includes the code of its base).
    """
    code = own_code(folder)
    if code is None or names_other_repos(folder):
        return False
    return any(e.get("digest") == code.digest for e in _entries())


def refuse_untrusted(code: OwnCode) -> None:
    """Raise ``StudioError`` unless the user trusts exactly this code."""
    if names_other_repos(code.folder):
        raise StudioError(
            f"{code.source} requires code from another repository, which cannot be reviewed here.",
            title="Code from another repository",
            field="model",
            code="foreign_code",
            file=str(code.folder),
            hint="Choose another model, or copy the code into the folder of the model.",
        )
    if not trusted(code):
        raise StudioError(
            f"{code.source} requires custom Python code ({', '.join(map(shown, code.files))}), which has "
            "not been trusted.",
            title="The model requires custom code",
            field="model",
            code="needs_own_code",
            hint="Review the code in the Base model node (or with “main.py trust”). It would run with "
            "all your permissions.",
            file=str(code.folder),
        )


def trust(code: OwnCode) -> None:
    """Record that the user trusts these files."""
    entry = {
        "source": code.source,
        "revision": code.revision,
        "digest": code.digest,
        "files": dict(code.files),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write([*(e for e in _entries() if not _same(e, code)), entry])


def revoke(source: str) -> int:
    """Remove all trust in a source; returns the number of removed entries."""
    entries = _entries()
    left = [e for e in entries if e.get("source") != source]
    if len(left) < len(entries):
        _write(left)
    return len(entries) - len(left)


def _same(entry: Mapping[str, Any], code: OwnCode) -> bool:
    wanted = (code.source, code.revision, code.digest)
    return (entry.get("source"), entry.get("revision"), entry.get("digest")) == wanted


def asks_for_code(folder: Path) -> bool:
    """Whether the config of a model names classes in code beside it."""
    return "AutoModelForCausalLM" in _auto_map(folder)


def _auto_map(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The classes that a config takes from code."""
    found = json_or_empty(folder, name).get("auto_map")
    return found if isinstance(found, dict) else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _store() -> Path:
    return config_dir() / "trusted_code.json"


def _entries() -> list[dict[str, Any]]:
    """The trusted files; an unreadable store means no trust."""
    try:
        data = parse(read_regular(_store()))
    except (OSError, ValueError):
        return []
    return [e for e in data if isinstance(e, dict)] if isinstance(data, list) else []


def _write(entries: list[dict[str, Any]]) -> None:
    _store().parent.mkdir(parents=True, exist_ok=True)
    write_atomic(_store(), json.dumps(entries, indent=2) + "\n")

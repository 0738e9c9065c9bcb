"""Caches tokenized rows between runs, keyed by everything that determines them.

Tokenizing millions of rows takes minutes, and a resumed run or a run with another learning rate
needs the same tokens. The key is a hash over the rows, the tokenizer, the encoder's settings and
the code. An entry is committed by a rename, and its files are verified against the hashes of its
manifest before each use. Errors of the cache do not end a run; the rows are tokenized again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from studio.chat_templates import chats
from studio.system import busy_files, paths
from studio.system.settings import load_settings
from studio.system.stored_json import parse, read_regular, with_hash, without_hash

LAYOUT = 1
"""The version of the layout; increased when older entries become unusable."""

_MANIFEST = "manifest.json"
_STAGING = ".staging-"
_STALE_S = 24 * 3600
_BLOCK = 1 << 22
_LIBRARIES = ("transformers", "tokenizers", "jinja2")
Check = Callable[[], None]


def folder() -> Path:
    """The folder of the cache."""
    return paths.cache_dir() / "tokens"


def key_of(rows: Path, encoder: Any, check: Check) -> str:
    """The cache key for the tokens that ``encoder``, a dataclass with a tokenizer, makes of the
    data sets below ``rows``.

    ``check`` is called at intervals and may raise.
    """
    digest = hashlib.sha256()
    for part in _made_of(encoder):
        digest.update(f"{len(part)}:".encode() + part)
    for path in sorted(rows.glob("*/*.arrow")):
        digest.update(f"{path.relative_to(rows).as_posix()}:{sha256_of(path, check)}".encode())
    return digest.hexdigest()


def fetch(key: str, target: Path, check: Check) -> dict[str, Any] | None:
    """Copy or link the cached tokens into ``target``; returns their counts, or ``None`` if there is
    no entry.

    A damaged entry is removed.
    """
    entry = folder() / key
    manifest = _manifest(entry)
    if manifest is None:
        busy_files.tidy(entry)
        return None
    try:
        for name, expected in manifest["files"].items():
            if sha256_of(entry / name, check) != expected:
                raise OSError(f"{name} is damaged")
        busy_files.tidy(target)
        for name in manifest["files"]:
            _place(entry / name, target / name)
        os.utime(entry / _MANIFEST)
    except (OSError, ValueError):
        busy_files.tidy(target)
        busy_files.tidy(entry)
        return None
    return dict(manifest["figures"])


def store(key: str, source: Path, counts: Mapping[str, Any], check: Check) -> None:
    """Cache the tokens in ``source``, and remove the least recently used entries beyond the limit."""
    limit = limit_bytes()
    files = sorted(p for p in source.rglob("*") if p.is_file())
    size = sum(p.stat().st_size for p in files)
    if size > limit or (folder() / key).exists():
        return
    staging = folder() / f"{_STAGING}{os.getpid()}-{key[:16]}"
    try:
        busy_files.tidy(staging)
        names = [p.relative_to(source).as_posix() for p in files]
        for name in names:
            _place(source / name, staging / name)
        hashes = {name: sha256_of(staging / name, check) for name in names}
        manifest = {"layout": LAYOUT, "bytes": size, "files": hashes, "figures": dict(counts)}
        (staging / _MANIFEST).write_text(json.dumps(with_hash(manifest)), encoding="utf-8")
        make_room(limit - size)
        busy_files.rename(staging, folder() / key)
    except OSError:
        pass  # the disk is full, the folder is read-only, or another run stored the entry first
    finally:
        busy_files.tidy(staging)


def make_room(limit: int) -> None:
    """Remove the least recently used entries until at most ``limit`` bytes remain, and the remains
    of interrupted runs.
    """
    entries = sorted(_entries(), key=lambda e: e[0], reverse=True)
    kept = 0
    for _, size, path in entries:
        kept += size
        if kept > limit:
            busy_files.tidy(path)
    for left in folder().glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                busy_files.tidy(left)


def limit_bytes() -> int:
    """The maximum size of the cache in the program settings; 0 disables it."""
    return int(load_settings().settings.token_cache_gb * 1e9)


def sha256_of(path: Path, check: Check) -> str:
    """The sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            check()
            digest.update(block)
    return digest.hexdigest()


def _entries() -> Iterator[tuple[float, int, Path]]:
    """Last use, size and folder of every entry; an incomplete entry counts as never used."""
    for path in folder().iterdir() if folder().is_dir() else ():
        if path.name.startswith("."):
            continue
        manifest = _manifest(path)
        with contextlib.suppress(OSError):
            used = (path / _MANIFEST).stat().st_mtime if manifest else 0.0
            size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            yield used, size, path


def _manifest(entry: Path) -> dict[str, Any] | None:
    try:
        data, _ = without_hash(parse(read_regular(entry / _MANIFEST)))
        sound = data["layout"] == LAYOUT and isinstance(data["files"], dict)
        return data if sound and isinstance(data["figures"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(source: Path, target: Path) -> None:
    """Provide a file at another path: a hard link where the file system supports it, otherwise a
    copy.

    Such files are never modified, and each path can be removed independently.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# ------------------------------------------------------------------ what tokens depend on


def _made_of(encoder: Any) -> Iterator[bytes]:
    """Everything that determines the tokens besides the rows: settings, tokenizer, code and libraries."""
    yield str(LAYOUT).encode()
    for field in dataclasses.fields(encoder):
        if field.name != "tokenizer":
            yield repr((field.name, getattr(encoder, field.name))).encode()
    yield from _tokenizer(encoder.tokenizer)
    yield repr([(name, version(name)) for name in _LIBRARIES]).encode()
    for folder_of_code in (Path(__file__).parent, Path(chats.__file__).parent):
        for path in sorted(folder_of_code.glob("*.py")):
            yield path.read_bytes()


def _tokenizer(tokenizer: Any) -> Iterator[bytes]:
    """The content of a tokenizer, independent of where it was loaded from."""
    plain = {k: v for k, v in tokenizer.init_kwargs.items() if isinstance(v, (bool, int, str))}
    plain.pop("name_or_path", None)
    plain = {k: v for k, v in plain.items() if not k.endswith("_file")}
    yield repr((type(tokenizer).__qualname__, sorted(plain.items()))).encode()
    yield repr((tokenizer.chat_template, sorted(tokenizer.special_tokens_map.items()))).encode()
    if tokenizer.is_fast:
        yield tokenizer.backend_tokenizer.to_str().encode()
        return
    yield repr(sorted(tokenizer.get_vocab().items())).encode()
    for name in sorted(tokenizer.vocab_files_names):
        file = Path(str(tokenizer.init_kwargs.get(name) or ""))
        if file.is_file():
            yield file.read_bytes()

"""Small files of the program's own caches may be damaged or of another kind: then they are not used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.estimate import measured
from studio.model import hub_kept, trust
from studio.model.models import _imported_gguf
from studio.preview import report_cache
from studio.runs import fingerprint
from studio.system import paths
from studio.training.model import weights
from studio.training.tokens import cache as token_cache
from tests.damaged import KINDS, TEXTS, put, unix

CONTENTS = (
    *TEXTS,
    '[["a"]]',
    '{"a": 5}',
    '{"of": {}, "ratio": 0}',
    '{"path": "a\\u0000b", "commit": 5, "files": {"a\\u0000b": 1}}',
    '{"size": {}}',
    '{"layout": 1, "files": {"../x": 5}, "figures": {}, "bytes": 1e999}',
)


def _file_hash(folder: Path) -> None:
    file = folder / "file.bin"
    file.write_bytes(b"abc")
    os.utime(file, (time.time() - 1000, time.time() - 1000))
    assert fingerprint.file_sha256(file).startswith("ba7816bf")


def _gguf(folder: Path) -> None:
    file = folder / "model.gguf"
    file.write_bytes(b"abc")
    assert _imported_gguf(file) is None


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "hashes of files": ("cache/file-hashes.json", _file_hash),
    "hashes of weights": ("cache/hashes.json", lambda f: weights._read_known().get("x")),
    "reports": (f"cache/{report_cache.FOLDER}/key.json", lambda f: report_cache.kept("key")),
    "probes": (
        "cache/measured/a.json",
        lambda f: measured._one(paths.cache_dir() / "measured/a.json"),
    ),
    "models of the Hub": ("cache/hub/a--b/main.json", lambda f: hub_kept.kept("a/b", "main")),
    "imported models": ("cache/models/model-1/source.json", _gguf),
    "trusted code": (
        "config/trusted_code.json",
        lambda f: [e for e in trust._entries() if "sha256" in e],
    ),
    "tokens": (
        "cache/tokens/key/manifest.json",
        lambda f: token_cache.fetch("key", f / "out", lambda: None),
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORA_STUDIO_CACHE", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("reader", READERS)
def test_damaged_caches_are_not_used(tmp_path: Path, home: Path, reader: str) -> None:
    name, read = READERS[reader]
    path = home / name
    for text in CONTENTS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        assert not read(tmp_path), text[:80]


@unix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_odd_files_in_place_of_caches(tmp_path: Path, home: Path, reader: str, kind: str) -> None:
    """A folder, a pipe, a link: nothing waits and nothing fails."""
    name, read = READERS[reader]
    path = home / name
    path.parent.mkdir(parents=True)
    put(path, kind)
    assert not read(tmp_path)

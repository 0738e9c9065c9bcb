"""Tokens are made once for the same rows, tokenizer, settings and code, and never taken when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from studio.system.settings import AppSettings, save_settings
from studio.training.tokens import cache as token_cache
from studio.training.tokens.encoder import Encoder, Tokenized, tokenize_dataset
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_data import messages, write
from tests.tiny import make_tiny_tokenizer

SAID = "Tokens read from the cache"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORA_STUDIO_CACHE", raising=False)
    return tmp_path / "home"


def chats(count: int, answer: str = "b") -> list[dict[str, Any]]:
    return [{"messages": messages(f"u:{i}", f"a:{answer}")} for i in range(count)]


def made(
    root: Path, rows: list[dict[str, Any]], tokenizer: Any = None, held_out: int = 1, **options: Any
) -> tuple[Tokenized, bool, list[str]]:
    """The tokens, whether they came from the cache, and the notices."""
    recorder = Recorder()
    root.mkdir(parents=True, exist_ok=True)
    tokens = tokenize_dataset(
        make_context(root, recorder),
        write(root / "data", rows, held_out),
        tokenizer or make_tiny_tokenizer(),
        folder=root / "tokens",
        **{"max_length": 99, "train_on": "answers", **options},
    )
    said = [e.get("sentence") for e in recorder.named("Notice")]
    assert any(SAID in s for s in said) is not bool(recorder.named("Progress"))
    return tokens, any(SAID in s for s in said), said


def content(tokens: Tokenized) -> Any:
    return tokens.train.to_list(), tokens.validation and tokens.validation.to_list()


def test_a_second_run_tokenises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the same rows, and tells the same about them."""
    rows = [*chats(4), {"messages": messages("u:a", "a:" + "b" * 200)}, *chats(1)]
    first, cached, said = made(tmp_path / "a", rows)
    assert not cached
    monkeypatch.setattr(Encoder, "encode", None)  # nothing can be encoded any more
    second, cached, again = made(tmp_path / "b", rows)
    assert cached
    assert content(second) == content(first)
    assert [s for s in again if SAID not in s] == said
    assert any("1 row was longer" in s for s in said)
    assert second.counts == first.counts
    assert str(tmp_path / "b") in second.train.cache_files[0]["filename"]


def test_whatever_changes_the_tokens_makes_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = chats(5)
    assert not made(tmp_path / "a", rows)[1]
    other = make_tiny_tokenizer()
    other.chat_template = other.chat_template.replace("\n", " ")
    longer = make_tiny_tokenizer()
    longer.add_tokens(["xyz"])
    for number, options in enumerate(
        (
            {"max_length": 98},
            {"train_on": "all"},
            {"tokenizer": other},
            {"tokenizer": longer},
            {"rows": chats(5, "c")},
            {"held_out": 2},
            {"end_token": "never"},
            {"long_text": "split"},
        )
    ):
        assert not made(tmp_path / str(number), **{"rows": rows, **options})[1], options
    assert made(tmp_path / "z", rows)[1]
    monkeypatch.setattr(token_cache, "_LIBRARIES", ("pydantic",))
    assert not made(tmp_path / "y", rows)[1]


def entry() -> Path:
    (found,) = token_cache.folder().iterdir()
    return found


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "manifest", "no manifest"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: str) -> None:
    first, _, _ = made(tmp_path / "a", chats(5))
    wanted = content(first)
    tokens, manifest = entry() / "train" / "data-00000-of-00001.arrow", entry() / "manifest.json"
    whole = tokens.read_bytes()
    os.unlink(tokens)  # the first run's own file shares its content
    if damage == "cut":
        tokens.write_bytes(whole[:-8])
    elif damage == "changed":
        tokens.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    elif damage == "manifest":
        tokens.write_bytes(whole)
        manifest.write_text(manifest.read_text(encoding="utf-8")[:40], encoding="utf-8")
    elif damage == "no manifest":
        tokens.write_bytes(whole)
        manifest.unlink()
    again, cached, _ = made(tmp_path / "b", chats(5))
    assert not cached
    assert content(again) == wanted
    assert made(tmp_path / "c", chats(5))[1]


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    for number in range(3):
        made(tmp_path / str(number), chats(5, f"answer {number}"))
    sizes = [sum(f.stat().st_size for f in e.rglob("*.*")) for e in token_cache.folder().iterdir()]
    for place, e in enumerate(sorted(token_cache.folder().iterdir())):
        os.utime(e / "manifest.json", (1000 + place, 1000 + place))
    assert made(tmp_path / "again", chats(5, "answer 0"))[1]  # used now
    token_cache.make_room(max(sizes) + 100)
    assert len(list(token_cache.folder().iterdir())) == 1
    assert made(tmp_path / "last", chats(5, "answer 0"))[1]


def test_the_limit_holds_and_zero_keeps_nothing(tmp_path: Path) -> None:
    save_settings(AppSettings(token_cache_gb=0.0))
    made(tmp_path / "a", chats(5))
    assert not token_cache.folder().exists()
    save_settings(AppSettings(token_cache_gb=9e-6))  # 9 kB: room for one or two
    for number in range(4):
        made(tmp_path / str(number), chats(5, f"answer {number}"))
        held = sum(f.stat().st_size for f in token_cache.folder().rglob("*.arrow"))
        assert held <= 9000
    assert made(tmp_path / "b", chats(5, "answer 3"))[1]
    save_settings(AppSettings(token_cache_gb=1e-6))
    made(tmp_path / "c", chats(5, "too much"))
    assert not made(tmp_path / "d", chats(5, "too much"))[1]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, home: Path) -> None:
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "tokens").write_text("a file where the folder should be", encoding="utf-8")
    for name in ("a", "b"):
        tokens, cached, _ = made(tmp_path / name, chats(5))
        assert not cached
        assert len(tokens.train) == 4


def test_what_a_killed_run_left_is_removed_in_time(tmp_path: Path) -> None:
    left = token_cache.folder() / ".staging-1-abc"
    left.mkdir(parents=True)
    made(tmp_path / "a", chats(5))
    assert left.exists()
    os.utime(left, (1000, 1000))
    token_cache.make_room(10**9)
    assert not left.exists()

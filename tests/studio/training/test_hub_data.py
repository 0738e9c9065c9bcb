"""Data sets from the hub: against a stand-in on the loopback, then without any network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.splits import NoSuchPart, files_of
from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check
from tests.studio.training.hub_server import COMMIT, serve_hub
from tests.studio.training.steps import Recorder
from tests.studio.training.test_rows import prepared, sentences

CARD = {
    "configs": [
        {
            "config_name": "short",
            "default": True,
            "data_files": [
                {"split": "train", "path": "short/*.jsonl"},
                {"split": "test", "path": ["held/test.jsonl"]},
            ],
        },
        {"config_name": "long", "data_dir": "long"},
    ]
}


def write(path: Path, count: int, word: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps({"text": f"{word} {i}"}) + "\n" for i in range(count)), encoding="utf-8"
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A data set on the stand-in hub, which the client is configured to use."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    served = tmp_path / "served"
    write(served / "short" / "a.jsonl", 6, "a")
    write(served / "short" / "b.jsonl", 4, "b")
    write(served / "held" / "test.jsonl", 3, "t")
    write(served / "long" / "train-0.jsonl", 5, "l")
    (served / "loading.py").write_text(
        "raise SystemExit('code of the data set was run')", encoding="utf-8"
    )

    def start(pace_s: float = 0.0) -> Any:
        return serve_hub(served, "someone/rows", pace_s, CARD)

    return start


def test_a_split_is_fetched_once_and_pinned(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "source": "hub:someone/rows",
        "split_mode": "file",
        "validation_source": "hub:someone/rows:test",
    }
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    assert not list(check(DatasetSettings(**options), context))
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        recorder = Recorder()
        value = prepared(tmp_path, recorder, **options)
    assert (value.train_rows, value.validation_rows) == (10, 3)
    assert any(COMMIT[:12] in s for s in sentences(recorder))
    assert not list((tmp_path / "hub-cache").rglob("*.py"))
    assert not list((tmp_path / "hub-cache").rglob("long"))
    again = prepared(tmp_path, step="two", **options)  # from here on nobody answers any more
    assert again.sha256 == value.sha256
    recorder = Recorder()
    prepared(tmp_path, recorder, step="three", hub_look_for_updates=True, **options)
    assert any("Hub cannot be reached" in s for s in sentences(recorder))
    assert not list(check(DatasetSettings(**options), context))
    settings = DatasetSettings(**options)
    with open_window(settings, tmp_path, load_registry().variants["format"]) as window:
        assert window.count() == 13
        assert window.rows(11, 11)[0].data == {"text": "t 0"}


@pytest.mark.parametrize(
    ("settings", "code", "field", "words"),
    [
        (
            {"source": "hub:someone/else"},
            "not_found",
            "source",
            "the dataset someone/else does not exist",
        ),
        ({"source": "hub:someone/rows", "hub_revision": "v9"}, "no_revision", "hub_revision", "v9"),
        (
            {"source": "hub:someone/rows", "hub_split": "dev"},
            "no_such_part",
            "hub_split",
            "has no split “dev”; it has: train, test",
        ),
        (
            {"source": "hub:someone/rows", "hub_config": "odd"},
            "no_such_part",
            "hub_split",
            "has no configuration “odd”; it has: short, long",
        ),
        ({"source": "hub:not a name"}, "bad_hub_name", "source", "is not a valid name"),
    ],
)
def test_what_is_not_there_is_told(
    settings: dict[str, Any],
    code: str,
    field: str,
    words: str,
    tmp_path: Path,
    hub: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(StudioError) as caught:
            prepared(tmp_path, **settings)
    error = caught.value
    assert (error.code, error.field) == (code, field)
    assert words in error.sentence
    assert error.hint


def test_validation_files_of_the_hub_are_used_and_test_files_are_not_fetched(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.training.data.by_number import WindowRows

    CARD["configs"][0]["data_files"].append({"split": "validation", "path": "checked/*.jsonl"})
    write(tmp_path / "served" / "checked" / "v.jsonl", 4, "v")
    try:
        with hub() as endpoint:
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            recorder = Recorder()
            value = prepared(tmp_path, recorder, source="hub:someone/rows")
            share = prepared(tmp_path, step="two", source="hub:someone/rows", split_mode="share")
    finally:
        CARD["configs"][0]["data_files"].pop()
    assert (value.train_rows, value.validation_rows) == (10, 4)
    assert (share.train_rows, share.validation_rows) == (9, 1)
    told = sentences(recorder)
    assert any("v.jsonl for validation (4 rows)" in s for s in told)
    assert any(s.startswith("1 file is excluded") and "test split" in s for s in told)
    assert not list((tmp_path / "hub-cache").rglob("test.jsonl"))
    settings = DatasetSettings(source="hub:someone/rows")  # from here on nobody answers any more
    with open_window(settings, tmp_path, load_registry().variants["format"]) as window:
        shown = WindowRows("Dataset", window)
        splits = [item.split for item in shown.rows(1, shown.count)]
    assert splits == ["train"] * 10 + ["validation"] * 4
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    assert [p.code for p in check(settings, context)] == ["split_by_name", "test_left_out"]


def test_what_an_earlier_version_downloaded_is_used_without_a_network(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        prepared(tmp_path, source="hub:someone/rows:train")
    recorder = Recorder()
    value = prepared(tmp_path, recorder, step="two", source="hub:someone/rows")
    assert value.train_rows + value.validation_rows == 10
    assert any("Hub cannot be reached" in s for s in sentences(recorder))


def test_no_network_and_nothing_kept(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StudioError, match="the Hub cannot be reached") as caught:
        prepared(tmp_path, source="hub:someone/rows")
    assert caught.value.code == "no_network"


@pytest.mark.parametrize(
    ("names", "config", "split", "wanted"),
    [
        (["rows.jsonl", "README.md"], "", "train", ["rows.jsonl"]),
        (["train.csv", "test.csv"], "", "test", ["test.csv"]),
        (
            ["data/train-0.parquet", "data/train-1.parquet", "data/dev-0.parquet"],
            "",
            "validation",
            ["data/dev-0.parquet"],
        ),
        (["en/train/a.parquet", "de/train/a.parquet"], "de", "train", ["de/train/a.parquet"]),
        (
            ["a.parquet", "b.parquet", "extra.json", "dataset_infos.json"],
            "",
            "train",
            ["a.parquet", "b.parquet"],
        ),
        (["book.txt", "LICENSE"], "", "train", ["book.txt"]),
    ],
)
def test_files_are_found_by_their_names(
    names: list[str], config: str, split: str, wanted: list[str]
) -> None:
    assert files_of(names, [], config, split) == wanted


def test_a_star_of_the_card_stays_in_its_folder() -> None:
    """Two stars go through folders."""
    names = ["a/one.jsonl", "a/b/two.jsonl"]
    for pattern, wanted in (("a/*.jsonl", ["a/one.jsonl"]), ("a/**/*.jsonl", sorted(names))):
        card = [{"config_name": "default", "data_files": pattern}]
        assert files_of(names, card, "", "train") == wanted


@pytest.mark.parametrize(
    ("names", "configs", "words"),
    [
        (["loading.py"], [], "without running its code"),
        (["a.jsonl"], [{"config_name": "x"}, {"config_name": "y"}], "several configurations"),
        (["a.zip"], [{"data_files": "*.zip"}], "unsupported file type"),
    ],
)
def test_data_sets_that_cannot_be_read(
    names: list[str], configs: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(NoSuchPart, match=words):
        files_of(names, configs, "", "train")

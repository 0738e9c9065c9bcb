"""``main.py tokens`` as a user calls it: the same rows as in a training, clean streams, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.node_settings.dataset import DatasetSettings
from studio.training.data.rows import prepare_rows
from studio.training.tokens.encoder import load_tokenizer, tokenize_dataset
from tests.e2e.studio_cli import ROOT, studio, write_project
from tests.studio.training.hub_server import serve_hub
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.tiny_gguf import write_tiny_gguf
from tests.tiny import make_tiny_model

LENGTH = 60
WITHOUT_TORCH = (
    "import sys; from studio.cli import main; code = main(sys.argv[1:])\n"
    "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
    "sys.exit(code)"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and rows that are short, cut, cut before their answer, or hold two answers."""
    folder = tmp_path_factory.mktemp("tokens")
    make_tiny_model(folder / "model")
    rows = [_chat(f"say {'very ' * (n % 9)}{n}", f"{n} ü") for n in range(24)]
    rows.append([*_chat("a", "b"), *_chat("c", "d")])
    lines = [json.dumps({"messages": r}) for r in rows]
    lines.insert(5, "")  # so that rows and lines are counted differently
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_project(
        folder / "talk.studio", "model", folder / "rows.jsonl", train={"max_length": LENGTH}
    )
    return folder


def _chat(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def as_trained(place: Path, work: Path) -> dict[str, list[tuple[list[int], list[int]]]]:
    """What the Train step of the same project makes of the rows, by split."""
    project = json.loads((place / "talk.studio").read_text(encoding="utf-8"))
    settings = {n["id"]: n["settings"] for n in project["nodes"]}
    work.mkdir()
    context = make_context(work, Recorder())
    wanted = DatasetSettings.model_validate(settings["data"])
    tokens = tokenize_dataset(
        context,
        prepare_rows(context, wanted),
        load_tokenizer(place / "model"),
        max_length=LENGTH,
        train_on="answers",
        folder=work / "tokens",
    )
    splits = {"train": tokens.train, "validation": tokens.validation or ()}
    return {name: [(r["input_ids"], r["labels"]) for r in rows] for name, rows in splits.items()}


def test_json_is_what_a_training_gets_and_the_terminal_needs_no_torch(
    place: Path, tmp_path: Path
) -> None:
    arguments = ["tokens", str(place / "talk.studio"), "--json", "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["row"] for r in rows] == list(range(1, 26))
    assert [r["line"] for r in rows] == [*range(1, 6), *range(7, 27)]
    expected = as_trained(place, tmp_path / "same")
    for split, trained in expected.items():
        shown = [r for r in rows if r["split"] == split and not r["left_out"]]
        assert [(r["input_ids"], r["labels"]) for r in shown] == trained
    assert len(expected["validation"]) > 0
    assert any(r["cut"] and not r["left_out"] for r in rows)
    assert any(r["left_out"] for r in rows)
    _check_with_plain_transformers(rows[0], place)
    assert not (tmp_path / "runs").exists()


def _check_with_plain_transformers(row: dict[str, Any], place: Path) -> None:
    from transformers import AutoTokenizer

    assert Path(row["tokenizer"]).is_absolute()
    assert row["source"] == str((place / "rows.jsonl").resolve())
    tokenizer = AutoTokenizer.from_pretrained(row["tokenizer"])
    whole = tokenizer.apply_chat_template(_chat("say 0", "0 ü"), return_dict=False)
    assert row["input_ids"] == whole
    assert len(row["tokens"]) == len(row["labels"]) == len(whole)
    answer = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert tokenizer.decode(answer) == "0 ü<|im_end|>\n"


def test_one_row_in_words_whatever_is_wrong_elsewhere(place: Path) -> None:
    changes = ["train.max_length=512", "lora.r=0", "export.format=nonsense"]
    done = studio(
        "tokens", place / "talk.studio", "--row", 25, *(w for c in changes for w in ("--set", c))
    )
    assert (done.code, done.err) == (0, "")
    assert "Row 25 of 25 · rows.jsonl, line 26 · " in done.out
    assert "⟦b<|im_end|>↵⟧\n<|im_start|>user↵\nc<|im_end|>↵\n" in done.out
    assert done.out.startswith("⟦trained⟧  context  ⟪truncated beyond 512 tokens⟫\n")


def test_as_many_rows_as_fit_and_what_there_is_besides(place: Path) -> None:
    done = studio("tokens", place / "talk.studio", LINES="20", COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    assert "Row 1 of 25" in done.out
    assert len(done.out.splitlines()) <= 20
    assert done.out.splitlines()[-1].startswith("25 rows in total; ")


def test_a_row_that_is_not_there(place: Path) -> None:
    done = studio("tokens", place / "talk.studio", "--row", 26, "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "Row 26 does not exist: the data has 25 rows.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--row", "0"], "--row 0: must be at least 1."),
        (["--limit", "-1"], "--limit -1: must be at least 1."),
        (["--node", "data"], "There is no Train node “data”. Available: train."),
        (["--set", "train.max_length=1"], "train.max_length: Train: "),
        (["--set", "data.source=gone.jsonl"], "gone.jsonl"),
        (["--set", "base.model=./gone"], "base.model: Base model: "),
    ],
)
def test_bad_arguments_and_problems(place: Path, arguments: list[str], words: str) -> None:
    done = studio("tokens", place / "talk.studio", "--json", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_a_row_that_cannot_be_read_is_a_failure(place: Path, tmp_path: Path) -> None:
    text = (place / "rows.jsonl").read_text(encoding="utf-8") * 8
    (tmp_path / "bad.jsonl").write_text(text + "{oops\n", encoding="utf-8")
    source = f"data.source={tmp_path / 'bad.jsonl'}"
    done = studio("tokens", place / "talk.studio", "--row", 201, "--json", "--set", source)
    assert (done.code, done.out) == (1, "")
    assert "bad.jsonl:209: Dataset: line 209 of bad.jsonl" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_model_without_a_tokenizer_is_a_failure(place: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "bare")
    for file in (tmp_path / "bare").glob("tokenizer*"):
        file.unlink()
    done = studio(
        "tokens", place / "talk.studio", "--row", 1, "--set", f"base.model={tmp_path / 'bare'}"
    )
    assert (done.code, done.out) == (1, "")
    assert "has no tokenizer" in done.err
    assert "Traceback" not in done.err


def test_several_trainings_and_none(place: Path) -> None:
    project = json.loads((place / "talk.studio").read_text(encoding="utf-8"))
    again = {"id": "second", "type": "train", "position": [0, 0], "settings": {"train_on": "all"}}
    wires = [
        {"from": "data.dataset", "to": "second.dataset"},
        {"from": "lora.model", "to": "second.model"},
    ]
    two = place / "two.studio"
    nodes = [*project["nodes"], again]
    two.write_text(
        json.dumps({**project, "nodes": nodes, "wires": project["wires"] + wires}), encoding="utf-8"
    )
    done = studio("tokens", two)
    assert (done.code, done.out) == (2, "")
    assert "The project has 2 Train nodes: train, second. Select one with --node." in done.err
    done = studio("tokens", two, "--node", "second", "--row", 1, "--json")
    (row,) = done.events
    assert row["labels"] == row["input_ids"]
    none = place / "none.studio"
    none.write_text(
        json.dumps({**project, "nodes": project["nodes"][:2], "wires": []}), encoding="utf-8"
    )
    done = studio("tokens", none)
    assert done.code == 2
    assert "The project has no Train node" in done.err


def test_a_model_is_imported_or_downloaded_as_in_a_run(place: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    own = {
        "LORA_STUDIO_CACHE": str(tmp_path / "cache"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = studio(
        "tokens",
        place / "talk.studio",
        "--row",
        1,
        "--json",
        "--set",
        f"base.model={tmp_path / 'tiny.gguf'}",
        **own,
    )
    assert done.code == 0
    assert "Importing the GGUF file ...\n" in done.err
    assert (tmp_path / "cache") in Path(done.events[0]["tokenizer"]).parents
    with serve_hub(place / "model", "tiny/model") as url:
        done = studio(
            "tokens",
            place / "talk.studio",
            "--row",
            1,
            "--json",
            "--set",
            "base.model=tiny/model",
            HF_ENDPOINT=url,
            **own,
        )
    assert done.code == 0
    assert "Downloading tiny/model ...\n" in done.err
    assert (tmp_path / "hub") in Path(done.events[0]["tokenizer"]).parents


def test_rows_of_a_mix_name_the_file_they_come_from(place: Path, tmp_path: Path) -> None:
    project = json.loads((place / "talk.studio").read_text(encoding="utf-8"))
    (place / "prose.txt").write_text("one text\n\nanother text\n", encoding="utf-8")
    more = {"source": str(place / "prose.txt"), "split_mode": "none", "documents": "line"}
    project["nodes"] += [
        {"id": "more", "type": "dataset", "position": [0, 300], "settings": more},
        {"id": "mix", "type": "mix", "position": [200, 300], "settings": {}},
    ]
    data = next(w for w in project["wires"] if w["to"] == "train.dataset")
    data["from"] = "mix.dataset"
    project["wires"] += [
        {"from": "data.dataset", "to": "mix.a"},
        {"from": "more.dataset", "to": "mix.b"},
    ]
    (place / "mix.studio").write_text(json.dumps(project), encoding="utf-8")
    done = studio("tokens", place / "mix.studio", "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    places = [(Path(r["source"]).name, r["line"], r["split"]) for r in rows]
    assert len(rows) == 27
    assert [p for p in places if p[0] == "prose.txt"] == [
        ("prose.txt", 1, "train"),
        ("prose.txt", 3, "train"),
    ]
    assert sum(split == "validation" for _, _, split in places) == 5

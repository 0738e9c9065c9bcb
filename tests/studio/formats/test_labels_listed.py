"""Labels that are text are listed in the question of a classification, alike in table, report and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data import used_rows
from studio.data.window import open_window
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.training.data.arrow import open_rows
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_data import sentences_of
from tests.studio.training.test_report import report_on

FORMATS = load_registry().variants["format"]
HEAD = "Which label fits this text? Answer with the label only.\n"


def write(folder: Path, labels: list[Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    rows = ({"text": f"Text {n}.", "label": label} for n, label in enumerate(labels))
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def in_table(path: Path, **settings: Any) -> list[str]:
    """The questions in the table of rows."""
    given = DatasetSettings(source=str(path), **settings)
    with open_window(given, path.parent, FORMATS) as window:
        rows = [r for r in window.rows(1, window.count()) if r.error is None]
        return [window.chosen.convert(r, r.path)["messages"][0]["content"] for r in rows]


def in_run(path: Path, folder: Path, **settings: Any) -> tuple[list[str], list[str]]:
    """The questions of a run, in the order of the file, and what it says."""
    recorder = Recorder()
    given = DatasetSettings(source=str(path), **{"split_mode": "none", **settings})
    value = prepare_rows(make_context(folder, recorder), given)
    rows = list(open_rows(Path(value.path) / "train"))
    return [r["messages"][0]["content"] for r in rows], sentences_of(recorder)


@pytest.mark.parametrize(
    ("labels", "listed"),
    [
        (["pos", "neg"] * 8, "neg, pos"),
        (["neg"] * 700 + ["pos"], "neg, pos"),  # sorted by label: the last row counts, too
        (["b", "B", "a", "c"] * 4, "a, B, b, c"),
        ([" spaced ", "plain", "plain", "plain"] * 4, "plain, spaced"),
        ([True, False] * 8, "false, true"),
        (["ja", "nein, danke"] * 8, "ja, nein, danke"),
        ([f"class {n:03}" for n in range(100)] * 2, ", ".join(f"class {n:03}" for n in range(100))),
    ],
)
def test_the_labels_of_all_rows_are_listed(labels: list[Any], listed: str, tmp_path: Path) -> None:
    path = write(tmp_path, labels)
    more = {"format": "classification"}
    shown = in_table(path, split_mode="none", **more)
    assert shown[0] == f"{HEAD}Labels: {listed}\n\nText 0."
    assert all(q.startswith(f"{HEAD}Labels: {listed}\n\nText ") for q in shown)
    trained, said = in_run(path, tmp_path / "run", **more)
    assert trained == shown
    assert any(s.startswith("The questions list the ") for s in said)
    again, _ = in_run(path, tmp_path / "again", **more)
    assert again == trained


def test_order_of_rows_and_appended_rows_change_no_question(tmp_path: Path) -> None:
    first = in_table(write(tmp_path, ["pos", "neg", "mid"] * 5))[0]
    other = in_table(write(tmp_path, ["mid", *["neg", "pos", "mid"] * 9]))[0]
    assert first == other


def test_the_report_counts_the_tokens_of_the_listed_labels(tmp_path: Path) -> None:
    path = write(tmp_path, ["pos", "neg"] * 8)
    report = report_on(path)
    assert any(n.startswith("The questions list the 2 labels") for n in report.notes)
    plain = report_on(path, format="classification", format_settings={"template": "{text}"})
    assert not any("labels" in n for n in plain.notes)
    given = {"label_names": ["neg", "pos"]}
    named = report_on(path, format="classification", format_settings=given)
    assert named.tokens == report.tokens > plain.tokens


@pytest.mark.parametrize(
    "labels",
    [[f"class {n:03}" for n in range(101)] * 3, ["x" * 59 + str(n) for n in range(9)] * 99],
)
def test_too_many_labels_are_not_listed_and_that_is_stated(
    labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.data.formats import classification

    if len(set(labels)) < 100:
        monkeypatch.setattr(classification, "_LONGEST_LIST", 500)
    path = write(tmp_path, labels)
    assert in_table(path, format="classification")[0] == f"{HEAD}\nText 0."
    trained, said = in_run(path, tmp_path / "run", format="classification")
    assert trained[0] == f"{HEAD}\nText 0."
    assert (
        "The questions list no labels: the data has too many. Write those to list into “Label names”."
        in said
    )


def test_label_names_in_the_settings_come_first(tmp_path: Path) -> None:
    path = write(tmp_path, ["pos", "neg"] * 8)
    own = {"label_names": ["neg", "pos", "mixed"]}
    shown = in_table(path, format="classification", format_settings=own)
    assert shown[0] == f"{HEAD}Labels: neg, pos, mixed\n\nText 0."


def test_labels_of_the_validation_file_count_and_rows_beyond_the_limit_do_not(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, ["pos", "neg"] * 8 + ["late"])
    held_out = write(tmp_path, ["rare"] * 4, "held_out.jsonl")
    shown = in_table(path, split_mode="file", validation_source=str(held_out), limit=16)
    assert shown[0] == f"{HEAD}Labels: neg, pos, rare\n\nText 0."
    assert len({q.split("\n\n")[0] for q in shown}) == 1


def test_bad_rows_do_not_hide_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path, ["pos", "neg"] * 8 + [None, ["list"], ""])
    path.write_text(
        path.read_text(encoding="utf-8") + "{broken\n" + json.dumps({"text": "T", "label": "last"}),
        encoding="utf-8",
    )
    shown, _ = in_run(path, tmp_path / "run", format="classification", on_bad_rows="skip")
    assert shown[0] == f"{HEAD}Labels: last, neg, pos\n\nText 0."


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    in_table(write(tmp_path, ["pos", "neg"] * 8))
    assert "new" in in_table(write(tmp_path, ["pos", "neg", "new"] * 8))[0]
    used_rows._completed.clear()

"""What the data host opens is what a training takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.runs.token_request import token_request
from studio.training.data_host import session as session_module
from studio.training.data_host.session import Session
from studio.training.report import row_facts
from tests.e2e.studio_cli import write_project
from tests.tiny import make_tiny_gpt2, make_tiny_model


def asked(session: Session, what: str, **more: Any) -> dict[str, Any]:
    """The result of a request."""
    *_, (kind, result) = (said for said in getattr(session, what)(more) if said is not None)
    assert kind == "result"
    return dict(result)


def test_rows_are_cut_where_the_model_ends_when_that_is_before_the_max_length(
    tmp_path: Path,
) -> None:
    """A model with 40 learned positions: tokens, report and its fixes go by that, as a training does."""
    model = make_tiny_gpt2(tmp_path / "model", positions=40)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": "a" * n}) + "\n" for n in (30, 60)), encoding="utf-8"
    )
    project = write_project(
        tmp_path / "p.studio",
        model,
        rows,
        train={"max_length": 128, "long_text": "cut"},
        data={"validation_fraction": 0.0},
    )
    request, problems = token_request(load_project(project), load_registry(), tmp_path)
    assert request is not None, problems
    (tmp_path / "work").mkdir()
    session = Session(tmp_path / "work", lambda: False, lambda kind, data: None)
    opened = asked(session, "open", request=request.to_json(), runs=str(tmp_path / "runs"))
    assert opened["max_length"] == 40
    shown = asked(session, "rows")["rows"]
    assert [r["tokens"]["state"].count("cut") for r in shown] == [0, 61 - 40]
    report = asked(session, "report")["report"]
    assert (report["max_length"], report["histogram"]["cut"]) == (40, 1)
    assert report["key"] == request.key
    fixes = [f["fix"]["id"] for f in report["findings"] if f["fix"]]
    assert fixes == ["split_text"]
    session._opened().rows.close()


def test_rows_that_are_dropped_as_duplicates_are_in_no_batch(tmp_path: Path) -> None:
    """Six rows, two of them twice: four are trained on, two at a time."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": c * 9}) + "\n" for c in "abcdab"), encoding="utf-8")
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_gpt2(tmp_path / "model", positions=40),
        rows,
        train={"batch_size": 2},
        data={"validation_fraction": 0.0, "deduplicate": True},
    )
    session = session_of(project, tmp_path)
    found = [asked(session, "rows", batch=n) for n in (1, 2, 3)]
    assert [b["batches"] for b in found] == [2, 2, 2]
    assert sorted(r["number"] for b in found for r in b["rows"]) == [1, 2, 3, 4]
    session._opened().rows.close()


def session_of(project: Path, folder: Path) -> Session:
    """A session that has opened the data of a project."""
    request, problems = token_request(load_project(project), load_registry(), folder)
    assert request is not None, problems
    (folder / "work").mkdir()
    session = Session(folder / "work", lambda: False, lambda kind, data: None)
    asked(session, "open", request=request.to_json(), runs=str(folder / "runs"))
    return session


@pytest.mark.parametrize("batching", ["padded", "padding_free"])
def test_a_batch_says_how_much_of_the_epoch_is_padding(tmp_path: Path, batching: str) -> None:
    """As the training makes its batches; without padding it has none."""
    rows = tmp_path / "rows.jsonl"
    lengths = (3, 30, 9, 20, 5)
    rows.write_text(
        "".join(json.dumps({"text": "a" * n}) + "\n" for n in lengths), encoding="utf-8"
    )
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_gpt2(tmp_path / "model", positions=40),
        rows,
        train={"batch_size": 2, "batching": batching},
        data={"validation_fraction": 0.0},
    )
    session = session_of(project, tmp_path)
    found = [asked(session, "rows", batch=n) for n in (1, 2, 3)]
    states = [s for b in found for r in b["rows"] for s in r["tokens"]["state"]]
    assert len(states) == sum(n + 1 for n in lengths) + states.count("padding")
    assert (states.count("padding") > 0) == (batching == "padded")
    share = (
        None if batching == "padding_free" else pytest.approx(states.count("padding") / len(states))
    )
    assert [b["padding"] for b in found] == [share] * 3
    session._opened().rows.close()


def test_a_book_of_over_a_million_characters_is_shown_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pieces and the last one; a batch shows its own pieces, whichever they are."""
    monkeypatch.setattr(row_facts, "GIANT", 1000)  # a real one takes seconds
    (tmp_path / "books").mkdir()
    text = "".join(chr(97 + i * i % 26) for i in range(5000))
    (tmp_path / "books" / "long.txt").write_text(text, encoding="utf-8")
    (tmp_path / "books" / "short.md").write_text("short", encoding="utf-8")
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_model(tmp_path / "model"),
        tmp_path / "books",
        train={"batch_size": 10, "max_length": 101, "batching": "padding_free"},
        data={"validation_fraction": 0.0},
    )
    opened = session_of(project, tmp_path)
    shown = asked(opened, "rows")["rows"]
    assert not any(r["error"] for r in shown)
    assert [(r["number"], r["part"]) for r in shown] == [
        *((1, n) for n in range(1, 13)),
        (1, 50),
        (2, 1),
    ]
    assert {r["parts"] for r in shown} == {50, 1}
    assert shown[0]["whole_tokens"] == 5001
    seen: dict[int, str] = {}
    for number in range(1, 7):
        found = asked(opened, "rows", batch=number)
        assert (found["batches"], len(found["rows"])) == (6, 1 if number == 6 else 10)
        seen |= {r["part"]: r["text"] for r in found["rows"] if r["number"] == 1}
    assert sorted(seen) == list(range(1, 51))
    assert seen[1] + "".join(seen[n][1:] for n in range(2, 51)) == text

    monkeypatch.setattr(session_module, "MOST_CHARACTERS", 2000)
    (first, second) = asked(opened, "rows")["rows"]
    assert (first["number"], second["error"]) == (1, "")
    assert "too long to be shown" in first["error"]
    assert "split into rows" in first["hint"]
    found = asked(opened, "rows", batch=1)["rows"]
    assert len(found) == 10
    assert any("too long" in r["error"] for r in found)
    opened._opened().rows.close()

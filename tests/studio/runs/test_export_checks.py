"""The parity check of an export in words: verdicts from numbers, and what run, node, terminal and card say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.cli import main
from studio.cli.report import check_table
from studio.events import Event, event, from_line
from studio.export_folder.parity import Check, Verdict, gain_kept, judged, sentence_of, worst
from studio.runs.folder import RunFolder
from studio.runs.outcome import outcome_of
from studio.runs.state import RunState
from studio.runs.status import NODE_LOOKS, look_of, view_of
from studio.runs.summary import TAIL_BYTES, summarize

CHECK = Check(
    "talk-Q8_0.gguf", "Q8_0", "llama.cpp", "green", kl_mean=0.001, kl_p99=0.01, effect=2.0
)


@pytest.mark.parametrize(
    ("title", "changes", "verdict"),
    [
        ("F16", {}, "green"),
        ("F16", {"kl_mean": 0.02}, "amber"),
        ("F16", {"kl_mean": 0.2}, "red"),
        ("Q8_0", {"kl_mean": 0.02}, "green"),
        ("Q8_0", {"kl_mean": 0.3}, "red"),
        ("Q4_0", {"kl_mean": 0.3}, "amber"),
        ("Q4_0", {"kl_mean": 2.5}, "red"),
        ("Q4_0", {"kl_mean": 2.5, "gain_kept": 0.95}, "amber"),
        ("Q4_0", {"kl_mean": 0.1, "gain_kept": 0.5}, "red"),
        ("Q8_0", {"gain_kept": 0.8}, "amber"),
        ("F16", {"kl_mean": 0.004, "effect": 0.005}, "red"),
        ("F16", {"kl_mean": 5e-5, "effect": 1e-5}, "green"),
        ("F16", {"template": False}, "red"),
        ("F16", {"stop": False}, "red"),
        ("F16", {"kl_mean": float("nan")}, "red"),
        ("F16", {"kl_mean": None}, "not_proven"),
        ("F16", {"kl_p99": 3.0}, "amber"),
    ],
)
def test_verdicts(title: str, changes: dict[str, Any], verdict: str) -> None:
    assert judged(replace(CHECK, title=title, **changes)) == verdict


def test_the_gain_is_a_share_of_an_improvement() -> None:
    assert gain_kept(3.0, 1.0, 1.1) == pytest.approx(0.95)
    assert gain_kept(1.0, 1.0, 1.1) is None
    assert gain_kept(None, 1.0, 1.1) is None
    assert worst(["green", "not_proven", "amber"]) == "amber"
    assert worst([]) == ""


def test_divergence_of_probabilities_that_are_partly_known() -> None:
    """Tokens that are not listed count with the rest; likely ones that are missing count in full."""
    from studio.training.export.parity.compare import difference, divergences, loss

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 5000)) * 4
    p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    same = difference(p, p)
    assert (same.kl_mean, same.top1_agreement) == (0, 1)
    known = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(known, np.argsort(-p, axis=1)[:, :1000], True, axis=1)
    rest = 1 - np.where(known, np.exp(p), 0).sum(axis=1, keepdims=True)
    q = np.where(known, p, np.log(rest / 4000))
    assert divergences(p, q, known).max() < 1e-3
    flat = np.full_like(p, -np.log(5000))
    none = np.zeros_like(known)
    exact = divergences(p, flat).mean()
    assert divergences(p, flat, none).mean() > 0.5 * exact > 1
    assert loss(flat, np.zeros(5, dtype=int)) == pytest.approx(np.log(5000))


def events_of(*checks: Check) -> list[Event]:
    """The events of a completed run with one export."""
    nodes = [{"id": "gguf", "type": "export", "title": "Export", "stages": ["export"]}]
    return [
        event("RunStarted", run="r", name="Talk", resumed=False, nodes=nodes),
        event("StepStarted", "gguf", title="Export", index=1, count=1),
        *(event("ExportChecked", "gguf", **c.to_json()) for c in checks),
        event("ArtifactSaved", "gguf", kind="gguf", path="/x", cached=False, exported=True),
        event("StepFinished", "gguf", seconds=3.0, cached=False, outputs={}),
        event("RunFinished", status="completed", seconds=4.0),
    ]


def ended(*checks: Check) -> RunState:
    state = RunState()
    for found in events_of(*checks):
        read = from_line(found.to_line().encode())
        assert isinstance(read, Event)
        state.apply(read)
    return state


def test_a_red_check_does_not_look_like_success() -> None:
    red = replace(
        CHECK,
        verdict="red",
        kl_mean=2.0,
        cause="The adapter was applied twice.",
        hint="Merge once.",
    )
    state = ended(CHECK, replace(red, readable="b", title="Q4_0"))
    found = outcome_of(state)
    assert "but an export failed the check" in found.headline
    assert found.next == "Do not use the export of Export as it is. Merge once."
    view = view_of(state, "completed", name="Talk")
    assert view.words() == "✕ Completed, export failed"
    node = view.nodes["gguf"]
    assert (node.state, node.place) == ("unfit", "The adapter was applied twice.")
    assert NODE_LOOKS[node.state].role == "danger"
    table = check_table(state.checks)
    assert "Q4_0 in llama.cpp" in table
    assert "✕ failed" in table
    assert "The adapter was applied twice. Merge once." in table


@pytest.mark.parametrize(
    ("verdict", "words"), [("red", "Completed, export failed"), ("amber", "Completed")]
)
def test_lists_of_runs_name_a_failed_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: Verdict, words: str
) -> None:
    found = [CHECK, replace(CHECK, readable="b", verdict=verdict, kl_mean=2.0)]
    place = tmp_path / "runs" / "20261130-080000-talk"
    place.mkdir(parents=True)
    (place / "plan.json").write_text("{}", encoding="utf-8")
    lines = [e.to_line() for e in events_of(*found)]
    (place / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    summary = summarize(RunFolder(place))
    assert look_of(summary.shown).word == words
    assert main(["runs", "--runs", str(tmp_path / "runs")]) == 0
    assert f" {words} " in capsys.readouterr().out
    assert main(["runs", "--runs", str(tmp_path / "runs"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["status"], row["verdict"]) == ("completed", verdict)


def test_the_list_keeps_the_loss_however_much_the_exports_report(tmp_path: Path) -> None:
    place = tmp_path / "20261130-080000-talk"
    place.mkdir()
    started, *others = events_of(CHECK)
    metric = event("Metric", "train", step=60, steps=60, loss=0.25)
    progress = [event("Progress", "gguf", done=i, total=2000, unit="rows") for i in range(2000)]
    lines = [e.to_line() for e in (started, metric, *progress, *others)]
    assert sum(map(len, lines)) > TAIL_BYTES
    (place / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    assert summarize(RunFolder(place)).loss == 0.25


def test_what_is_not_proven_is_never_shown_as_done() -> None:
    state = ended(replace(CHECK, verdict="not_proven", kl_mean=None, kl_p99=None, cause="Off."))
    view = view_of(state, "completed", name="Talk")
    assert view.nodes["gguf"].state == "not_proven"
    assert view.words() == "✓ Completed"
    assert "? not proven. Off." in " ".join(outcome_of(state).learned)


def test_a_green_check_is_done() -> None:
    exact = replace(CHECK, match_before=0.0, match_after=0.9, match_exported=0.88, gain_kept=0.97)
    state = ended(exact)
    assert view_of(state, "completed", name="Talk").nodes["gguf"].state == "done"
    words = "Q8_0 in llama.cpp: ✓ proven. KL 0.001, exact match 0 % → 90 %; 88 %, 97 % of the gain kept."
    assert sentence_of(exact.to_json()) == words
    assert outcome_of(state).learned == ("Q8_0 in llama.cpp: ✓ proven. 97 % of the gain kept.",)


def test_damaged_events_are_shown_as_far_as_they_go() -> None:
    state = RunState()
    line = b'{"event":"ExportChecked","time":1,"node":"n","verdict":3,"kl_mean":"much","title":[1]}'
    found = from_line(line)
    assert found is not None
    state.apply(found)
    assert check_table(state.checks)
    outcome_of(state)


def test_checks_of_the_same_verdict_are_one_sentence() -> None:
    """The banner has little room; what is worst has sentences of its own."""
    plain = replace(CHECK, readable="", title="Model", reader="transformers", gain_kept=1.0)
    small = replace(CHECK, gain_kept=0.97)
    words = "✓ proven: Model in transformers, Q8_0 in llama.cpp. At least 97 % of the gain kept."
    assert outcome_of(ended(plain, small)).learned == (words,)
    bad = replace(CHECK, readable="b", title="Q2_K", verdict="red", cause="Too few bits.")
    less = replace(CHECK, readable="c", title="Q4_0", verdict="amber", cause="A little.")
    found = outcome_of(ended(plain, less, bad, small)).learned
    assert found[0] == words
    assert found[1].startswith("! differs: Q4_0 in llama.cpp.")
    assert "A little" not in found[1]
    assert found[2].startswith("Q2_K in llama.cpp: ✕ failed.")
    assert found[2].endswith("Too few bits.")

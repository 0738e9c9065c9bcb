"""What a received project or run contains never controls the terminal, and long values are truncated."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.events import event
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import save_project
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step
from tests.studio.runs import toy_runs

EVIL = {
    "colour": "\x1b[31mred\x1b[0m",
    "clear": "\x1b[2J\x1b[H",
    "title": "\x1b]0;owned\x07",
    "c1": "\x9b31mred",
    "return": "good\rbad",
    "backspace": "bad\b\b\bgood",
    "NUL": "a\x00b",
    "override": "\u202egnp.exe",
    "isolate": "\u2066abc\u2069",
    "separator": "a\u2028b\u2029c",
    "tag": "\U000e0041\U000e0042",
    "delete": "a\x7fb",
    "surrogate": "a\udcffb",
}
LONG = "x" * 1_000_000


def is_safe(text: str) -> bool:
    return not any(
        unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t" for c in text
    )


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, on both streams."""
    main([str(a) for a in arguments])
    out = capsys.readouterr()
    return out.out + out.err


def projects(text: str) -> dict[str, Graph]:
    """The text in each place of a project."""
    start = toy_runs.graph()
    first = start.node("source")
    others = tuple(n for n in start.nodes if n.id != "source")

    def with_first(**changes: Any) -> Graph:
        return replace(start, nodes=(replace(first, **changes), *others))

    return {
        "name": replace(start, name=text),
        "title": with_first(title=text, settings={"seed": -1}),
        "type": with_first(type=text),
        "setting": with_first(settings={text: 1}),
        "value": with_first(settings={"seed": text}),
        "file": with_first(settings={"file": text}),
        "choice": replace(
            start,
            nodes=tuple(
                replace(n, settings={"how": text}) if n.id == "block" else n for n in start.nodes
            ),
        ),
        "id": replace(start, nodes=(*start.nodes, Node(text, "toy_source", {"seed": -1}))),
        "wire": replace(start, wires=(*start.wires, Wire("source", text, "block", text))),
        "real": Graph(
            "Real",
            (
                Node("data", "dataset", {"source": text}),
                Node("train", "train", {"optimizer": text}),
            ),
            (),
        ),
    }


@pytest.mark.parametrize("kind", EVIL)
def test_control_characters_of_a_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    for place, graph in projects(EVIL[kind]).items():
        file = tmp_path / "project.studio"
        save_project(file, graph)
        for command in ("check", "recipe"):
            text = printed(capsys, command, file)
            assert is_safe(text), (place, command)
        assert EVIL[kind] not in printed(capsys, "check", file)


def test_a_line_end_in_a_name_starts_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = "a\nproject.studio: ready to run, 1 step.\n"
    for place, graph in projects(fake).items():
        file = tmp_path / "project.studio"
        save_project(file, graph)
        assert "\nproject.studio: ready" not in "\n" + printed(capsys, "check", file), place


def test_long_values_are_truncated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, graph in projects(LONG).items():
        file = tmp_path / "project.studio"
        save_project(file, graph)
        assert len(printed(capsys, "check", file)) < 20_000, place


def test_json_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object per line, with the whole text."""
    for graph in projects(EVIL["clear"]).values():
        file = tmp_path / "project.studio"
        save_project(file, graph)
        main(["check", str(file), "--json"])
        out = capsys.readouterr().out
        assert is_safe(out)
        assert all(isinstance(json.loads(line), dict) for line in out.splitlines())


def received_run(place: Path, text: str) -> RunFolder:
    """A run folder with the text in every event and in its plan."""
    step = Step("a", "toy_source", 1, text, {}, {}, "0" * 64)
    run = RunFolder.create(place / "runs", Plan("x", place, (step,)), Graph("x", (), ()))
    run.plan_path.write_text(json.dumps({**Plan(text, place, (step,)).to_json()}), encoding="utf-8")
    return run


@pytest.mark.parametrize("kind", EVIL)
def test_control_characters_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The list of runs, and every event as the terminal shows it."""
    from studio.cli.report import Reporter, print_results
    from studio.cli.terminal import safe_output
    from studio.runs.state import RunState

    text = EVIL[kind]
    run = received_run(tmp_path, text)
    assert is_safe(printed(capsys, "runs", "--runs", tmp_path / "runs"))
    state = RunState()
    with safe_output():
        reporter = Reporter(state)
        for found in (
            event("RunStarted", run=text, name=text, nodes=[{"id": "a", "title": text}]),
            event("StepStarted", "a", title=text, index=1, count=1),
            event("Phase", "a", phase=text, title=text),
            event("Progress", "a", phase=text, done=5, total=10, unit=text),
            event("Notice", "a", level=text, sentence=text, hint=text),
            event("Sample", "a", step=1, prompt=text, text=text),
            event("EarlyStopped", "a", step=1, reason=text),
            event("ArtifactSaved", "a", kind="adapter", path=text),
            event("Evaluation", "a", measures={text: {"before": 0, "after": 1}}, rows=3),
            event("StepFailed", "a", title=text, sentence=text, hint=text, file=text, field=text),
        ):
            state.apply(found)
            reporter.tell(found)
        print_results(run, state, "failed")
    out = capsys.readouterr()
    assert is_safe(out.out + out.err)
    assert len(out.out) > 100


def test_long_texts_of_a_run_are_truncated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received_run(tmp_path, LONG)
    assert len(printed(capsys, "runs", "--runs", tmp_path / "runs")) < 2000


def test_colours_of_this_program_stay(capsys: pytest.CaptureFixture[str]) -> None:
    from studio.cli.terminal import draw, safe_output

    with safe_output():
        draw("\x1b[32mgreen\x1b[0m\n")
        print("\x1b[32mreceived")
    assert capsys.readouterr().out == "\x1b[32mgreen\x1b[0m\n\\x1b[32mreceived\n"


def test_letters_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Any script, emoji with joiners, no-break spaces, tabs."""
    from studio.cli.terminal import safe_output

    text = "naïve café\u00a0% 漢字 עברית \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🔬\tend"
    with safe_output():
        print(text)
    assert capsys.readouterr().out == text + "\n"

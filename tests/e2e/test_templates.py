"""Every template runs to its end on the CPU with the starter model, and learns.

With few rows and steps by default; ``benchmarks/templates.py`` runs them at full length. Slow, so they run with
``python3 -m tests -m slow``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.graph.project import load_project
from studio.graph.templates import TEMPLATES, Template
from tests.e2e.studio_cli import Ran, studio

pytestmark = pytest.mark.timeout(5400)

ROWS, STEPS, EVALUATED = 60, 8, 4
LEARNED = 0.9
"""The validation loss falls below this share of its start."""


def few(template: Template) -> list[str]:
    """Options for a short run: few rows and steps, one evaluation before and one after."""
    changes: dict[str, object] = {}
    for node in load_project(template.path).nodes:
        if node.type == "dataset":
            changes[f"{node.id}.limit"] = ROWS
        elif node.type == "train":
            for name in ("max_steps", "eval_steps", "save_steps"):
                changes[f"{node.id}.{name}"] = STEPS
            changes[f"{node.id}.sample_prompts"] = ""
            changes[f"{node.id}.device"] = "cpu"
        elif node.type == "evaluate":
            changes[f"{node.id}.rows"] = EVALUATED
    return [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]


def losses(ran: Ran, node: str) -> list[float]:
    """The validation losses of one Train node."""
    return [e["eval_loss"] for e in ran.of("Metric") if e["node"] == node and "eval_loss" in e]


SECONDS = {"compare-ranks": 150, "pretrain-then-instruct": 120, "full-fine-tuning": 110}


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(
            t,
            marks=pytest.mark.slow(
                seconds=SECONDS.get(t.id, 75), kind="nf4" if t.id == "qlora-8gb" else ""
            ),
            id=t.id,
        )
        for t in TEMPLATES
    ],
)
def test_it_runs_to_its_end_and_learns(template: Template, tmp_path: Path) -> None:
    options = ("--runs", tmp_path / "runs", "--json", *few(template))
    ran = studio("run", template.path, *options, timeout=5000)
    assert ran.code == 0, ran.err[-2000:]
    assert ran.status == "completed"
    nodes = load_project(template.path).nodes
    for node in nodes:
        if node.type == "train":
            found = losses(ran, node.id)
            assert len(found) == 2, node.id
            assert found[1] < LEARNED * found[0], (node.id, found)
    saved = {e["node"] for e in ran.of("ArtifactSaved")}
    assert saved >= {n.id for n in nodes if n.type in ("train", "merge", "export")}
    asked = {e["node"] for e in ran.of("Evaluation")}
    assert asked == {n.id for n in nodes if n.type == "evaluate"}
    # So short a training changes the weights so little that bfloat16 rounds a part of it away: "differs", not "failed".
    assert {e["verdict"] for e in ran.of("ExportChecked")} <= {"green", "amber"}
    warned = [e["sentence"] for e in ran.of("Notice") if e["level"] != "info"]
    assert [w for w in warned if not w.startswith("Check of the export: ")] == []

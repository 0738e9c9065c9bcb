"""What each template learns and how long it takes, at full length: `python benchmarks/templates.py [template ...]`.

Prints a row per training and evaluation: validation loss and exact match before and after, and the seconds of
the run. Runs one at a time, on the CPU, in a temporary folder. The tests run the same projects with fewer steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio.graph.project import load_project
from studio.graph.templates import TEMPLATES, Template

ROOT = Path(__file__).resolve().parent.parent


def events_of(template: Template, runs: Path) -> list[dict[str, Any]]:
    """Run a template and return its events."""
    options = []
    for node in load_project(template.path).nodes:
        if node.type == "train":
            options += ["--set", f"{node.id}.device=cpu"]
    done = subprocess.run(
        [sys.executable, "main.py", "run", template.path, "--runs", runs, "--json", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows_of(template: Template, events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rows of the table for one run."""
    titles = {n.id: n.title or n.id for n in load_project(template.path).nodes}
    losses: dict[str, list[float]] = {}
    matches: dict[str, tuple[float, float, int]] = {}
    seconds = 0.0
    for event in events:
        if "eval_loss" in event and event["event"] == "Metric":
            losses.setdefault(event["node"], []).append(event["eval_loss"])
        elif event["event"] == "Evaluation":
            exact = event["measures"]["exact_match"]
            matches[event["node"]] = (exact["before"], exact["after"], event["rows"])
        elif event["event"] == "RunFinished":
            seconds = event["seconds"]
    rows = [
        f"| {template.title} | {titles[node]} | validation loss | {found[0]:.2f} | {found[-1]:.2f} | |"
        for node, found in losses.items()
    ]
    rows += [
        f"| {template.title} | {titles[node]} | exact match of {count} | {before:.0%} | {after:.0%} | |"
        for node, (before, after, count) in matches.items()
    ]
    rows[-1] = rows[-1].removesuffix("| |") + f"| {seconds:.0f} s |"
    return rows


def main() -> None:
    """Run the named templates, or all."""
    wanted = sys.argv[1:] or [t.id for t in TEMPLATES]
    print(
        "| template | node | measure | before | after | run |\n| --- | --- | --- | --- | --- | --- |"
    )
    for template in TEMPLATES:
        if template.id in wanted:
            with tempfile.TemporaryDirectory() as folder:
                print(*rows_of(template, events_of(template, Path(folder))), sep="\n", flush=True)


if __name__ == "__main__":
    main()

"""Events of a run that never was: loading, training with evaluation and checkpoints, results.

The figures look like a real fine-tuning, so that screenshots of the panels mean something.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

from studio.events import Event

START = 1_700_000_000.0
NODES = [
    {"id": "data", "type": "dataset", "title": "Dataset"},
    {"id": "train", "type": "train", "title": "Train"},
    {"id": "check", "type": "evaluate", "title": "Evaluate"},
]


def beginning(name: str = "Starter") -> Iterator[Event]:
    """The run starts and reads its rows."""
    yield Event(
        "RunStarted",
        START,
        None,
        {
            "run": "r1",
            "name": name,
            "resumed": False,
            "nodes": NODES,
            "device": "CPU",
            "pid": 1,
            "threads": 1,
        },
    )
    yield Event("StepStarted", START, "data", {"title": "Dataset", "index": 1, "count": 3})
    yield Event("Phase", START + 0.1, "data", {"phase": "read", "title": ""})
    yield Event("StepFinished", START + 2, "data", {"seconds": 2.0, "cached": False, "outputs": {}})


def metric(step: int, steps: int, rng: random.Random) -> Event:
    """One training step's figures."""
    share = step / steps
    loss = 0.4 + 2.6 * math.exp(-4 * share) + rng.gauss(0, 0.12)
    return Event(
        "Metric",
        START + 6 + 0.7 * step,
        "train",
        {
            "step": step,
            "steps": steps,
            "epoch": share,
            "loss": max(loss, 0.05),
            "learning_rate": 2e-4
            * min(step / (0.06 * steps), 0.5 + 0.5 * math.cos(math.pi * share)),
            "grad_norm": 1.2 * math.exp(-2 * share) + abs(rng.gauss(0, 0.15)),
            "tokens_per_s": 640 + rng.gauss(0, 25),
            "eta_s": (steps - step) * 0.7,
            "ram_process_gib": 1.1 + 0.5 * (1 - math.exp(-9 * share)),
            "ram_system_gib": 5.2 + 0.4 * share,
        },
    )


def training(first: int, last: int, steps: int, seed: int = 0) -> Iterator[Event]:
    """The steps from ``first`` to ``last``, with evaluation and checkpoints ten times a run."""
    rng = random.Random(seed)
    every = max(steps // 10, 1)
    for step in range(first, last + 1):
        one = metric(step, steps, rng)
        yield one
        yield Event(
            "Progress",
            one.time,
            "train",
            {
                "phase": "train",
                "done": step,
                "total": steps,
                "unit": "steps",
                "eta_s": (steps - step) * 0.7,
            },
        )
        if step % every == 0:
            loss = 0.55 + 2.3 * math.exp(-4 * step / steps)
            yield Event(
                "Metric", one.time, "train", {"step": step, "steps": steps, "eval_loss": loss}
            )
            yield Event(
                "CheckpointSaved",
                one.time,
                "train",
                {"step": step, "path": f"checkpoint-{step}", "reason": "cadence"},
            )


def training_starts() -> Iterator[Event]:
    """The Train step begins and loads the model."""
    yield Event("StepStarted", START + 2, "train", {"title": "Train", "index": 2, "count": 3})
    yield Event("Phase", START + 2.1, "train", {"phase": "load", "title": ""})
    yield Event("Phase", START + 6, "train", {"phase": "train", "title": ""})


def ending(folder: Path, steps: int) -> Iterator[Event]:
    """Artifacts, a comparison before and after, and the end."""
    at = START + 8 + 0.7 * steps
    yield Event(
        "ArtifactSaved",
        at,
        "train",
        {"kind": "adapter", "path": str(folder / "adapter"), "cached": False},
    )
    yield Event(
        "StepFinished", at, "train", {"seconds": 0.7 * steps, "cached": False, "outputs": {}}
    )
    yield Event("StepStarted", at, "check", {"title": "Evaluate", "index": 3, "count": 3})
    examples = [
        {"prompt": f"What is a {w}?", "expected": e, "before": f"A {w} is a word that…", "after": a}
        for w, e, a in (
            ("robin", "bird", "bird"),
            ("oak", "tree", "tree"),
            ("trout", "fish", "frog"),
        )
    ]
    yield Event(
        "Evaluation",
        at + 9,
        "check",
        {
            "rows": 96,
            "examples": examples,
            "measures": {"exact_match": {"before": 0.0, "after": 0.86}},
        },
    )
    yield Event(
        "ArtifactSaved",
        at + 9,
        "check",
        {"kind": "report", "cached": False, "path": str(folder / "report.json")},
    )
    yield Event("StepFinished", at + 9, "check", {"seconds": 9.0, "cached": False, "outputs": {}})
    yield Event("RunFinished", at + 9, None, {"status": "completed", "seconds": at + 9 - START})


def whole_run(folder: Path, steps: int = 200) -> list[Event]:
    """A completed run from start to end."""
    return [*beginning(), *training_starts(), *training(1, steps, steps), *ending(folder, steps)]

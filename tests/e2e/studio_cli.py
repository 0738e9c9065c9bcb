"""The command line as a user calls it, for the end-to-end tests: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.timing import WAIT_S

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a finished command left: exit code, output, and the events on its standard output."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every line of standard output; with ``--json`` each must be an event."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [e for e in self.events if e["event"] == name]

    def saved(self, kind: str) -> list[Path]:
        """Paths of the artifacts of one kind, in the order they were saved."""
        return [Path(e["path"]) for e in self.of("ArtifactSaved") if e["kind"] == kind]

    @property
    def status(self) -> str:
        """How the run ended; there must be exactly one ``RunFinished``, at the end."""
        (finished,) = self.of("RunFinished")
        assert self.events[-1] == finished
        return str(finished["status"])


def command(*arguments: object) -> list[str]:
    """``python main.py ...`` with this interpreter."""
    return [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]


def studio(*arguments: object, timeout: float = WAIT_S, **environment: str) -> Ran:
    """Run a command to its end."""
    done = subprocess.run(
        command(*arguments),
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command and leave it running."""
    return subprocess.Popen(
        command(*arguments),
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def write_project(path: Path, model: Path | str, rows: Path, **changes: dict[str, Any]) -> Path:
    """A project of the usual shape: dataset, base model, LoRA, train, merge, two exports.

    ``changes`` maps a node id to settings that are set on top. The exports are not read back unless
    ``check_rows`` is set: that starts a process with PyTorch for each.
    """
    settings: dict[str, dict[str, Any]] = {
        "data": {"source": str(rows), "validation_fraction": 0.2},
        "base": {"model": str(model), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8},
        "train": {
            "max_steps": 6,
            "batch_size": 2,
            "learning_rate": 2e-3,
            "max_length": 128,
            "eval_steps": 3,
            "save_steps": 2,
        },
        "merge": {},
        "export": {"check_rows": 0},
        "share": {"check_rows": 0},
    }
    kinds = {"data": "dataset", "base": "base_model", "share": "export"}
    for node, change in changes.items():
        settings[node].update(change)
    nodes = [
        {"id": n, "type": kinds.get(n, n), "position": [260 * i, 0], "settings": s}
        for i, (n, s) in enumerate(settings.items())
    ]
    wires = [
        ("data.dataset", "train.dataset"),
        ("base.model", "lora.model"),
        ("lora.model", "train.model"),
        ("train.adapter", "merge.adapter"),
        ("merge.model", "export.model"),
        ("train.adapter", "share.model"),
    ]
    project = {
        "format": "lora-studio",
        "version": 3,
        "name": "Small talk",
        "nodes": nodes,
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    path.write_text(json.dumps(project, indent=1), encoding="utf-8")
    return path


def write_rows(path: Path, count: int = 24) -> Path:
    """Short conversations; the answer follows from the question, so that a tiny model can learn."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"say {word}"},
                {"role": "assistant", "content": word},
            ]
        }
        for word in (f"{'abcdefgh'[i % 8]}{'xyz'[i % 3]}" for i in range(count))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path

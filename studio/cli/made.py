"""The commands that run what a run has made in other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.export_folder.commands import Command, commands
from studio.runs.outcome import outcome_of
from studio.runs.state import RunState


def commands_for(artifact: Mapping[str, Any]) -> list[Command]:
    """The commands for one artifact of a run; none if its folder is missing."""
    folder = Path(str(artifact.get("path") or ""))
    return commands(str(artifact.get("kind")), folder) if folder.is_dir() else []


def programs_of(state: RunState) -> list[str]:
    """The programs for which a run has made something, without repetition."""
    found = (c.program for a in outcome_of(state).made for c in commands_for(a))
    return list(dict.fromkeys(p.partition(" (")[0].partition(",")[0] for p in found))

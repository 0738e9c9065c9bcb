"""The command that prints how other programs run what was made: those of *Use In* in the window."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.cli.made import commands_for
from studio.errors import StudioError
from studio.export_folder.folder import MANIFEST
from studio.model.folder_files import json_or_empty
from studio.runs.folder import find_run
from studio.runs.follow import state_at_present
from studio.runs.outcome import artifact_words, outcome_of


def use_in(options: argparse.Namespace) -> int:
    """Print the commands for the exports, models and adapters of a run, or for the folder of an export."""
    rows = list(_rows(options))
    if not rows:
        raise StudioError(
            f"{options.place} contains nothing that other programs run.",
            hint="Add an Export node to the project, and run it.",
            code="nothing_to_use",
        )
    last = ""
    for row in rows:
        if options.json:
            print(json.dumps(row))
            continue
        if row["path"] != last:
            last = row["path"]
            print(f"{row['title']}: {last}")
        print(f"  {row['program']}: {row['command']}")
    return 0


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from studio.cli.commands import runs_dir

    folder = Path(options.place)
    kind = json_or_empty(folder, MANIFEST).get("kind")
    if isinstance(kind, str):
        folder = folder.resolve()
        found: Iterable[Mapping[str, Any]] = [{"kind": kind, "path": str(folder), "exported": True}]
        yield from _of(found, {})
        return
    state = state_at_present(find_run(runs_dir(options), options.place).events_path)
    made = outcome_of(state).made
    yield from _of(made, {str(a["node"]): state.title_of(str(a["node"])) for a in made})


def _of(
    artifacts: Iterable[Mapping[str, Any]], titles: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for artifact in artifacts:
        node = str(artifact.get("node") or "")
        title = artifact_words(artifact) + (f" ({titles[node]})" if node in titles else "")
        for command in commands_for(artifact):
            yield {
                "node": node,
                "kind": artifact["kind"],
                "title": title,
                "path": artifact["path"],
                "program": command.program,
                "command": command.line(),
                "arguments": list(command.arguments),
            }

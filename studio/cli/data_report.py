"""``report``: analyze all rows of a project's data, print the findings, and apply fixes.

The data host reads the rows. Progress goes to standard error; the exit code is 1 if a finding
blocks a run. ``--fix`` changes settings in the project file, never data.
"""

from __future__ import annotations

import argparse
import json
import sys

from studio.cli.data_host import DataHost
from studio.cli.data_report_text import report_text
from studio.cli.overrides import write_proposed
from studio.cli.tokens import opened, requested, tell_failure
from studio.errors import StudioError
from studio.preview.report import DataReport, Fix, apply_fix, report_from_json


def report(options: argparse.Namespace) -> int:
    """Print the report; 2 if the project or the arguments are invalid, 1 if a finding blocks a
    run."""
    request = requested(options)
    if request is None:
        return 2
    try:
        with DataHost() as host:
            opened(host, request, options)
            found = report_from_json(host.ask("report")["report"])
    except StudioError as error:
        return tell_failure(error)
    if options.fix is not None:
        return _apply(found, options)
    if options.json:
        print(json.dumps(found.to_json()))
    else:
        print(report_text(found, sys.stdout.encoding))
    return 1 if found.errors else 0


def _apply(found: DataReport, options: argparse.Namespace) -> int:
    """Apply a fix to the project file."""
    fix = found.fix(options.fix)
    if fix is None:
        offered = ", ".join(f.id for f in found.fixes())
        hint = f"Available: {offered}." if offered else "There are no fixes."
        print(f"The report has no fix “{options.fix}”. {hint}", file=sys.stderr)
        return 2
    write_proposed(options, lambda stored: apply_fix(stored, fix))
    if options.json:
        changes = {f"{c.node}.{c.setting}": c.value for c in fix.changes}
        print(json.dumps({"fix": fix.id, "changes": changes}))
    else:
        print(f"{fix.title}: {_changes(fix)}. Saved {options.file}.")
    return 0


def _changes(fix: Fix) -> str:
    return ", ".join(f"{c.node}.{c.setting} = {json.dumps(c.value)}" for c in fix.changes)

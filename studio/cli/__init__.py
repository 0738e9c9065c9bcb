"""The terminal: the same engine without a window.

Exit codes: 0 completed, 1 failed, 2 invalid arguments or Problems, 3 stopped. With ``--json``
standard output contains one JSON object per line and nothing else; messages go to standard error.
It must not import torch: ``doctor`` asks another process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from studio.cli.arguments import parse_arguments
from studio.cli.terminal import safe_output
from studio.errors import StudioError
from studio.runs.failures import as_studio_error
from studio.system.children import is_closed_pipe

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    with safe_output():
        try:
            options = parse_arguments(argv)
        except SystemExit as error:
            return int(error.code or 0)
        try:
            return _obey(options)
        except OSError as error:
            if not is_closed_pipe(error):
                raise
            _close_output()
            return 3


def _obey(options: argparse.Namespace) -> int:
    try:
        code = int(options.command(options))
    except StudioError as error:
        tell_error(error, as_json=bool(getattr(options, "json", False)))
        return 2
    except Exception as error:
        known = None if is_closed_pipe(error) else as_studio_error(error)
        if known is None:
            raise
        tell_error(known, as_json=bool(getattr(options, "json", False)))
        return 1
    except KeyboardInterrupt:  # before a run has started, or in a command without a run
        print("\nStopped.", file=sys.stderr)
        return 3
    try:
        sys.stdout.flush()
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        _close_output()  # the command has completed, but its output was closed early
    return code


def tell_error(error: StudioError, *, as_json: bool) -> None:
    """Print an expected error."""
    if as_json:
        print(json.dumps({"event": "Problem", **error.problem().to_json()}), flush=True)
    print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)


def _close_output() -> None:
    """The reader has closed the pipe; prevent an error of the interpreter at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

"""The argument parser: all commands and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio.cli import commands, data_report, doctor, listing
from studio.cli.estimate import estimate
from studio.cli.recipe import recipe
from studio.cli.tokens import tokens
from studio.cli.trust import trust
from studio.cli.use_in import use_in

_ONLY = "; values of --set are not written"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The options; ``options.command`` is what to call. Exits with 2 if the arguments are
    invalid."""
    parser = argparse.ArgumentParser(
        description="Fine-tune language models with LoRA.", allow_abbrev=False
    )
    table = parser.add_subparsers(metavar="COMMAND", required=True)
    _demo(_add(table, "demo", commands.demo, "run the starter project"))
    _run(_add(table, "run", commands.run, "run a project"))
    _file(_add(table, "check", commands.check, "check a project for problems"))
    _tokens(_add(table, "tokens", tokens, "show rows as the model sees them"))
    _report(_add(table, "report", data_report.report, "analyze all rows of the data"))
    _estimate(
        _add(
            table,
            "estimate",
            estimate,
            ("estimate memory, parameters, steps and time of a training"),
        )
    )
    _recipe(_add(table, "recipe", recipe, "recommend values for a training, with reasons"))
    _resume(_add(table, "resume", commands.resume, "resume an interrupted run"))
    _run_name(_add(table, "stop", commands.stop, "stop a run"))
    _run_name(
        _add(
            table,
            "finish",
            commands.finish,
            "end a training at its current step and go on with merge, export and evaluation",
        )
    )
    _runs(_add(table, "runs", listing.runs, "list runs"))
    _place(
        _add(table, "commands", use_in, "print the commands that run an export in other programs")
    )
    _add(table, "nodes", listing.nodes, "list node types, variants and their settings")
    _trust(_add(table, "trust", trust, "review the custom code of a model and trust it"))
    _add(
        table,
        "doctor",
        doctor.doctor,
        ("show versions, devices, memory and what works on this machine"),
    )
    return parser.parse_args(list(argv))


def _add(
    table: Any, name: str, command: Callable[[argparse.Namespace], int], words: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = table.add_parser(
        name, help=words, description=words.capitalize() + ".", allow_abbrev=False
    )
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    return parser


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .studio project")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NODE.SETTING=VALUE",
        help=(
            "override a setting for this invocation without changing FILE; VALUE is JSON or plain "
            "text"
        ),
    )


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help=("the folder that contains the runs")
    )


def _all_cores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all-cores",
        action="store_true",
        help="accepted for earlier scripts; a run from the terminal always uses all CPU cores",
    )


def _node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", metavar="TRAIN_ID", help="the Train node, if there are several")


def _run(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    _all_cores(parser)


def _tokens(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    parser.add_argument("--row", type=int, metavar="N", help="show row N, starting at 1")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="K",
        help="show K rows; default: as many as fit on the screen, or all with --json",
    )
    parser.add_argument("--suspicious", action="store_true", help="show only rows with findings")
    _node(parser)


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a folder or a Hub ID, as in the Base model node"
    )
    parser.add_argument("--show", action="store_true", help="print the files")
    parser.add_argument(
        "--yes", metavar="HASH", help=("trust the files with this hash without asking")
    )
    parser.add_argument(
        "--revoke", action="store_true", help=("revoke the trust in the model's code")
    )


def _report(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    parser.add_argument(
        "--fix",
        metavar="ID",
        help=f"apply a fix of the report to FILE{_ONLY}",
    )
    _node(parser)


def _estimate(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    _all_cores(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help=("trace every tensor of a training step without computing it"),
    )
    parser.add_argument("--probe", action="store_true", help="train two steps and measure them")
    parser.add_argument(
        "--fit", action="store_true", help=("propose changes until the training fits into memory")
    )
    parser.add_argument("--apply", action="store_true", help=f"apply those changes to FILE{_ONLY}")


def _recipe(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    parser.add_argument("--apply", action="store_true", help=f"write the values to FILE{_ONLY}")
    _node(parser)


def _demo(parser: argparse.ArgumentParser) -> None:
    _runs(parser)
    _all_cores(parser)
    parser.set_defaults(changes=[])


def _run_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run ID or a run folder")
    _runs(parser)


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="RUN_OR_FOLDER", help="a run ID, a run folder, or the folder of an export"
    )
    _runs(parser)


def _resume(parser: argparse.ArgumentParser) -> None:
    _run_name(parser)
    _all_cores(parser)

"""The command line's grammar: which commands there are and what they take. No behaviour."""

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

_ONLY = ", and nothing else: values of --set count for the proposal and are not written"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The options; ``options.command`` is what to call. Exits with 2 when not understood."""
    parser = argparse.ArgumentParser(
        prog="lora-studio", description="Fine-tune language models with LoRA.", allow_abbrev=False
    )
    table = parser.add_subparsers(metavar="COMMAND", required=True)
    _demo(_add(table, "demo", commands.demo, "run the starter project"))
    _run(_add(table, "run", commands.run, "run a project"))
    _file(_add(table, "check", commands.check, "say what is wrong with a project"))
    _tokens(_add(table, "tokens", tokens, "show rows as the model will see them"))
    _report(_add(table, "report", data_report.report, "look at every row of the data"))
    _estimate(_add(table, "estimate", estimate, "say what a training will need"))
    _recipe(_add(table, "recipe", recipe, "propose values for a training, with reasons"))
    _resume(_add(table, "resume", commands.resume, "go on with an interrupted run"))
    _run_name(_add(table, "stop", commands.stop, "end a run"))
    _runs(_add(table, "runs", listing.runs, "list the runs"))
    _add(table, "nodes", listing.nodes, "list node types, variants and their settings")
    _trust(_add(table, "trust", trust, "look at the code that a model brings, and trust it"))
    _add(table, "doctor", doctor.doctor, "versions, devices, memory, what works here")
    return parser.parse_args(list(argv))


def _add(
    table: Any, name: str, command: Callable[[argparse.Namespace], int], words: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = table.add_parser(
        name, help=words, description=words.capitalize() + ".", allow_abbrev=False
    )
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .studio project")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NODE.SETTING=VALUE",
        help="change a setting for this time, never in FILE; VALUE is JSON or plain text",
    )


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of runs")


def _all_cores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all-cores", action="store_true", help="leave no processor core to the desktop"
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
    parser.add_argument("--row", type=int, metavar="N", help="show row N, counted from 1")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="K",
        help="show K rows; else as many as fit on a screen, with --json all",
    )
    parser.add_argument("--suspicious", action="store_true", help="show only rows that look wrong")
    _node(parser)


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a folder or a hub id, as in the Base model node"
    )
    parser.add_argument("--show", action="store_true", help="print the files")
    parser.add_argument("--yes", metavar="HASH", help="trust the files with this hash, unasked")
    parser.add_argument("--revoke", action="store_true", help="trust the model's code no longer")


def _report(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    parser.add_argument(
        "--fix",
        metavar="ID",
        help=f"make the changes of a fix that the report offers in FILE{_ONLY}",
    )
    _node(parser)


def _estimate(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    _all_cores(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="follow every tensor of a step without computing it"
    )
    parser.add_argument("--probe", action="store_true", help="train two real steps and measure")
    parser.add_argument("--fit", action="store_true", help="propose changes until it fits")
    parser.add_argument("--apply", action="store_true", help=f"make those changes in FILE{_ONLY}")


def _recipe(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    _runs(parser)
    parser.add_argument("--apply", action="store_true", help=f"set the values in FILE{_ONLY}")
    _node(parser)


def _demo(parser: argparse.ArgumentParser) -> None:
    _runs(parser)
    _all_cores(parser)
    parser.set_defaults(changes=[])


def _run_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's id or its folder")
    _runs(parser)


def _resume(parser: argparse.ArgumentParser) -> None:
    _run_name(parser)
    _all_cores(parser)

"""The commands that run, resume, stop and check. Each returns the exit code.

Runs go through the run host, exactly as the window's do, so that closing the terminal does not end
them and the window can show them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from studio.cli.attend import attend
from studio.cli.install_offer import install_missing
from studio.cli.overrides import with_changes
from studio.cli.report import print_results
from studio.errors import Problem, StudioError, counted
from studio.estimate.forecast import forecast_of
from studio.graph import guide
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import Registry, load_registry
from studio.graph.unused import Untrained, without_training
from studio.runs.compare import Comparison, compare, project_file
from studio.runs.control import size_of
from studio.runs.folder import RunFolder, find_run
from studio.runs.follow import state_at_present
from studio.runs.plan import compile_plan
from studio.runs.row_check import check_all_rows
from studio.runs.watch import Watch
from studio.shown_text import MOST_IN_QUOTES, line
from studio.system import paths, torch_report
from studio.system.number_text import quantity
from studio.system.settings import AppSettings, load_settings

CHECK_S = 10.0
"""How long ``check`` reads data at most."""
FAILED_CHECK = 4
"""The exit code of a completed run of which an export failed its check."""
EXIT_CODES = {"completed": 0, "failed": 1, "interrupted": 1, "stopped": 3, "suspended": 3}


def demo(options: argparse.Namespace) -> int:
    """Run the starter project and print its results."""
    file = paths.assets_dir() / "starter.studio"
    if not options.json:
        print("The starter project runs in this terminal. Press Ctrl+C to stop it.", flush=True)
    return _run(file, options)


def run(options: argparse.Namespace) -> int:
    """Run a project."""
    return _run(options.file, options)


def check(options: argparse.Namespace) -> int:
    """Read the data, and print the problems of a project; 2 if one of them blocks a run."""
    registry = _registry()
    graph = with_changes(load_project(options.file), options.changes, registry)
    place = options.file.resolve().parent
    check_all_rows(graph, registry, place, CHECK_S)
    torch_report.ask()
    compiled = compile_plan(graph, registry, place)
    _tell_problems(compiled.problems, options.file, options.json)
    found = counted(compiled.problems)
    if compiled.plan is None:
        if not options.json:
            print(f"{options.file}: {found}.", file=sys.stderr)
        return 2
    if not options.json:
        steps = quantity(len(compiled.plan.steps), "step")
        print(f"{options.file}: ready to run, {steps}{f', {found}' if found else ''}.")
    return 0


def resume(options: argparse.Namespace) -> int:
    """Resume a run from its last checkpoint; completed steps are not run again."""
    folder = find_run(runs_dir(options), options.run)
    if folder.is_running():
        raise StudioError(f"{folder.id} is already running.", hint="Stop it first.", code="running")
    plan = folder.plan()
    if not folder.remains().offered(folder.status()):
        _tell(
            options,
            "There is nothing to resume from: the steps without a result run from their start.",
        )
    file = project_file(plan)
    if file is not None:
        found = compare(folder, load_project(file), _registry(), file.resolve().parent)
        for text in _how_it_differs(file, found):
            _tell(options, text)
    return _attend(folder, options, folder.graph())


def _how_it_differs(file: Path, found: Comparison) -> list[str]:
    if not found.lines:
        return []
    return [
        f"{file.name} differs from this run, which continues as it was:",
        *(f"  {text}" for text in found.short_lines()),
        f"To use the new settings, run {file.name} instead: steps that have not changed are reused.",
    ]


def _tell(options: argparse.Namespace, text: str) -> None:
    """A sentence for the user; beside JSON on the error output."""
    print(line(text), file=sys.stderr if options.json else sys.stdout, flush=True)


def stop(options: argparse.Namespace) -> int:
    """Stop a run of another process, and wait until it has ended."""
    folder = find_run(runs_dir(options), options.run)
    if not folder.is_running() and folder.status() != "preparing":
        raise StudioError(f"{folder.id} is not running.", code="not_running")

    def begin() -> Watch:
        watch = Watch(folder)
        watch.stop()
        return watch

    status, _ = attend(begin, as_json=options.json, quiet=True)
    return 0 if status == "stopped" else EXIT_CODES[status]


def finish(options: argparse.Namespace) -> int:
    """End the training of a run at its current step, and follow the run to its end."""
    folder = find_run(runs_dir(options), options.run)
    if not folder.is_running():
        raise StudioError(f"{folder.id} is not running.", code="not_running")
    if not state_at_present(folder.events_path).is_training():
        raise StudioError(
            f"{folder.id} is not training at the moment, so there is no training to finish.",
            hint="“main.py stop” ends a run in any other step.",
            code="not_training",
        )
    if not options.json:
        print("The training ends with its current step; the rest of the run follows.", flush=True)

    def begin() -> Watch:
        watch = Watch(folder, past=size_of(folder.events_path))
        watch.finish()
        return watch

    return _follow(folder, begin, options)


def runs_dir(options: argparse.Namespace) -> Path:
    """The folder of runs: the option, else the setting, else the default."""
    return Path(options.runs) if options.runs is not None else _settings(options).runs_dir()


def _settings(options: argparse.Namespace) -> AppSettings:
    """The program's settings, read once per command, so that a notice is printed only once."""
    if not hasattr(options, "settings"):
        loaded = load_settings()
        if loaded.notice:
            print(loaded.notice, file=sys.stderr)
        options.settings = loaded.settings
    settings: AppSettings = options.settings
    return settings


def _run(file: Path, options: argparse.Namespace) -> int:
    registry = _registry()
    graph = with_changes(load_project(file), options.changes, registry)
    torch_report.ask()
    compiled = compile_plan(graph, registry, file.resolve().parent)
    if install_missing(compiled.problems, as_json=options.json):
        compiled = compile_plan(graph, registry, file.resolve().parent)
    _tell_problems(compiled.problems, file, options.json)
    if compiled.plan is None:
        return 2
    runs = runs_dir(options)
    forecast = forecast_of(compiled.plan, graph, registry, runs, leave_core=False)
    folder = RunFolder.create(runs, compiled.plan, graph, forecast)
    return _attend(folder, options, graph)


def _attend(folder: RunFolder, options: argparse.Namespace, graph: Graph) -> int:
    if not options.json:
        print(f"{line(graph.name, MOST_IN_QUOTES)}: run {folder.id}", flush=True)
    untrained = without_training(graph, load_registry())
    return _follow(folder, lambda: Watch.start(folder), options, untrained)


def _follow(
    folder: RunFolder,
    begin: Callable[[], Watch],
    options: argparse.Namespace,
    untrained: Untrained | None = None,
) -> int:
    status, state = attend(begin, as_json=options.json)
    if not options.json:
        print_results(folder, state, status, untrained)
    elif status == "interrupted":
        print(
            f"The run host of {folder.id} exited unexpectedly; see {folder.log_path}.",
            file=sys.stderr,
        )
    if status == "completed" and any(c.get("verdict") == "red" for c in state.checks):
        return FAILED_CHECK
    return EXIT_CODES.get(status, 1)


def _registry() -> Registry:
    registry = load_registry()
    for sentence in registry.failures:
        print(sentence, file=sys.stderr)
    return registry


def _tell_problems(problems: tuple[Problem, ...], file: Path, as_json: bool) -> None:
    for problem in problems:
        if as_json:
            place = guide.of_problem(problem.code)
            page = {"guide": f"{guide.FOLDER}/{place}"} if place else {}
            print(json.dumps({"event": "Problem", **problem.to_json(), **page}))
        else:
            print(describe(problem, file), file=sys.stderr)
    sys.stdout.flush()


def describe(problem: Problem, file: Path) -> str:
    """One line: node, severity, sentence and hint."""
    where = problem.file or str(file)
    if problem.line:
        where += f":{problem.line}"
    place = ".".join(p for p in (problem.node, problem.field) if p)
    parts = [f"{where}:", f"{problem.severity}:", f"{place}:" if place else "", problem.sentence]
    return line(" ".join(p for p in [*parts, problem.hint] if p))

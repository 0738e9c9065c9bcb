"""The run folder: the protocol between the host, the window, the terminal and other machines.

All data of a run are files in this folder; ``RunFolder`` is only a path with names. It must cache
nothing and must work while another process writes to the folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.events import Event, from_line
from studio.graph.graph import Graph
from studio.graph.project import json_text, load_project, to_data
from studio.runs.control import ENDING, CommandReader, size_of
from studio.runs.lock import is_locked
from studio.runs.plan import Plan, plan_from_json
from studio.runs.status import Remains, run_status
from studio.system import busy_files
from studio.system.atomic import write_atomic
from studio.system.disk import what_to_do
from studio.system.paths import LENGTH_HINT, is_utf8, length_problem
from studio.system.stored_json import open_for_appending, open_regular, parse, read_regular

Forecast = Mapping[str, Sequence[Any]]
STAGING = ".staging-"
_BEST = "best"
"""The folder of the weights of the best evaluation beside the checkpoints (``training/loop/saver.py``)."""
PREPARING_S = 30.0
LONGEST_IN_RUN = 120
"""Characters of the longest path in a run folder: a node name of 49, a hash, the prefix of an unfinished result
and the name of a data file."""
_PART_BYTES = 64 * 1024
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @staticmethod
    def create(
        runs_dir: Path, plan: Plan, graph: Graph, forecast: Forecast | None = None
    ) -> RunFolder:
        """A new run folder; see ``create_run``."""
        return create_run(runs_dir, plan, graph, forecast)

    @property
    def id(self) -> str:
        """The ID of the run: its time and the name of its project."""
        return self.path.name

    @property
    def plan_path(self) -> Path:
        """The steps that are run."""
        return self.path / "plan.json"

    @property
    def graph_path(self) -> Path:
        """The project as it was when Run was pressed."""
        return self.path / "graph.studio"

    @property
    def forecast_path(self) -> Path:
        """How long the phases of the steps are expected to take."""
        return self.path / "forecast.json"

    @property
    def events_path(self) -> Path:
        """The events; this file is only appended to."""
        return self.path / "events.jsonl"

    @property
    def commands_path(self) -> Path:
        """The commands to the host."""
        return self.path / "commands.jsonl"

    @property
    def lock_path(self) -> Path:
        """Locked by the host while it lives."""
        return self.path / "host.lock"

    @property
    def log_path(self) -> Path:
        """What the host and its libraries print."""
        return self.path / "host.log"

    @property
    def environment_path(self) -> Path:
        """Versions, device, threads and seeds of the run."""
        return self.path / "environment.json"

    @property
    def host_path(self) -> Path:
        """The process of the host."""
        return self.path / "host.json"

    @property
    def artifacts(self) -> Path:
        """Completed results, one folder per step."""
        return self.path / "artifacts"

    @property
    def steps(self) -> Path:
        """One record for each finished step."""
        return self.path / "steps"

    def checkpoints(self, node: str) -> Path:
        """The folders of the checkpoints that steps resume from."""
        return self.path / "checkpoints" / file_name(node)

    def staging(self, node: str) -> Path:
        """The folders that steps write to before their results are committed."""
        return self.artifacts / f"{STAGING}{file_name(node)}"

    def plan(self) -> Plan:
        """The plan; raises ``StudioError`` when it is missing or damaged."""
        return plan_from_json(read_json(self.plan_path), str(self.plan_path))

    def graph(self) -> Graph:
        """The graph that was run; raises ``StudioError`` when it is missing or damaged."""
        return load_project(self.graph_path)

    def forecast(self) -> Forecast:
        """The expected seconds of the phases of each step; empty if unknown or damaged."""
        try:
            data = read_json(self.forecast_path)
        except StudioError:
            return {}
        return data if isinstance(data, dict) else {}

    def environment(self) -> dict[str, Any]:
        """The environment of the host; empty before it has started."""
        try:
            data = read_json(self.environment_path)
        except StudioError:
            return {}
        return data if isinstance(data, dict) else {}

    def append(self, event: Event) -> None:
        """Write one event as one line. A torn line before it (a crash) is closed first."""
        append_line(self.events_path, event.to_line(), sync=event.name == "RunFinished")

    def command(self, name: str, **data: Any) -> None:
        """Send a command to the host: ``stop``, ``suspend``, ``save``, ``sample``."""
        line = json.dumps({"command": name, "time": round(time.time(), 4), **data})
        append_line(self.commands_path, line + "\n")

    def is_running(self) -> bool:
        """Whether a host is alive and holds this run."""
        return is_locked(self.lock_path)

    def finished_status(self) -> str | None:
        """The status of ``RunFinished`` if nothing has started after it."""
        for event in reversed(_tail(self.events_path)):
            if event.name == "RunFinished":
                return str(event.get("status"))
            if event.name == "RunStarted":
                return None
        return None

    def has_started(self) -> bool:
        """Whether the run was started before. Events alone do not tell: notices may come first."""
        return any(event.name == "RunStarted" for event in _head(self.events_path))

    def last_event_at(self) -> float:
        """The Unix time of the newest event; 0 before the first."""
        return max((event.time for event in _tail(self.events_path)), default=0.0)

    def status(self) -> str:
        """``preparing``, ``running``, ``stopping``, ``completed``, ``stopped``, ``suspended``, ``failed`` or
        ``interrupted``: the host has died."""
        finished = self.finished_status()
        if finished is not None:
            return finished
        begun = self.events_path.exists()
        alive = self.is_running() or (not begun and _age_s(self.plan_path) < PREPARING_S)
        stopping = alive and self._asked_to_stop()
        return run_status("running" if begun else "preparing", alive, stopping)

    def _asked_to_stop(self) -> bool:
        """Whether the present host was asked to end the run; earlier commands were for an earlier host."""
        try:
            since = self.host_path.stat().st_mtime
        except OSError:
            return False
        start = max(0, size_of(self.commands_path) - _PART_BYTES)
        asked = CommandReader(self.commands_path, start).read()
        return any(c["command"] in ENDING and _time_of(c) >= since for c in asked)

    def remains(self) -> Remains:
        """What the run can be resumed from."""
        try:
            steps = self.plan().steps
        except StudioError:
            return Remains()
        finished = {s.node for s in steps if (self.steps / f"{s.fingerprint}.json").is_file()}
        checkpoint = any(self._has_checkpoint(s.node) for s in steps if s.node not in finished)
        failed = (e for e in reversed(_tail(self.events_path)) if e.name == "StepFailed")
        code = next((str(e.get("code") or "") for e in failed), "")
        return Remains(
            checkpoint, len(finished), code if self.finished_status() == "failed" else ""
        )

    def _has_checkpoint(self, node: str) -> bool:
        """Whether something was committed there besides the weights of the best evaluation, which lack the
        state of the optimizer."""
        try:
            names = os.listdir(self.checkpoints(node))
        except OSError:
            return False
        return any(n != _BEST and not n.startswith(("staging-", ".")) for n in names)

    def remove_staging(self) -> None:
        """Remove partial results. Only call it while no step of this run is alive."""
        for path in self.artifacts.glob(f"{STAGING}*"):
            busy_files.tidy(path)


def create_run(
    runs_dir: Path, plan: Plan, graph: Graph, forecast: Forecast | None = None
) -> RunFolder:
    """A new run folder. It appears under its ID complete and at once, even if several are created
    in the same second. Raises ``StudioError`` when it cannot be written."""
    try:
        if not is_utf8(runs_dir):
            raise OSError(errno.EILSEQ, "its name is not valid UTF-8")
        _refuse_length(runs_dir, plan)
        runs_dir.mkdir(parents=True, exist_ok=True)
        draft = runs_dir / f".new-{secrets.token_hex(6)}"
        draft.mkdir()
        try:
            _fill(RunFolder(draft), plan, graph, forecast or {})
            return RunFolder(_claim(runs_dir.resolve(), draft, plan.name))
        except BaseException:
            busy_files.tidy(draft)
            raise
    except OSError as error:
        raise StudioError(
            f"Cannot create the run folder in {runs_dir}: {error.strerror or error}.",
            hint=f"{what_to_do(error)} Or choose another runs folder.".strip(),
            code="runs_folder",
            file=str(runs_dir),
        ) from error


def _refuse_length(runs_dir: Path, plan: Plan) -> None:
    """On Windows, before anything is written: a file that does not fit would end the run in the middle."""
    name = f"00000000-000000-{_slug(plan.name)}-10"
    problem = length_problem(Path(os.path.abspath(runs_dir)), len(name) + 1 + LONGEST_IN_RUN)
    if problem:
        raise StudioError(
            f"{problem}.",
            title="The path of the runs folder is too long",
            hint=LENGTH_HINT,
            code="path_too_long",
            file=str(runs_dir),
        )


def delete_run(folder: RunFolder) -> None:
    """Delete a run with all that it contains, or nothing while a file in it is in use: Windows then refuses to rename
    the folder. Raises ``OSError``."""
    gone = busy_files.free_name(folder.path.with_name(f".deleted-{folder.id}"))
    busy_files.rename(folder.path, gone)
    busy_files.remove_folder(gone)


def _fill(folder: RunFolder, plan: Plan, graph: Graph, forecast: Forecast) -> None:
    for path in (folder.artifacts, folder.steps, folder.path / "checkpoints"):
        path.mkdir()
    write_atomic(folder.graph_path, json_text(to_data(graph), indent=2))
    write_atomic(folder.forecast_path, json.dumps(forecast))
    write_atomic(folder.plan_path, json_text(plan.to_json(), indent=1))


def _claim(runs_dir: Path, draft: Path, name: str) -> Path:
    """Rename the draft to the first free id. A folder that is not empty is never replaced."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(name)}"
    for number in range(1, 10_000):
        target = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        if target.exists():
            continue
        try:
            busy_files.rename(draft, target)
        except OSError:
            if not target.exists():
                raise
            continue
        return target
    raise OSError(f"no free name for {stem}")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "run"


def list_runs(runs_dir: Path) -> list[RunFolder]:
    """Every run in a folder, newest first; other folders and damaged ones are passed over."""
    try:
        found = [RunFolder(p) for p in runs_dir.iterdir() if (p / "plan.json").is_file()]
    except OSError:
        return []
    return sorted((r for r in found if not r.id.startswith(".")), key=_age_key, reverse=True)


def _age_key(folder: RunFolder) -> tuple[str, int, str]:
    stamp, number = folder.id[:15], re.search(r"-(\d+)$", folder.id[15:])
    return stamp, int(number.group(1)) if number else 1, folder.id


def find_run(runs_dir: Path, name: str) -> RunFolder:
    """The run with this id, or at this path; raises ``StudioError`` naming the nearest ids."""
    for path in (runs_dir / name, Path(name)):
        if (path / "plan.json").is_file():
            return RunFolder(path.resolve())
    newest = ", ".join(r.id for r in list_runs(runs_dir)[:3])
    raise StudioError(
        f"There is no run “{name}” in {runs_dir}.",
        hint=f"Latest runs: {newest}." if newest else "The folder contains no runs.",
        code="unknown_run",
    )


def file_name(node: str) -> str:
    """A node ID as a file name: unchanged if plain, else escaped and unique."""
    if _PLAIN_NAME.fullmatch(node) and not _DEVICES.fullmatch(node):
        return node
    digest = hashlib.sha256(node.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_slug(node)}-{digest}"


def read_json(path: Path) -> Any:
    """The JSON in a file; raises ``StudioError`` that names the file."""
    try:
        return parse(read_regular(path))
    except (OSError, ValueError) as error:
        raise StudioError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).",
            hint="The run folder is damaged.",
            code="damaged_run",
            file=str(path),
        ) from error


def append_line(path: Path, line: str, sync: bool = False) -> None:
    """Append one line in a single write, patiently; raises ``OSError`` when it did not fit."""
    busy_files.patiently(lambda: _append(path, line, sync))


def _append(path: Path, line: str, sync: bool) -> None:
    handle = open_for_appending(path)
    try:
        data = line.encode("utf-8")
        size = os.lseek(handle, 0, os.SEEK_END)
        if size > 0:
            os.lseek(handle, size - 1, os.SEEK_SET)
            if os.read(handle, 1) != b"\n":
                data = b"\n" + data
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _head(path: Path) -> list[Event]:
    """The events in the first part of a file."""
    return _part(path, lambda size: 0)


def _tail(path: Path) -> list[Event]:
    """The events in the last part of a file."""
    return _part(path, lambda size: max(0, size - _PART_BYTES))


def _part(path: Path, start: Callable[[int], int]) -> list[Event]:
    try:
        with open_regular(path) as file:
            file.seek(start(file.seek(0, os.SEEK_END)))
            lines = file.read(_PART_BYTES).split(b"\n")
    except OSError:
        return []
    return [e for e in map(from_line, lines) if e is not None]


def _time_of(command: dict[str, Any]) -> float:
    """The Unix time of a command; 0 if it has none."""
    time_ = command.get("time")
    return float(time_) if isinstance(time_, (int, float)) else 0.0


def _age_s(path: Path) -> float:
    try:
        return abs(time.time() - path.stat().st_mtime)  # also if the clock was set back
    except OSError:
        return float("inf")

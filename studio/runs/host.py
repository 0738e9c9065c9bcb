"""The run host: a process of its own that executes one run folder.

``python -m studio.runs.host RUN_DIR`` holds the lock while it lives, so that a killed host shows as
interrupted at once. It prints into ``host.log``, survives whoever started it, and leaves no process
behind. It must not import torch, which the steps do, before it has set the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from bootstrap import in_use
from bootstrap.platforms import cloud_folder
from studio.errors import StudioError
from studio.events import event
from studio.graph.registry import load_registry
from studio.runs import processes
from studio.runs.awake import kept_awake
from studio.runs.control import CommandReader, Control, Watcher, size_of
from studio.runs.environment import threads_of, write_environment
from studio.runs.execute import execute
from studio.runs.failures import failure
from studio.runs.folder import RunFolder, read_json
from studio.runs.lock import HostLock
from studio.runs.sink import EventSink
from studio.shown_text import short
from studio.system import device, hardware, windows
from studio.system.atomic import write_atomic
from studio.system.children import UTF8
from studio.system.paths import is_utf8
from studio.system.settings import load_settings
from studio.system.stored_json import open_for_appending
from studio.system.torch_environment import torch_variables

CLUSTER = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
UNWRITABLE = 4
"""The exit code of a host that could not write the end of its run."""

EXIT_CODES = {
    "completed": 0,
    "failed": 1,
    "stopped": 3,
    "suspended": 3,
    "unwritable": UNWRITABLE,
}
LOCK_PATIENCE_S = 10.0
_ROOT = Path(__file__).resolve().parents[2]
_LARGEST_PID = 1 << 31
_started: list[subprocess.Popen[bytes]] = []

logger = logging.getLogger(__name__)


# ------------------------------------------------------------------ starting a host


def start(
    folder: RunFolder,
    *,
    leave_core: bool = False,
    low_priority: bool = False,
    commands_from: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a host for a run, new or resumed. Commands written from now on are for it, or those
    behind ``commands_from`` bytes. A new run leaves a core free where ``leave_core`` is set and there
    are many; ``low_priority`` lets other programs go first. The process outlives the caller. Raises
    ``OSError`` if the run folder cannot be written or no process can be started."""
    _started[:] = [p for p in _started if p.poll() is None]
    offset = size_of(folder.commands_path) if commands_from is None else commands_from
    command = [
        sys.executable,
        "-P",
        "-m",
        "studio.runs.host",
        str(folder.path.resolve()),
        "--commands-from",
        str(offset),
        *(["--leave-core"] if leave_core else []),
        *(["--low-priority"] if low_priority else []),
    ]
    if not is_utf8(folder.path):
        raise OSError(errno.EILSEQ, "its name is not valid UTF-8", str(folder.path))
    if os.path.lexists(folder.events_path):  # a host that cannot write events cannot report it
        os.close(open_for_appending(folder.events_path))
    with os.fdopen(open_for_appending(folder.log_path), "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(folder),
            cwd=folder.path,
            start_new_session=sys.platform != "win32",
            creationflags=_flags(),
        )
    _started.append(process)
    return process


def _flags() -> int:
    """Windows: a separate process group and no console window."""
    group = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
    return group | int(getattr(subprocess, "CREATE_NO_WINDOW", 0))


def _environment(folder: RunFolder) -> dict[str, str]:
    """The caller's environment, with this program on the path, and the run's mark."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(_ROOT), *(os.path.abspath(p) for p in inherited if p)]
    path = os.pathsep.join(dict.fromkeys(places))
    own = {"PYTHONPATH": path, processes.MARK: processes.mark(folder.path)}
    return {**os.environ, **UTF8, **own}


def host_of(folder: RunFolder) -> tuple[int, float] | None:
    """Process id and creation time of the run's host, alive or dead."""
    try:
        data = read_json(folder.host_path)
        pid, created = int(data["pid"]), float(data["created"])
    except (StudioError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return (pid, created) if 1 < pid < _LARGEST_PID and math.isfinite(created) else None


def kill(folder: RunFolder, process: subprocess.Popen[bytes] | None = None) -> None:
    """Kill the run's host and all its child processes."""
    known = host_of(folder)
    if process is not None and process.poll() is None:
        with contextlib.suppress(psutil.Error):
            created = psutil.Process(process.pid).create_time()
            processes.kill_host(process.pid, created, processes.mark(folder.path))
        process.wait(5)
    if known is not None:
        processes.kill_host(*known, processes.mark(folder.path))


# ------------------------------------------------------------------ inside the host


def main(argv: Sequence[str] | None = None) -> int:
    """Execute the run; returns 0 completed, 1 failed, 3 stopped, 4 unwritable."""
    parser = argparse.ArgumentParser(prog="studio.runs.host")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commands-from", type=int, default=None)
    parser.add_argument("--leave-core", action="store_true")
    parser.add_argument("--low-priority", action="store_true")
    options = parser.parse_args(argv)
    folder = RunFolder(options.folder.resolve())
    if not folder.path.is_dir():
        parser.error(f"{folder.path} does not exist")
    control = Control()
    reader = CommandReader(
        folder.commands_path,
        size_of(folder.commands_path) if options.commands_from is None else options.commands_from,
    )
    _settle(folder, control, options.low_priority)
    lock = HostLock(folder.lock_path)
    try:
        acquired = lock.acquire(LOCK_PATIENCE_S)
    except OSError as error:  # no host can hold it
        try:
            _unprepared(folder, EventSink(folder), error)
        except OSError:
            return UNWRITABLE
        return 1
    if not acquired:
        logger.error("another host runs %s", folder.path)
        return 1
    return _hold(folder, control, reader, options.leave_core)


def _settle(folder: RunFolder, control: Control, low_priority: bool) -> None:
    """Session, mark, priority, signals and output; on Windows its helpers end with it."""
    os.environ[processes.MARK] = processes.mark(folder.path)
    processes.lead_session()
    windows.Job().add()
    processes.set_priority(low_priority)
    processes.adopt_orphans()
    log = open_for_appending(folder.log_path)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stop_on_signals(control)


def stop_on_signals(control: Control) -> None:
    """Stop with a checkpoint when the process is asked to end."""
    for name in processes.stop_signals():
        signal.signal(name, lambda *_: control.request("stop"))
    windows.on_console_close(lambda: control.request("stop"))


def _hold(folder: RunFolder, control: Control, reader: CommandReader, leave_core: bool) -> int:
    """With the lock held: set up, execute, clean up."""
    in_use.hold(f"the run {folder.id}")
    earlier = host_of(folder)
    if earlier is not None and earlier[0] != os.getpid():
        processes.kill_host(*earlier, processes.mark(folder.path))  # helpers of a killed host
    sink = EventSink(folder)
    sink.open()
    set_threads(folder, leave_core)
    watcher = Watcher(control, reader, lambda: _hard_stop(folder, control, sink))
    watcher.start()
    try:
        status = _execute(folder, control, sink)
    except OSError as error:
        logger.error("the end of the run could not be written: %s", error)
        status = "unwritable"
    watcher.end()
    sink.close()
    processes.kill_children()
    return EXIT_CODES[status]


def set_threads(folder: RunFolder, leave_core: bool) -> int:
    """Environment for torch, before anything imports it. A resumed run keeps its thread count,
    because sums in another order differ in the last bits."""
    wanted = threads_of(folder.environment()) or hardware.planned_threads(leave_core)
    os.environ["OMP_NUM_THREADS"] = str(wanted)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.update(torch_variables(os.environ))
    for name in CLUSTER:  # set by a launcher: a run is one process on one device
        os.environ.pop(name, None)
    return wanted


def _execute(folder: RunFolder, control: Control, sink: EventSink) -> str:
    """Read the plan and run it; an error before the first step is reported like any failure."""
    try:
        created = psutil.Process().create_time()
        write_atomic(folder.host_path, json.dumps({"pid": os.getpid(), "created": created}))
        plan = folder.plan()
        registry = load_registry()
        for sentence in registry.failures:
            logger.warning("%s", sentence)
        _tell_lost_threads(folder, sink)
        _tell_cloud(folder, sink)
        device.use(device.wanted_device((s.type, s.settings) for s in plan.steps))
        _tell_other_device(folder, sink)
        write_environment(folder, plan, int(os.environ["OMP_NUM_THREADS"]))
    except Exception as error:
        return _unprepared(folder, sink, error)
    with kept_awake(load_settings().settings.keep_awake, sink.emit):
        return execute(plan, folder, sink.emit, control, registry)


def _tell_lost_threads(folder: RunFolder, sink: EventSink) -> None:
    """Report that a resumed run does not compute with its number of threads."""
    known = folder.environment()
    damaged = folder.environment_path.exists() and not known
    if damaged or (known.get("threads") is not None and threads_of(known) is None):
        sentence = (
            f"{folder.environment_path.name} has no valid number of threads: the run continues with "
            f"{os.environ['OMP_NUM_THREADS']}, and its results may differ in the last digits."
        )
        sink.emit(event("Notice", level="warning", sentence=sentence))


def _tell_other_device(folder: RunFolder, sink: EventSink) -> None:
    """Report that a resumed run continues on another device than before."""
    before, now = folder.environment().get("device"), device.current().label
    if isinstance(before, str) and before and before != now:
        sink.emit(
            event(
                "Notice",
                level="warning",
                sentence=f"This run was on {short(before)} before and continues on {now}: its speed "
                "differs, and its results may differ in the last digits.",
            )
        )


def _tell_cloud(folder: RunFolder, sink: EventSink) -> None:
    """Warn of a run in a folder that a service uploads: gigabytes of checkpoints, and files locked meanwhile."""
    service = cloud_folder(folder.path)
    if service:
        sentence = (
            f"This run is stored in a folder that {service} copies: every checkpoint is uploaded, and files can be "
            "locked meanwhile. Choose another runs folder in the settings, or with --runs."
        )
        sink.emit(event("Notice", level="warning", sentence=sentence))


def _unprepared(folder: RunFolder, sink: EventSink, error: Exception) -> str:
    """Report why the run could not begin."""
    logger.error("the run could not be prepared", exc_info=error)
    sink.emit(event("RunStarted", run=folder.id, name=folder.id, resumed=False, nodes=[]))
    sink.emit(event("StepFailed", None, **failure(error, "The run", folder.path)))
    sink.emit(event("RunFinished", status="failed", seconds=0.0))
    return "failed"


def _hard_stop(folder: RunFolder, control: Control, sink: EventSink) -> NoReturn:
    """Terminate the process at once: the step did not stop in time."""
    control.give_up()
    if sink.finished is None:
        logger.info("the step did not stop in time; ending the process")
        with contextlib.suppress(OSError):
            seconds = time.time() - psutil.Process().create_time()
            status = control.stopped_status()
            sink.emit(event("RunFinished", status=status, seconds=round(seconds, 3)))
    status = str(sink.finished.get("status")) if sink.finished else "stopped"
    processes.kill_children()
    folder.remove_staging()
    sink.close()
    _leave(EXIT_CODES[status])


def _leave(code: int) -> NoReturn:
    """Exit without waiting for threads of libraries, which may hang or crash at exit."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())

"""The entry of LoRA Studio: no argument opens the window, subcommands run without one.

Why: `python3 main.py demo` must work on a machine with nothing but Python, so this file imports
only the standard library, lets the bootstrap bring the rest, and then calls `ui.app` or
`studio.cli`. It must not import either before that, and it must hold no logic of theirs.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import bootstrap
from bootstrap import in_use

COMMANDS = (
    "demo",
    "run",
    "check",
    "tokens",
    "report",
    "estimate",
    "recipe",
    "resume",
    "stop",
    "finish",
    "runs",
    "nodes",
    "trust",
    "doctor",
)
USAGE = """\
LoRA Studio: fine-tune language models with LoRA, in a window or in the terminal.

usage: main.py [PROJECT.studio]                     open the window
       main.py demo [--terminal]                    run the starter project
       main.py run FILE [--set NODE.SETTING=VALUE]... [--runs DIR] [--json]
       main.py check FILE [--json]                  check a project for problems
       main.py tokens FILE [--row N] [--json]       show rows as the model sees them
       main.py report FILE [--fix ID] [--json]      analyze all rows of the data
       main.py estimate FILE [--fit] [--json]       estimate memory, parameters, steps and time
       main.py recipe FILE [--apply] [--json]       recommend values for a training, with reasons
       main.py resume RUN                           resume an interrupted run
       main.py stop RUN                             save a checkpoint and stop a run
       main.py finish RUN                           end the training now, then merge, export, evaluate
       main.py runs [--json]                        list runs
       main.py nodes [--json]                       list node types and their settings
       main.py trust MODEL [--show] [--revoke]      review the custom code of a model and trust it
       main.py doctor                               versions, devices, memory, supported features
       main.py --version | --help

The first start creates an environment in .venv. As root on Debian and Ubuntu it asks whether to
install system packages that are missing. In a terminal, run and demo ask whether to install optional
packages that the project needs. --yes answers in advance. Exit codes: 0 completed, 1 failed,
2 invalid arguments or problems in the project, 3 stopped, 4 completed with an export that failed its
check.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the given command; returns the exit code."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        bootstrap.say("\nStopped.")
        return 3


def _main(arguments: list[str]) -> int:
    if arguments[:1] != ["trust"]:  # its own --yes names what is trusted
        arguments = bootstrap.without_yes(arguments)
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if first in ("-V", "--version"):
        from studio import __version__

        print(f"lora-studio {__version__}")
        return 0
    if first in COMMANDS:
        return _command(arguments)
    if not arguments or (len(arguments) == 1 and first.lower().endswith(".studio")):
        return _window(arguments)
    print(f"{USAGE}\nunknown arguments: {' '.join(arguments)}", file=sys.stderr)
    return 2


def _prepare(arguments: Sequence[str]) -> None:
    """Return if all packages are installed; otherwise continue in the environment that has them."""
    patient = arguments[:1] not in (["stop"], ["finish"], ["runs"])
    bootstrap.ensure([str(Path(__file__).resolve()), *arguments], patient=patient)
    if not arguments or arguments[0] not in COMMANDS:
        in_use.hold("the window")
    elif patient:
        in_use.hold(f"main.py {arguments[0]}")


def _command(arguments: list[str]) -> int:
    _prepare(arguments)
    if arguments == ["demo"] and display_available():
        from bootstrap import qt

        problem = qt.window_problem()
        if problem is None:
            from ui.app import run_demo

            return run_demo()
        bootstrap.say(f"{problem}\nThe window cannot open, so the demo runs in the terminal.")
    from studio.cli import main as cli_main

    if arguments[0] == "demo":
        arguments = [argument for argument in arguments if argument != "--terminal"]
    return cli_main(arguments)


def _window(arguments: list[str]) -> int:
    if not display_available() and not os.environ.get("QT_QPA_PLATFORM"):
        bootstrap.say(
            "No display is available to open the window. Use `main.py demo` or `main.py run FILE` "
            "instead; `main.py --help` lists all commands."
        )
        return 1
    _prepare(arguments)
    gc.disable()  # while modules are imported, until the session enables it after the first paint
    from bootstrap import qt

    problem = qt.window_problem()
    if problem:
        bootstrap.say(f"The window cannot open: {problem}")
        return 1
    from ui.app import run_window

    return run_window(arguments[0] if arguments else None)


def display_available(
    environment: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> bool:
    """Whether a display server is available and answers."""
    if environment.get("QT_QPA_PLATFORM", "").startswith(("offscreen", "minimal")):
        return False
    if platform in ("win32", "darwin"):
        return not environment.get("SSH_CONNECTION")
    return _wayland_answers(environment) or _x11_answers(environment.get("DISPLAY", ""))


def _wayland_answers(environment: Mapping[str, str]) -> bool:
    name = environment.get("WAYLAND_DISPLAY", "")
    folder = environment.get("XDG_RUNTIME_DIR", "")
    if not name or not (folder or name.startswith("/")):
        return False
    return _unix_answers(str(Path(folder) / name))


def _x11_answers(display: str) -> bool:
    """DISPLAY is [host]:number[.screen]; a path in it (macOS) or an odd host is trusted."""
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"
        return _unix_answers(path) or _unix_answers("\0" + path)
    if "/" in host:
        return True
    try:
        with socket.create_connection((host, 6000 + int(number)), timeout=2):
            return True
    except OSError:
        return False


def _unix_answers(path: str) -> bool:
    if not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())

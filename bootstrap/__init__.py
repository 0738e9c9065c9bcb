"""Brings a bare Python to the point where LoRA Studio can run, then hands over.

Why: `python3 main.py` and `python3 -m tests` must work on a machine that has nothing but Python
3.11+ and the system's package manager. `ensure()` returns when this interpreter can run the
studio; otherwise it sets up `.venv` beside the sources and continues there with the same
arguments.

It must not import anything outside the standard library, must not write to standard output
(`run --json` owns it), and must cost next to nothing once the environment is ready.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bootstrap import platforms, requirements

HANDED_OVER = "LORA_STUDIO_BOOTSTRAPPED"
YES = "LORA_STUDIO_YES"
SOURCE = Path(__file__).resolve().parent.parent


class BootstrapError(Exception):
    """An expected failure, described in one sentence; `details` is the tail of a tool's output."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details


def say(text: str) -> None:
    """Write one line to standard error."""
    print(text, file=sys.stderr, flush=True)


def without_yes(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--yes``, which permits this process and those that it starts to install
    system packages."""
    if "--yes" in arguments:
        os.environ[YES] = "1"
    return [argument for argument in arguments if argument != "--yes"]


def ensure(restart: Sequence[str], extras: Sequence[str] = (), patient: bool = True) -> None:
    """Return when this interpreter has all packages, else set them up and start over in `.venv`.

    `restart` is what follows the interpreter on the command line. A set-up waits for runs that use
    the environment; what stops a run is not `patient` and uses the packages that are there.
    Failures end the process with exit code 1 and a sentence.
    """
    try:
        _ensure(list(restart), list(extras), patient)
    except BootstrapError as error:
        if error.details:
            say(error.details.rstrip())
        say(f"LoRA Studio could not be set up: {error.sentence}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again to continue.")
        raise SystemExit(130) from None


def _ensure(restart: list[str], extras: list[str], patient: bool) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (this file must run on older ones, to say so)
        raise BootstrapError(platforms.old_python())
    handed_over = os.environ.pop(HANDED_OVER, "")
    installed = not (SOURCE / "pyproject.toml").is_file()
    venv = None if installed else requirements.venv_path(SOURCE)
    covered = venv is not None and requirements.stamp_covers(venv, SOURCE, extras)
    settled = venv is not None and covered and (handed_over or requirements.torch_settled(venv))
    inside = venv is not None and _inside(venv)
    if inside and settled:
        return
    missing = requirements.missing(requirements.needed(SOURCE, extras))
    if not missing and not (inside and covered):
        return
    if venv is None:
        raise BootstrapError(_installed_sentence(missing))
    if handed_over:
        raise BootstrapError(
            f"{', '.join(missing)} cannot be found in {venv}. Delete that folder and start again."
        )
    if not settled:
        from bootstrap import in_use, install

        if patient or not in_use.users(venv):
            install.set_up(SOURCE, venv, extras)
    _hand_over(requirements.venv_python(venv), restart)


def _inside(venv: Path) -> bool:
    return Path(sys.prefix).resolve() == venv.resolve()


def _installed_sentence(missing: list[str]) -> str:
    guard = requirements.pyside_problem()
    return guard or (
        f"this installation lacks {', '.join(missing)}. "
        f"Install it again: {sys.executable} -m pip install --upgrade lora-studio"
    )


def _hand_over(python: Path, restart: list[str]) -> NoReturn:
    """Continue as `python` with the same arguments; never returns."""
    os.environ[HANDED_OVER] = "1"
    command = [str(python), *restart]
    if os.name == "posix":
        os.execv(command[0], command)
    import subprocess

    process = subprocess.Popen(command)
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            continue  # the child received the signal too and handles it

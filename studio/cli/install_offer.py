"""Before a run: offers to install the optional packages that its problems name, in a terminal.

Nobody is asked where nobody can answer, and ``--yes`` answers in advance. Without the package the problem stands as it
is, with the command. Everything goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from bootstrap import YES
from studio.cli.terminal import draw
from studio.errors import Problem, StudioError
from studio.shown_text import line
from studio.system import pip_install
from studio.system.optional_packages import OptionalPackage, of_problem


def install_missing(problems: Iterable[Problem], *, as_json: bool) -> bool:
    """Install, after a yes, what the problems name; whether something was installed."""
    missing = dict.fromkeys(filter(None, (of_problem(p.code) for p in problems)))
    installed = [_offered(package, as_json) for package in missing]
    return any(installed)


def _offered(package: OptionalPackage, as_json: bool) -> bool:
    yes = os.environ.get(YES, "") not in ("", "0")
    if not yes and (as_json or not (sys.stdin.isatty() and sys.stderr.isatty())):
        return False
    why = pip_install.refusal(package)
    if why and not yes:
        return False  # the problem says what can be done
    if not yes and not _wanted(package):
        return False
    progress = _Progress()
    try:
        result = pip_install.install(package, progress.tell)
    except StudioError as error:
        progress.end(f"{error.sentence} {error.hint}".strip())
        return False
    except KeyboardInterrupt:
        progress.end(f"{package.title} was not installed.")
        raise
    progress.end(result)
    return True


def _wanted(package: OptionalPackage) -> bool:
    _say(f"{package.title} is not installed. {package.without}")
    size = f"{package.download_mb} MB to download, {package.disk_mb} MB on disk"
    print(f"Install it now ({size})? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in ("", "y", "yes")


class _Progress:
    """A line that is rewritten in a terminal, and one line for each phase elsewhere."""

    def __init__(self) -> None:
        self._live, self._shown, self._phase = sys.stderr.isatty(), "", ""

    def tell(self, words: str, share: float | None) -> None:
        text = words if share is None else f"{words}: {100 * share:.0f} %"
        if self._live and text != self._shown:
            draw(f"\r\x1b[2K{line(text)}", error=True)
            sys.stderr.flush()
        elif not self._live and words != self._phase:
            _say(f"{words} ...")
        self._shown, self._phase = text, words

    def end(self, sentence: str) -> None:
        if self._live and self._shown:
            draw("\r\x1b[2K", error=True)
        _say(sentence)


def _say(sentence: str) -> None:
    print(line(sentence), file=sys.stderr, flush=True)

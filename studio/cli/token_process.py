"""The helper process that has the tokenizer, followed line by line.

Progress is told on standard error: on one line of a terminal, elsewhere only what takes long. The
helper ends with its reader; what a crash of it says is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

MODULE = "studio.training.token_host"
LONG = ("download", "import")
GRACE_S = 3.0
_ROOT = Path(__file__).resolve().parents[2]


class TokenProcess:
    """Runs the helper with what it is asked; ``code`` is the exit code of the command after it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.code = 1
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115 - closed in __exit__
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, encoding="utf-8", env=_environment(),
        )  # fmt: skip
        self._line = ""
        self._title = ""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end says why
            json.dump(asked, self._process.stdin)
            self._process.stdin.close()

    def __enter__(self) -> TokenProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._erase()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def messages(self) -> Iterator[Mapping[str, Any]]:
        """Everything but progress and notices, until the helper ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = _message(line)
            if "progress" in message:
                self._progress(message["progress"])
            elif "notice" in message:
                self._say(message["notice"])
            elif message:
                self._erase()
                yield message
        self.code = 0 if self._process.wait() == 0 else self._crashed()

    def _crashed(self) -> int:
        self._errors.seek(0)
        print(self._errors.read().rstrip(), file=sys.stderr)
        self._say(f"The rows could not be shown: the helper ended with {self._process.returncode}.")
        return 1

    def _progress(self, told: Mapping[str, Any]) -> None:
        title = told.get("title")
        if title is not None:
            self._title = title
            if not sys.stderr.isatty() and told["phase"] in LONG:
                self._say(f"{title} ...")
        if sys.stderr.isatty() and self._title:
            share = f" {told['share']:.0%}" if "share" in told else ""
            self._erase()
            self._line = f"{self._title}{share} ..."
            print(self._line, end="", file=sys.stderr, flush=True)

    def _say(self, sentence: str) -> None:
        self._erase()
        print(sentence, file=sys.stderr, flush=True)

    def _erase(self) -> None:
        if self._line:
            print("\r" + " " * len(self._line) + "\r", end="", file=sys.stderr, flush=True)
            self._line = ""


def _message(line: str) -> Mapping[str, Any]:
    """A line of the helper; what a library prints is none."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _environment() -> dict[str, str]:
    """Ours, with this program found from any folder."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(_ROOT), *(os.path.abspath(p) for p in inherited if p)]
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip

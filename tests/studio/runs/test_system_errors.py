"""Errors of the operating system end in a sentence that names file or folder and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.errors import StudioError
from studio.graph.document import Document
from studio.graph.project import (
    load_project,
    read_journal,
    save_project,
    write_journal,
)
from studio.runs import execute
from studio.runs.failures import as_studio_error, failure
from studio.system.settings import AppSettings, load_settings, save_settings
from tests.damaged import DEEP, put, unix
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import events_of, finished, follow

WORDS = {
    errno.EIO: "disk or its connection has failed",
    errno.ESTALE: "network folder",
    errno.EROFS: "mounted read-only",
    errno.EACCES: "permissions",
    errno.EPERM: "permissions",
    errno.ENOTDIR: "file stands where a folder",
    errno.EISDIR: "folder stands where a file",
    errno.EEXIST: "Rename or remove",
    errno.ENOTEMPTY: "Rename or remove",
    errno.ELOOP: "circle",
    errno.ENOENT: "moved or deleted",
    errno.ENAMETOOLONG: "shorter name",
    errno.EMFILE: "Too many files are open",
    errno.ENFILE: "Too many files are open",
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Free some space",
    errno.EBUSY: "Another program",
    errno.ENODEV: "connected",
    errno.ENXIO: "connected",
    errno.ENOTCONN: "connected",
    errno.ETIMEDOUT: "connected",
    errno.ENOLCK: "locks",
    errno.EINVAL: "does not support",
    errno.EXDEV: "same disk",
    errno.EILSEQ: "UTF-8",
}


def of(number: int, file: str | bytes | None = "/mnt/x/file") -> OSError:
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize("number", WORDS, ids=lambda n: errno.errorcode[n])
def test_each_error_has_its_own_words(tmp_path: Path, number: int) -> None:
    reported = failure(of(number), "Merge", tmp_path)
    assert reported["code"] != "bug"
    assert "trace" not in reported
    assert reported["sentence"].startswith("Merge: ")
    assert "/mnt" in reported["sentence"]
    assert WORDS[number] in reported["hint"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS, errno.EMFILE])
def test_the_folder_is_named_when_the_error_names_nothing(tmp_path: Path, number: int) -> None:
    """As for a write to an open file."""
    reported = failure(of(number, None), "Train", tmp_path)
    assert str(tmp_path) in reported["sentence"]
    assert os.strerror(number) in reported["sentence"]


def test_errors_outside_of_a_run_name_what_is_known() -> None:
    """A command, or the window: there is no step, and no folder that it writes to."""
    known = [as_studio_error(of(number, None)) for number in (errno.EIO, errno.ENOSPC)]
    assert [e.sentence for e in known if e is not None] == [
        f"Cannot read or write a file: {os.strerror(errno.EIO)}.",
        "The disk is full.",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be deleted")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "x.studio"),
        ("trust", "abc"),
        ("trust", "./abc"),
        ("run", "FILE", "--runs", "runs"),
        ("runs", "--runs", "runs"),
        ("estimate", "x.studio"),
        ("stop", "x", "--runs", "runs"),
    ],
    ids=" ".join,
)
def test_commands_in_a_folder_that_was_deleted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """As when the folder of a terminal was removed in another one."""
    file = toy_runs.project(tmp_path)
    place = tmp_path / "deleted"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    code = main([str(file) if a == "FILE" else a for a in arguments])
    shown = capsys.readouterr()
    assert code in (0, 1, 2)
    assert shown.out or shown.err
    assert "Errno" not in shown.err
    assert Document().project_dir.is_dir()


def wrapped(inner: BaseException, outer: Exception) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


LIBRARIES: dict[str, Callable[[], Exception]] = {
    "safetensors": lambda: RuntimeError(
        "Error while serializing: I/O error: Input/output error (os error 5)"
    ),
    "tokenizers": lambda: Exception("Read-only file system (os error 30)"),
    "arrow": lambda: RuntimeError(
        "[Errno 5] Error writing bytes to file. Detail: [errno 5] Input/output error"
    ),
    "wrapped once": lambda: wrapped(of(errno.EIO), RuntimeError("writing failed")),
    "wrapped twice": lambda: wrapped(
        wrapped(of(errno.ESTALE), ValueError("x")), RuntimeError("generation failed")
    ),
    "full, in Rust": lambda: Exception("No space left on device (os error 28)"),
    "bytes": lambda: of(errno.EIO, b"/mnt/\xff"),
    "not UTF-8": lambda: wrapped(
        UnicodeEncodeError("utf-8", "/a/\udcff", 3, 4, "surrogates not allowed"), ValueError("x")
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_errors_of_libraries_are_understood(tmp_path: Path, library: str) -> None:
    reported = failure(LIBRARIES[library](), "Export", tmp_path)
    assert reported["code"] != "bug"
    assert reported["hint"]


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ValueError("x"), RuntimeError("x"), OSError("x"), BrokenPipeError(32, "pipe")],
)
def test_what_is_no_error_of_the_system_stays_a_bug(tmp_path: Path, error: Exception) -> None:
    assert as_studio_error(error, "Train", tmp_path) is None
    assert failure(error, "Train", tmp_path)["code"] == "bug"


SAVED = (errno.EIO, errno.ENOTDIR, errno.ESTALE, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG)


@pytest.mark.parametrize("number", SAVED, ids=lambda n: errno.errorcode[n])
@pytest.mark.parametrize("place", ["write_record", "_put_in_place", "files_of"])
def test_a_result_that_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    """The run fails in words; once the disk works again, it is resumed and completes."""
    run = toy_runs.folder(tmp_path)
    real = getattr(execute, place)

    def failing(*arguments: Any) -> Any:
        raise of(number, str(run.artifacts))

    monkeypatch.setattr(execute, place, failing)
    assert toy_runs.run_here(run) == "failed"
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert failed.get("code") != "bug"
    assert str(run.path) in failed.get("sentence")
    assert "resume the run" in failed.get("hint")
    monkeypatch.setattr(execute, place, real)
    assert toy_runs.run_here(run) == "completed"


@pytest.mark.parametrize("number", SAVED, ids=lambda n: errno.errorcode[n])
def test_an_event_that_cannot_be_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The run ends with the reason: later events fit again."""
    from studio.runs import folder

    run = toy_runs.folder(tmp_path)
    real, count = folder.append_line, [0]

    def failing(path: Path, line: str, sync: bool = False) -> None:
        count[0] += 1
        if count[0] == 6:
            raise of(number, str(path))
        real(path, line, sync)

    monkeypatch.setattr(folder, "append_line", failing)
    caught = run_quietly(run)
    assert caught == "failed"
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert str(run.path) in failed.get("sentence")
    assert failed.get("hint")


def run_quietly(run: toy_runs.RunFolder) -> str:
    import logging

    logging.disable(logging.ERROR)
    try:
        return toy_runs.run_here(run)
    finally:
        logging.disable(logging.NOTSET)


# ------------------------------------------------------------------ real disks and limits


def mounted(place: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no right to mount a file system")


def test_a_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run there cannot be resumed, a project not saved, settings not stored: each in words."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted(place, "size=4m")
    try:
        run = toy_runs.folder(place)
        file = toy_runs.project(place)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        watch = toy_runs.start(run)
        (failed,) = [e for e in follow(watch) if e.name == "StepFailed"]
        assert watch.status == "failed"
        assert str(run.path) in failed.get("sentence")
        assert "read-only" in failed.get("hint")
        assert main(["resume", str(run.path)]) == 1
        assert "read-only" in capsys.readouterr().out
        assert main(["run", str(file), "--runs", str(place / "runs")]) == 2
        assert "mounted read-only" in capsys.readouterr().err
        with pytest.raises(StudioError, match="Read-only") as caught:
            save_project(file, load_project(file))
        assert "mounted read-only" in caught.value.hint
        with pytest.raises(StudioError, match="Read-only"):
            save_settings(AppSettings(), place / "settings.toml")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Every file that this process may open is open."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + 64, before[1]))
    opened = [first]
    try:
        while True:
            try:
                opened.append(os.dup(first))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for handle in opened:
            os.close(handle)


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_too_many_open_files(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    with no_more_files():
        watch = toy_runs.start(run)
    (failed,) = [e for e in follow(watch) if e.name == "StepFailed"]
    assert "Too many files are open" in failed.get("hint")
    follow(toy_runs.start(run))
    assert finished(run) == ["completed"]


LONG = "x" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", LONG),
        ("check", f"/tmp/{LONG}.studio"),
        ("run", "FILE", "--runs", f"/tmp/{LONG}"),
        ("run", "FILE", "--runs", "FILE/runs"),
        ("run", "FILE", "--runs", "FILE"),
        ("check", "FILE/nothing"),
        ("check", "FOLDER"),
        ("check", "PIPE"),
        ("check", "LOOP"),
        ("check", "/dev/zero"),
        ("resume", LONG),
        ("resume", "FILE/x"),
        ("stop", LONG),
        ("runs", "--runs", LONG),
        ("runs", "--runs", "FILE"),
        ("tokens", LONG),
        ("estimate", LONG),
        ("report", LONG),
        ("recipe", LONG),
        ("check", "FILE", "--set", f"source.file={LONG}"),
        ("check", "FILE", "--set", "source.file=FOLDER"),
        ("check", "FILE", "--set", "source.file=LOOP"),
        ("check", "FILE", "--set", "source.file=a\x00b"),
        ("trust", LONG),
    ],
    ids=lambda a: " ".join(str(part)[:20] for part in a),
)
def test_names_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """Too long, a file in place of a folder, pipes, links in a circle: a short sentence, never a trace."""
    file = toy_runs.project(tmp_path)
    (tmp_path / "folder").mkdir()
    if any("PIPE" in a for a in arguments):
        os.mkfifo(tmp_path / "pipe")
    if any("LOOP" in a for a in arguments):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
    places = {"FILE": file, "FOLDER": tmp_path / "folder", "PIPE": tmp_path / "pipe"}
    places["LOOP"] = tmp_path / "loop"
    given = list(arguments)
    for name, path in places.items():
        given = [a.replace(name, str(path)) for a in given]
    code = main(given)
    shown = capsys.readouterr()
    assert code in (0, 1, 2)
    assert code == 0 or shown.err
    assert len(shown.err) < 4000
    assert "bug" not in shown.err
    assert "Errno" not in shown.err


@unix
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "deep", "text"])
def test_odd_journals_and_settings(tmp_path: Path, kind: str) -> None:
    """Neither the journal of a project nor the settings keep anything from opening or saving."""
    file = toy_runs.project(tmp_path)
    graph = load_project(file)
    write_journal(file, graph)
    journal, settings = tmp_path / f".{file.name}.autosave", tmp_path / "settings.toml"
    texts = {"deep": f"a = {DEEP}", "text": "\x00"}
    for path in (journal, settings):
        put(path, "file" if kind in texts else kind)
        if kind in texts:
            path.write_text(texts[kind], encoding="utf-8")
    assert read_journal(file) is None
    save_project(file, graph)
    loaded = load_settings(settings)
    assert loaded.settings == AppSettings()
    assert "settings.toml" in loaded.notice


@pytest.mark.skipif(os.name == "nt", reason="there the whole path is limited")
def test_a_project_whose_name_leaves_no_room_for_a_journal(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 240 + ".studio")
    os.rename(toy_runs.project(tmp_path), file)
    graph = load_project(file)
    assert read_journal(file) is None
    with pytest.raises(StudioError, match="File name too long") as caught:
        save_project(file, graph)
    assert "shorter name" in caught.value.hint

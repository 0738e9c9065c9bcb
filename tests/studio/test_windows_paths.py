"""Names and paths as Windows has them, on a system that is made to look like it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bootstrap import platforms, requirements
from studio.cli import report
from studio.errors import StudioError
from studio.export_folder import folder
from studio.export_folder.folder import refusal, replaced
from studio.runs.failures import failure
from studio.runs.folder import LONGEST_IN_RUN, create_run
from studio.system import device, paths
from studio.system.torch_report import TorchReport
from tests.studio.runs import toy_runs

elsewhere = pytest.mark.skipif(sys.platform == "win32", reason="about other systems")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows without long paths."""
    monkeypatch.setattr(sys, "platform", "win32")
    for module in (paths, platforms):
        monkeypatch.setattr(module, "long_paths", lambda: False)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Small talk", "Small talk"),
        ("Qwen/Qwen3: better?", "Qwen-Qwen3- better-"),
        ('a<b>|"c"*\\', "a-b--"),
        ("con", "_con"),
        ("NUL.v2", "_NUL.v2"),
        ("LPT1 .x", "_LPT1 .x"),
        ("console", "console"),
        ("ends with dots. . ", "ends with dots"),
        ("日本 ü", "日本 ü"),
        ("", "untitled"),
        ("...", "untitled"),
    ],
)
def test_a_project_name_as_a_file_name(name: str, file: str) -> None:
    assert paths.file_name(name).startswith(file)
    assert paths.file_name(paths.file_name(name)) == paths.file_name(name)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out: final", "“out: final” contains a character"),
        ("what?", "“what?” contains a character"),
        ("nul", "does not allow the name “nul”"),
        ("trailing.", "does not allow the name “trailing.”"),
        ("x" * 250, "too long"),
    ],
)
def test_an_export_folder_that_windows_cannot_create(tmp_path: Path, name: str, words: str) -> None:
    found = refusal(tmp_path / name / "model")
    assert found is not None
    assert words in found[0]


@elsewhere
def test_other_systems_allow_these_names(tmp_path: Path) -> None:
    assert refusal(tmp_path / "out: final?" / "nul") is None


@pytest.mark.usefixtures("windows")
def test_a_runs_folder_that_is_too_long_is_refused_before_the_run(tmp_path: Path) -> None:
    plan, graph = toy_runs.plan(tmp_path), toy_runs.graph()
    deep = tmp_path / ("d" * (200 - len(str(tmp_path))))
    with pytest.raises(StudioError, match=r"Windows allows 259") as caught:
        create_run(deep, plan, graph)
    assert "LongPathsEnabled" in (caught.value.hint or "")
    assert not deep.exists()


@elsewhere
def test_long_paths_are_no_problem_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * (200 - len(str(tmp_path))))
    assert create_run(deep, toy_runs.plan(tmp_path), toy_runs.graph()).path.is_dir()


def test_the_paths_in_a_run_are_not_longer_than_assumed(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    assert toy_runs.run_here(run) == "completed"
    longest = max(len(str(p.relative_to(run.path))) for p in run.path.rglob("*"))
    assert longest + len(".staging-") <= LONGEST_IN_RUN


def test_store_python_gets_folders_outside_appdata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORA_STUDIO_HOME", raising=False)
    monkeypatch.delenv("LORA_STUDIO_CACHE", raising=False)
    monkeypatch.setattr(paths, "store_python", lambda: True)
    home = Path.home() / "lora-studio"
    assert paths.runs_dir() == home / "data" / "runs"
    assert paths.cache_dir() == home / "cache"


def test_a_run_in_a_cloud_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.runs import host
    from studio.runs.sink import EventSink

    monkeypatch.setenv("OneDrive", str(tmp_path))
    run = toy_runs.folder(tmp_path)
    sink = EventSink(run)
    sink.open()
    host._tell_cloud(run, sink)
    sink.close()
    assert "OneDrive copies" in run.events_path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("platform", "command"), [("win32", "py main.py"), ("linux", "python3 main.py")]
)
def test_the_command_to_resume_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, platform: str, command: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    assert report._program().replace('"', "") == command


def test_a_store_python_is_started_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "base_prefix", r"C:\Program Files\WindowsApps\Python.3.13_x64")
    assert requirements.launcher() == "python"


def test_an_old_runtime_is_a_sentence_with_the_way_out(tmp_path: Path) -> None:
    error = OSError(
        "[WinError 1114] A dynamic link library (DLL) routine failed. Error loading c10.dll"
    )
    fields = failure(error, "Train", tmp_path)
    assert fields["code"] == "old_runtime"
    assert "winget install" in fields["hint"]
    assert "python.org" in fields["hint"]


def test_a_folder_is_tested_by_writing_once_and_again_for_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[Path] = []
    monkeypatch.setattr(folder, "writable", lambda place: tested.append(place) or True)
    for _edit in range(3):
        assert refusal(tmp_path / "model") is None
    assert tested == [tmp_path]
    with replaced(tmp_path / "model"):
        pass
    assert tested == [tmp_path, tmp_path]
    monkeypatch.setattr(folder, "writable", lambda place: False)  # while os.access would allow it
    with pytest.raises(StudioError, match="not writable"), replaced(tmp_path / "other"):
        pass


def test_a_torch_that_an_old_runtime_keeps_from_loading_is_not_blamed_on_the_environment() -> None:
    report = TorchReport(
        error="OSError: [WinError 1114] Error loading c10.dll or one of its dependencies."
    )
    why = device.unused(report)
    assert why is not None
    assert "winget install" in why.hint
    assert ".venv" not in why.hint
    other = device.unused(TorchReport(error="ImportError: no module named torch"))
    assert other is not None
    assert ".venv" in other.hint

"""The bootstrap: what it decides, what it repairs, and that it needs nothing but Python.

Why: it runs before anything else can, on machines we never see. No test here uses the network;
pip is replaced only where it would download.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap
import main
from bootstrap import BootstrapError, install, progress, requirements, system, torch_source

ROOT = Path(__file__).resolve().parent.parent
ENTRY_FILES = [ROOT / "main.py", ROOT / "tests" / "__main__.py", *(ROOT / "bootstrap").glob("*.py")]


# ---------------------------------------------------------------- standard library only


@pytest.mark.parametrize("path", ENTRY_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_entry_files_import_only_the_standard_library_at_the_top(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "bootstrap"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        assert {name.partition(".")[0] for name in names} <= allowed, ast.unparse(node)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_work_on_a_bare_python(option: str) -> None:
    command = [sys.executable, "-S", "-E", str(ROOT / "main.py"), option]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "LoRA Studio" in result.stdout or result.stdout.startswith("lora-studio 0.")
    assert result.stderr == ""


def test_version_is_the_same_everywhere() -> None:
    import tomllib

    from studio import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


def test_unknown_argument_is_refused_before_anything_is_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "ensure", lambda *_: pytest.fail("must not set up"))
    assert main.main(["trian"]) == 2
    assert "unknown arguments: trian" in capsys.readouterr().err


# ---------------------------------------------------------------- where torch comes from

LINUX, WINDOWS, MAC = "linux", "win32", "darwin"
PLAIN, CPU, CUDA = torch_source.PLAIN, torch_source.CPU, torch_source.CUDA_INDEX


@pytest.mark.parametrize(
    ("platform", "machine", "nvidia", "own_index", "override", "labels"),
    [
        (LINUX, "x86_64", False, False, "", [CPU.label, PLAIN.label]),
        (LINUX, "x86_64", False, True, "", [PLAIN.label, CPU.label]),
        (LINUX, "x86_64", True, False, "", [PLAIN.label]),
        (LINUX, "aarch64", False, False, "", [CPU.label, PLAIN.label]),
        (WINDOWS, "AMD64", True, False, "", [CUDA.label]),
        (WINDOWS, "AMD64", True, True, "", [PLAIN.label, CUDA.label]),
        (WINDOWS, "AMD64", False, False, "", [PLAIN.label]),
        (WINDOWS, "ARM64", True, False, "", [PLAIN.label]),
        (MAC, "arm64", False, False, "", [PLAIN.label]),
        (WINDOWS, "AMD64", True, False, "cpu", [CPU.label]),
        (LINUX, "x86_64", False, False, "cuda", [CUDA.label]),
        (LINUX, "x86_64", False, False, "default", [PLAIN.label]),
        (LINUX, "x86_64", False, False, "https://a.test/w", ["https://a.test/w"]),
    ],
)
def test_torch_sources_in_order(
    platform: str, machine: str, nvidia: bool, own_index: bool, override: str, labels: list[str]
) -> None:
    found = torch_source.candidates(platform, machine, nvidia, own_index, override)
    assert [source.label for source in found] == labels


def test_windows_with_a_gpu_never_keeps_a_cpu_build() -> None:
    for source in torch_source.candidates(WINDOWS, "AMD64", nvidia=True, own_index=True):
        assert not torch_source.acceptable("2.13.0", source)
        assert not torch_source.acceptable("2.13.0+cpu", source)
        assert torch_source.acceptable("2.13.0+cu130", source)
    assert CUDA.arguments() == [
        "torch==2.13.0+cu130",
        "--extra-index-url",
        "https://download.pytorch.org/whl/cu130",
    ]


def test_another_version_of_torch_is_not_acceptable() -> None:
    assert torch_source.acceptable("2.13.0+cpu", PLAIN)
    assert not torch_source.acceptable("2.12.1", PLAIN)
    assert not torch_source.acceptable("", PLAIN)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", False),
        ("global.index-url='https://mirror.test/simple'", False),
        ("global.find-links='/wheels'", True),
        (":env:.extra-index-url='https://a.test/simple'", True),
        (":env:.find-links=''", False),
        ("install.no-index='true'", True),
    ],
)
def test_pip_settings_that_name_places_come_first(config: str, expected: bool) -> None:
    assert torch_source.names_own_index(config) is expected


def test_an_index_that_does_not_answer_is_given_up_quickly() -> None:
    assert not torch_source.reachable("http://127.0.0.1:9/whl/cpu", timeout_s=0.5)


def test_torch_is_installed_from_the_next_source_when_the_first_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def pip(self: install.Setup, arguments: list[str]) -> tuple[int, str]:
        calls.append(arguments)
        if CUDA.index in arguments:
            _package(self.venv, "torch", "2.13.0+cu130")
        else:
            _package(self.venv, "torch", "2.13.0")  # what PyPI has for Windows
        return 0, ""

    venv = _fake_venv(tmp_path)
    monkeypatch.setattr(install.Setup, "pip", pip)
    monkeypatch.setattr(
        install, "sources_here", lambda _: torch_source.candidates(WINDOWS, "AMD64", True, True)
    )
    install.install_torch(_setup(tmp_path, venv))
    assert [CUDA.index in call for call in calls] == [False, True]


def test_failure_without_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = "WARNING: Retrying ... NewConnectionError: Failed to establish a new connection"
    monkeypatch.setattr(install.Setup, "pip", lambda *_: (1, tail))
    monkeypatch.setattr(install, "sources_here", lambda _: [PLAIN])
    with pytest.raises(BootstrapError, match="cannot be reached") as caught:
        install.install_torch(_setup(tmp_path, _fake_venv(tmp_path)))
    assert caught.value.details == tail


# ---------------------------------------------------------------- requirements and stamp


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.13", "==2.13.0", True),
        ("2.14.0", "==2.13.0", False),
        ("6.11.3", ">=6.8,<6.12", True),
        ("6.12.0", ">=6.8,<6.12", False),
        ("5.23.0", ">=5.20,<6", True),
        ("5.9.0", ">=5.20,<6", False),
        ("1.0", "", True),
    ],
)
def test_version_limits(version: str, specifier: str, expected: bool) -> None:
    assert requirements.satisfies(version, specifier) is expected


def test_python_markers_choose_the_pyside_line() -> None:
    old, new = [text for text in requirements.declared(ROOT) if text.startswith("PySide6")]
    assert requirements.applies(old, (3, 11))
    assert not requirements.applies(old, (3, 12))
    assert not requirements.applies(new, (3, 11))
    assert requirements.applies(new, (3, 13))


def test_metadata_spelling_of_a_requirement_is_read() -> None:
    text = "pyside6-essentials (<6.12,>=6.8) ; python_version < '3.12'"
    assert requirements.split(text) == ("pyside6-essentials", "<6.12,>=6.8")


def test_constraints_pin_what_the_project_asks_for() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pinned[name.lower().replace("_", "-")] = version
    for text in requirements.declared(ROOT, ["test"]):
        if requirements.applies(text, (3, 11)):
            name, specifier = requirements.split(text)
            assert requirements.satisfies(pinned[name.lower()], specifier), text


def test_pyside_that_crashes_is_refused_with_a_sentence() -> None:
    assert "PySide6 6.12.0 crashes" in (requirements.pyside_problem("6.12.0", (3, 11)) or "")
    assert requirements.pyside_problem("6.12.0", (3, 12)) is None
    assert requirements.pyside_problem("6.11.3", (3, 11)) is None


def test_stamp_covers_only_these_files_and_extras(tmp_path: Path) -> None:
    source, venv = _fake_source(tmp_path), _fake_venv(tmp_path)
    assert not requirements.stamp_covers(venv, source, [])
    requirements.write_stamp(venv, source, ["test"])
    assert requirements.stamp_covers(venv, source, [])
    assert requirements.stamp_covers(venv, source, ["test"])
    assert not requirements.stamp_covers(venv, source, ["dev"])
    (source / "constraints.txt").write_text("torch==2.13.1\n")
    assert not requirements.stamp_covers(venv, source, [])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fingerprint": 3}'])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, damage: str) -> None:
    source, venv = _fake_source(tmp_path), _fake_venv(tmp_path)
    (venv / requirements.STAMP).write_text(damage)
    assert not requirements.stamp_covers(venv, source, [])


def test_read_only_sources_get_an_environment_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requirements.venv_path(tmp_path) == tmp_path / ".venv"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    elsewhere = requirements.venv_path(tmp_path)
    assert elsewhere.is_relative_to(tmp_path / "home")
    assert elsewhere != requirements.venv_path(tmp_path / "another")


def test_a_ready_interpreter_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_hand_over", lambda *_: pytest.fail("must stay here"))
    bootstrap.ensure(["main.py", "nodes"], extras=["test"])


def test_a_hand_over_that_leads_nowhere_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(bootstrap.HANDED_OVER, "1")
    monkeypatch.setattr(requirements, "missing", lambda _: ["torch==2.13.0"])
    monkeypatch.setattr(requirements, "stamp_covers", lambda *_: False)
    with pytest.raises(SystemExit) as caught:
        bootstrap.ensure(["main.py"])
    assert caught.value.code == 1
    assert "torch==2.13.0 cannot be found in" in capsys.readouterr().err


# ---------------------------------------------------------------- repair


def test_a_venv_without_a_working_python_is_made_again(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(tmp_path / "gone")
    (venv / "half-a-file").write_text("cut off")
    install.make_environment(_setup(tmp_path, venv))
    assert install.works(requirements.venv_python(venv), "import pip")
    assert not (venv / "half-a-file").exists()


def test_a_working_venv_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "works", lambda *_: True)
    monkeypatch.setattr(install, "run", lambda *_: pytest.fail("must not be touched"))
    install.make_environment(_setup(tmp_path, tmp_path / ".venv"))


def test_packages_that_were_cut_off_are_forgotten(tmp_path: Path) -> None:
    venv = _fake_venv(tmp_path)
    complete = _package(venv, "peft", "0.21.2")
    half = _package(venv, "torch", "2.13.0")
    (half / "RECORD").unlink()
    leftover = complete.parent / "~orch"
    leftover.mkdir()
    install.heal(venv)
    assert complete.is_dir()
    assert not half.exists()
    assert not leftover.exists()


def test_only_one_start_sets_up_at_a_time(tmp_path: Path) -> None:
    setup = _setup(tmp_path, tmp_path / ".venv")
    with install.locked(setup.venv, setup), open(tmp_path / ".venv.lock", "a+b") as other:
        assert not install._lock(other.fileno(), wait=False)
    with open(tmp_path / ".venv.lock", "a+b") as other:
        assert install._lock(other.fileno(), wait=False)


def test_missing_venv_module_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "package_manager", lambda: "apt-get")
    monkeypatch.setattr(system, "is_root", lambda: False)
    monkeypatch.setattr(install, "has_ensurepip", lambda: False)
    with pytest.raises(BootstrapError, match=r"sudo apt-get install .* python3\.\d+-venv"):
        system.provide_venv()


# ---------------------------------------------------------------- system libraries


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get install -y --no-install-recommends libegl1 libxcb-cursor0"),
        ("dnf", "sudo dnf install -y libglvnd-egl xcb-util-cursor"),
        ("pacman", "sudo pacman -S --needed libglvnd xcb-util-cursor"),
        ("zypper", "sudo zypper install -y Mesa-libEGL1 libxcb-cursor0"),
        ("", "the system's package manager"),
    ],
)
def test_missing_libraries_come_with_their_command(
    monkeypatch: pytest.MonkeyPatch, manager: str, command: str
) -> None:
    absent = {"libEGL.so.1", "libxcb-cursor.so.0"}
    found = {
        name: packages for name, packages in (system.QT | system.XCB).items() if name in absent
    }
    monkeypatch.setattr(system, "missing_libraries", lambda window: found)
    monkeypatch.setattr(system, "package_manager", lambda: manager)
    monkeypatch.setattr(system, "is_root", lambda: False)
    problem = system.libraries_problem(window=True)
    assert problem is not None
    assert "libEGL.so.1, libxcb-cursor.so.0" in problem
    assert command in problem


def test_root_on_debian_installs_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dict(system.QT)
    asked: list[str] = []

    def apt(packages: list[str]) -> str:
        asked.extend(packages)
        missing.clear()
        return ""

    monkeypatch.setattr(system, "missing_libraries", lambda window: dict(missing))
    monkeypatch.setattr(system, "package_manager", lambda: "apt-get")
    monkeypatch.setattr(system, "is_root", lambda: True)
    monkeypatch.setattr(system, "apt_install", apt)
    assert system.libraries_problem(window=False) is None
    assert "libegl1" in asked


def test_xcb_is_asked_for_only_with_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert "libxcb-cursor.so.0" in system.missing_libraries(True, load=lambda _: False)
    assert "libxcb-cursor.so.0" not in system.missing_libraries(False, load=lambda _: False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert system.missing_libraries(True, load=lambda _: False) == {}


# ---------------------------------------------------------------- display and progress


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":98765"}, "linux", False),
        ({"DISPLAY": "127.0.0.1:3"}, "linux", False),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", False),
        ({}, "win32", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "a b"}, "darwin", False),
        ({"QT_QPA_PLATFORM": "offscreen"}, "win32", False),
    ],
)
def test_display(environment: dict[str, str], platform: str, expected: bool) -> None:
    assert main.display_available(environment, platform) is expected


def test_progress_is_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    script = "print('Collecting torch==2.13.0'); print('noise'); raise SystemExit(3)"
    shown = progress.Progress(stream)
    shown.phase("Installing")
    status, tail = progress.run([sys.executable, "-c", script], shown)
    assert status == 3
    assert "noise" in tail
    assert stream.getvalue().splitlines() == [
        "[   0 s] Installing",
        "[   0 s]   collecting torch==2.13.0",
    ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("Collecting torch==2.13.0 (from x)", "collecting torch==2.13.0"),
        (
            "  Downloading https://a.test/b/torch-2.whl (190.2 MB)",
            "downloading torch-2.whl (190.2 MB)",
        ),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("Requirement already satisfied: a", None),
    ],
)
def test_pip_lines(line: str, detail: str | None) -> None:
    assert progress.pip_detail(line) == detail


# ---------------------------------------------------------------- helpers


def _setup(source: Path, venv: Path) -> install.Setup:
    return install.Setup(source, venv, [], progress.Progress(io.StringIO()))


def _fake_source(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def _fake_venv(tmp_path: Path) -> Path:
    venv = tmp_path / ".venv"
    python = requirements.venv_python(venv)
    python.parent.mkdir(parents=True)
    python.touch()
    return venv


def _package(venv: Path, name: str, version: str) -> Path:
    folder = venv / ("Lib" if os.name == "nt" else "lib/python3.11") / "site-packages"
    for old in folder.glob(f"{name}-*.dist-info"):
        (old / "RECORD").unlink()
        old.rmdir()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").touch()
    return info

"""The bootstrap: what it decides, what it repairs, and that it needs nothing but Python.

Why: it runs before anything else can, on machines we never see. No test here uses the network;
pip is replaced only where it would download.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import ctypes
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bootstrap
import main
from bootstrap import (
    BootstrapError,
    cards,
    in_use,
    install,
    platforms,
    progress,
    requirements,
    system,
    torch_source,
)
from tests.windows_files import refused_folder

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
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
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
HERE = LINUX if sys.platform == MAC else sys.platform  # locks are those of the real system
PLAIN, CPU = torch_source.PLAIN, torch_source.CPU
CU130, CU126 = torch_source.cuda_index("cu130"), torch_source.cuda_index("cu126")
PASCAL = cards.Card("NVIDIA GeForce GTX 1080", (6, 1))
VOLTA = cards.Card("Tesla V100", (7, 0))
TURING = cards.Card("Tesla T4", (7, 5))
AMPERE = cards.Card("NVIDIA GeForce RTX 3090", (8, 6))
BLACKWELL = cards.Card("NVIDIA GeForce RTX 5090", (12, 0))
KEPLER = cards.Card("Tesla K80", (3, 7))


def _driver(version: str, *found: cards.Card) -> cards.Driver:
    return cards.Driver(version, found)


NO_CARD = _driver("")
RECENT = _driver("580.95.05", AMPERE)


@pytest.mark.parametrize(
    ("platform", "machine", "driver", "own_index", "choice", "labels"),
    [
        (LINUX, "x86_64", NO_CARD, False, "", [CPU.label, PLAIN.label]),
        (LINUX, "x86_64", NO_CARD, True, "", [PLAIN.label, CPU.label]),
        (LINUX, "x86_64", RECENT, False, "", [PLAIN.label, CU130.label]),
        (LINUX, "x86_64", _driver("570.86", AMPERE), False, "", [CU126.label]),
        (LINUX, "x86_64", _driver("580.95", PASCAL), True, "", [PLAIN.label, CU126.label]),
        (LINUX, "aarch64", NO_CARD, False, "", [CPU.label, PLAIN.label]),
        (WINDOWS, "AMD64", RECENT, False, "", [CU130.label]),
        (WINDOWS, "AMD64", RECENT, True, "", [PLAIN.label, CU130.label]),
        (WINDOWS, "AMD64", _driver("566.36", TURING), False, "", [CU126.label]),
        (WINDOWS, "AMD64", NO_CARD, False, "", [PLAIN.label]),
        (WINDOWS, "AMD64", _driver("572.16", BLACKWELL), False, "", [PLAIN.label]),
        (MAC, "arm64", NO_CARD, False, "", [PLAIN.label]),
        (WINDOWS, "AMD64", RECENT, False, "cpu", [CPU.label]),
        (LINUX, "x86_64", NO_CARD, False, "cuda", [CU130.label]),
        (LINUX, "x86_64", _driver("535.1", PASCAL), False, "cuda", [CU126.label]),
        (LINUX, "x86_64", RECENT, False, "cu126", [CU126.label]),
        (LINUX, "x86_64", NO_CARD, False, "default", [PLAIN.label]),
        (LINUX, "x86_64", RECENT, False, "auto", [PLAIN.label, CU130.label]),
        (LINUX, "x86_64", NO_CARD, False, "https://a.test/w", ["https://a.test/w"]),
    ],
)
def test_torch_sources_in_order(
    platform: str,
    machine: str,
    driver: cards.Driver,
    own_index: bool,
    choice: str,
    labels: list[str],
) -> None:
    found = torch_source.candidates(platform, machine, driver, own_index, choice)
    assert [source.label for source in found] == labels


def test_an_unknown_choice_of_torch_is_refused() -> None:
    with pytest.raises(BootstrapError, match="LORA_STUDIO_TORCH is “gpu”"):
        torch_source.candidates(LINUX, "x86_64", NO_CARD, False, "gpu")


@pytest.mark.parametrize(
    ("driver", "tag", "notices"),
    [
        (_driver("580.95.05", AMPERE), "cu130", []),
        (_driver("581.15", BLACKWELL), "cu130", []),
        (_driver("580.95.05", TURING), "cu130", []),
        (_driver("550.54", TURING), "cu126", []),
        (_driver("580.95.05", PASCAL), "cu126", []),
        (_driver("580.95.05", VOLTA), "cu126", []),
        (_driver("580.95.05", AMPERE, PASCAL), "cu126", []),
        (_driver("580.95.05", PASCAL, BLACKWELL), "cu130", ["GTX 1080 is not used"]),
        (_driver("570.1", AMPERE, BLACKWELL), "cu126", ["needs driver 580 or newer"]),
        (_driver("470.82", AMPERE), "", ["470.82 is too old", "525.60.13 or newer", "on the CPU"]),
        (_driver("572.16", BLACKWELL), "", ["RTX 5090, which needs driver 580 or newer"]),
        (_driver("470.82", KEPLER), "", ["no build for the Tesla K80 (compute capability 3.7)"]),
        (_driver("550.54", cards.Card("A card", None)), "cu126", []),
        (cards.UNKNOWN, "cu130", []),
        (NO_CARD, "", []),
    ],
)
def test_build_of_torch_by_driver_and_card(
    driver: cards.Driver, tag: str, notices: list[str]
) -> None:
    decision = torch_source.decide(LINUX, "x86_64", driver)
    assert (decision.build.tag if decision.build else "") == tag
    assert bool(decision.notices) == bool(notices)
    for words in notices:
        assert words in " ".join(decision.notices)


def test_windows_needs_a_newer_driver_for_the_same_build() -> None:
    driver = _driver("526.98", AMPERE)
    assert torch_source.decide(LINUX, "x86_64", driver).build == torch_source.BUILDS[1]
    decision = torch_source.decide(WINDOWS, "AMD64", driver)
    assert decision.build is None
    assert "driver 528.33 or newer" in decision.notices[0]


def test_arm_builds_have_no_kernels_before_ampere() -> None:
    decision = torch_source.decide(LINUX, "aarch64", _driver("580.95.05", TURING))
    assert decision.build is None
    assert "no build for the Tesla T4" in decision.notices[0]


def _installed(version: str, cuda: str = "") -> torch_source.Installed:
    return torch_source.Installed(version, cuda)


@pytest.mark.parametrize("platform", [LINUX, WINDOWS])
def test_a_gpu_never_keeps_a_cpu_build(platform: str) -> None:
    for source in torch_source.candidates(platform, "AMD64", RECENT, own_index=True):
        assert not torch_source.acceptable(_installed("2.13.0"), source)
        assert not torch_source.acceptable(_installed("2.13.0+cpu"), source)
        assert torch_source.acceptable(_installed("2.13.0", "13.0"), source)
        assert torch_source.acceptable(_installed("2.13.0+cu132", "13.2"), source)
        assert torch_source.acceptable(_installed("2.13.0+cu126", "12.6"), source)
    assert CU130.arguments() == [
        "torch==2.13.0+cu130",
        "--extra-index-url",
        "https://download.pytorch.org/whl/cu130",
    ]


def test_a_build_without_kernels_for_the_card_is_replaced() -> None:
    source = torch_source.candidates(LINUX, "x86_64", _driver("580.1", PASCAL), False)[-1]
    assert not torch_source.acceptable(_installed("2.13.0", "13.0"), source)
    assert torch_source.acceptable(_installed("2.13.0+cu126", "12.6"), source)


@pytest.mark.parametrize(
    ("version", "text", "cuda"),
    [
        ("2.13.0", "cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("2.13.0+cpu", "cuda: Optional[str] = None\n", ""),
        ("2.13.0+cu126", "", "12.6"),
    ],
)
def test_the_build_is_read_from_torchs_own_file(
    tmp_path: Path, version: str, text: str, cuda: str
) -> None:
    info = _package(_fake_venv(tmp_path), "torch", version)
    (info.parent / "torch").mkdir()
    (info.parent / "torch" / "version.py").write_text(text, encoding="utf-8")
    found = torch_source.installed([info.parent])
    assert (found.version, found.cuda) == (version, cuda)


# ---------------------------------------------------------------- the driver and its cards

_SMI = """#!/bin/sh
case "$1" in
*compute_cap*) {full} ;;
*) {short} ;;
esac
"""


def _fake_smi(tmp_path: Path, full: str, short: str = "exit 9") -> dict[str, str]:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(_SMI.format(full=full, short=short), encoding="utf-8")
    tool.chmod(0o755)
    return {"PATH": str(tmp_path)}


def test_cards_are_read_from_nvidia_smi(tmp_path: Path) -> None:
    lines = "NVIDIA GeForce RTX 3090, 8.6, 572.16\nTesla, P100, 6.0, 572.16\n"
    found = cards.installed(_fake_smi(tmp_path, f"printf '{lines}'"))
    assert found == _driver("572.16", AMPERE, cards.Card("Tesla, P100", (6, 0)))


def test_nvidia_smi_is_found_in_the_folder_of_windows(tmp_path: Path) -> None:
    _fake_smi(tmp_path, "echo 'Tesla T4, 7.5, 572.16'")
    (tmp_path / "System32").mkdir()
    (tmp_path / "nvidia-smi").rename(tmp_path / "System32" / "nvidia-smi.exe")
    found = cards.installed({"PATH": str(tmp_path), "SYSTEMROOT": str(tmp_path)})
    assert found == _driver("572.16", TURING)


def test_nvml_answers_where_nvidia_smi_names_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "_from_nvml", lambda: _driver("572.16", TURING))
    environment = _fake_smi(tmp_path, "echo 'No devices were found'")
    assert cards.installed(environment) == _driver("572.16", TURING)


def test_nvml_answers_where_nvidia_smi_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = '{"version": "535.1", "cards": [["Tesla T4", [7, 5]], ["Other", null]]}'
    monkeypatch.setattr(cards, "_run", lambda command: answer)
    found = cards.installed({"PATH": str(tmp_path)})
    assert found == _driver("535.1", TURING, cards.Card("Other", None))


def test_an_old_nvidia_smi_still_names_driver_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2"
    environment = _fake_smi(tmp_path, full, "echo 'Tesla V100, 450.80.02'")
    monkeypatch.setattr(cards, "_nvml", lambda: None)
    assert cards.installed(environment) == _driver("450.80.02", cards.Card("Tesla V100", None))


def test_neither_tool_means_no_card(tmp_path: Path) -> None:
    assert cards.installed({"PATH": str(tmp_path)}) == cards.NONE
    assert cards.installed(_fake_smi(tmp_path, "exit 9")) == cards.NONE


def test_a_driver_that_does_not_answer_counts_as_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "ANSWER_S", 0.2)
    found = cards.installed(_fake_smi(tmp_path, "exec sleep 60"))
    assert found is cards.UNKNOWN


class _FakeNvml:
    """Three cards; the second has failed and the third reports no capability."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        text.value = b"550.54"
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 3
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        handle._obj.value = index + 1
        return 15 if index == 1 else 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: int) -> int:
        text.value = b"Tesla T4" if handle.value == 1 else b"GB10"
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 7, 5
        return 0 if handle.value == 1 else 3


def test_nvml_reads_every_card_that_answers() -> None:
    assert cards.read_nvml(_FakeNvml) == _driver("550.54", TURING, cards.Card("GB10", None))
    assert cards.read_nvml(lambda: None) == cards.NONE


@pytest.mark.skipif(os.name == "nt", reason="the names of cards in /proc have colons")
def test_the_signature_changes_with_driver_and_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", LINUX)
    assert cards.signature(tmp_path / "none", tmp_path) == ""
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "version").write_text("NVRM version: 570.86\nGCC\n", encoding="utf-8")
    first = cards.signature(tmp_path)
    assert first == "NVRM version: 570.86; 0000:01:00.0"
    (tmp_path / "gpus" / "0000:02:00.0").mkdir()
    assert cards.signature(tmp_path) != first
    (tmp_path / "libcuda.so.1").write_bytes(b"1")
    assert cards.signature(tmp_path / "none", tmp_path) != ""


def test_another_version_of_torch_is_not_acceptable() -> None:
    assert torch_source.acceptable(_installed("2.13.0+cpu"), PLAIN)
    assert not torch_source.acceptable(_installed("2.12.1"), PLAIN)
    assert not torch_source.acceptable(_installed(""), PLAIN)


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


class Pip:
    """Stands for pip: installs what an index is said to have, and records the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plain: str, index: str) -> None:
        self.calls: list[list[str]] = []
        self.plain, self.index = plain, index
        monkeypatch.setattr(install.Setup, "pip", lambda setup, args: self.run(setup, args))

    def run(self, setup: install.Setup, arguments: list[str]) -> tuple[int, str]:
        self.calls.append(arguments)
        found = self.index if "--extra-index-url" in arguments else self.plain
        torch = any(a.startswith("torch==") for a in arguments)
        have = setup.torch().version
        if torch and ("--force-reinstall" in arguments or not have):
            if not found:
                return 1, "No matching distribution"
            _package(setup.venv, "torch", found)
        return 0, ""


def _machine(monkeypatch: pytest.MonkeyPatch, driver: cards.Driver, platform: str = HERE) -> None:
    """Stand on a machine with these cards; the signature follows them."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(platforms, "machine", lambda: "x86_64")
    monkeypatch.setattr(cards, "installed", lambda *_: driver)
    monkeypatch.setattr(cards, "signature", lambda *_: str(driver))
    monkeypatch.setattr(torch_source, "names_own_index", lambda _: True)
    monkeypatch.setattr(torch_source, "reachable", lambda _: True)
    monkeypatch.setattr(install, "check_space", lambda *_: None)
    monkeypatch.setattr(install, "check_machine", lambda *_: None)
    monkeypatch.setattr(install, "make_environment", lambda *_: None)
    monkeypatch.setattr(install, "verify", lambda *_: None)
    monkeypatch.delenv("LORA_STUDIO_TORCH", raising=False)


def test_torch_is_installed_from_the_next_source_when_the_first_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, RECENT, WINDOWS)
    pip = Pip(monkeypatch, plain="2.13.0", index="2.13.0+cu130")
    assert install.install_torch(_setup(tmp_path, _fake_venv(tmp_path)), {})
    assert CU130.index not in pip.calls[0]
    assert pip.calls[-1][-1] == CU130.index


@pytest.fixture
def complete(tmp_path: Path) -> tuple[Path, Path]:
    """A source folder and its environment, set up on a machine without a card."""
    source, venv = _fake_source(tmp_path), _fake_venv(tmp_path)
    _package(venv, "torch", "2.13.0+cpu")
    requirements.write_stamp(venv, source, [], {"choice": "", "machine": str(NO_CARD)})
    return source, venv


def _torch(venv: Path) -> str:
    return torch_source.installed(install.site_packages(venv)).version


def test_a_card_that_appears_replaces_the_cpu_build(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    _machine(monkeypatch, NO_CARD)
    assert requirements.torch_settled(venv)
    _machine(monkeypatch, RECENT)
    assert not requirements.torch_settled(venv)
    Pip(monkeypatch, plain="2.13.0+cpu", index="2.13.0+cu130")
    install.set_up(source, venv, [])
    assert _torch(venv) == "2.13.0+cu130"
    assert requirements.torch_settled(venv)


def test_a_card_without_a_build_is_named_and_nothing_installed(
    complete: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, venv = complete
    _machine(monkeypatch, _driver("470.82", KEPLER))
    monkeypatch.setattr(install.Setup, "pip", lambda *_: pytest.fail("must not install"))
    install.set_up(source, venv, [])
    assert "no build for the Tesla K80" in capsys.readouterr().err
    assert requirements.torch_settled(venv)


def test_a_better_build_that_cannot_be_installed_leaves_a_working_environment(
    complete: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, venv = complete
    _machine(monkeypatch, RECENT)
    Pip(monkeypatch, plain="", index="")
    install.set_up(source, venv, [])
    assert "Training runs on the CPU until this succeeds" in capsys.readouterr().err
    assert _torch(venv) == "2.13.0+cpu"
    assert requirements.stamp_covers(venv, source, [])
    assert not requirements.torch_settled(venv)  # tried again at the next start


def test_the_choice_of_torch_changes_an_environment_and_is_kept(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    _machine(monkeypatch, RECENT)
    Pip(monkeypatch, plain="2.13.0+cpu", index="2.13.0+cu126")
    monkeypatch.setenv("LORA_STUDIO_TORCH", "cu126")
    install.set_up(source, venv, [])
    assert _torch(venv) == "2.13.0+cu126"
    Pip(monkeypatch, plain="", index="2.13.0+cpu")
    monkeypatch.setenv("LORA_STUDIO_TORCH", "cpu")
    assert not requirements.torch_settled(venv)
    install.set_up(source, venv, [])
    assert _torch(venv) == "2.13.0+cpu"
    monkeypatch.delenv("LORA_STUDIO_TORCH")
    assert requirements.torch_settled(venv)  # in spite of the card
    monkeypatch.setenv("LORA_STUDIO_TORCH", "auto")
    assert not requirements.torch_settled(venv)


def test_a_chosen_build_that_cannot_be_installed_leaves_the_environment_as_it_was(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    _machine(monkeypatch, NO_CARD)
    Pip(monkeypatch, plain="", index="")
    monkeypatch.setenv("LORA_STUDIO_TORCH", "cu126")
    with pytest.raises(BootstrapError, match="LORA_STUDIO_TORCH=cpu"):
        install.set_up(source, venv, [])
    assert _torch(venv) == "2.13.0+cpu"
    monkeypatch.delenv("LORA_STUDIO_TORCH")
    assert requirements.stamp_covers(venv, source, [])
    assert requirements.torch_settled(venv)


def test_another_index_replaces_a_build_of_the_same_version(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    _machine(monkeypatch, NO_CARD)
    Pip(monkeypatch, plain="", index="2.13.0+rocm6.4")
    monkeypatch.setenv("LORA_STUDIO_TORCH", "https://a.test/rocm")
    install.set_up(source, venv, [])
    assert _torch(venv) == "2.13.0+rocm6.4"


def test_packages_of_the_previous_cuda_are_removed(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    for name in ("nvidia_cublas", "nvidia_ml_py", "triton", "numpy"):
        _package(venv, name, "1.0")
    _machine(monkeypatch, RECENT)
    pip = Pip(monkeypatch, plain="", index="2.13.0+cu126")
    monkeypatch.setenv("LORA_STUDIO_TORCH", "cu126")
    install.set_up(source, venv, [])
    assert ["uninstall", "-y", "nvidia-cublas", "triton"] in pip.calls


def test_an_interrupted_change_of_torch_is_repeated(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    _machine(monkeypatch, RECENT)

    def killed(setup: install.Setup, arguments: list[str]) -> tuple[int, str]:
        _package(setup.venv, "torch", "2.13.0+cu130")
        raise KeyboardInterrupt

    monkeypatch.setattr(install.Setup, "pip", killed)
    with pytest.raises(KeyboardInterrupt):
        install.set_up(source, venv, [])
    assert not requirements.stamp_covers(venv, source, [])


def test_torch_that_does_not_see_the_card_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warning = "UserWarning: CUDA initialization: The NVIDIA driver on your system is too old"
    setup = _setup(tmp_path, _fake_venv(tmp_path))
    _package(setup.venv, "torch", "2.13.0+cu130")
    monkeypatch.setattr(cards, "installed", lambda *_: RECENT)
    monkeypatch.setattr(install, "run", lambda *_: (0, f"{warning}\nCUDA False\n"))
    install.verify(setup)
    assert "cannot use the NVIDIA card" in setup.progress.stream.getvalue()  # type: ignore[attr-defined]
    assert warning in setup.progress.stream.getvalue()  # type: ignore[attr-defined]
    setup = replace(setup, progress=progress.Progress(io.StringIO()))
    monkeypatch.setattr(install, "run", lambda *_: (0, "CUDA True\n"))
    install.verify(setup)
    assert "cannot use" not in setup.progress.stream.getvalue()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- programs that use the environment

_USER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from bootstrap import in_use
in_use.hold("the run 20260101-120000-starter", Path({venv!r}))
print("held", flush=True); sys.stdin.read()
"""


@pytest.fixture
def user(complete: tuple[Path, Path]) -> Iterator[subprocess.Popen[str]]:
    """A live process that uses the environment."""
    script = _USER.format(root=str(ROOT), venv=str(complete[1]))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


def test_a_set_up_waits_for_a_run_and_names_it(
    complete: tuple[Path, Path],
    user: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, venv = complete
    (source / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    _machine(monkeypatch, NO_CARD)
    calls: list[str] = []

    def ends(_seconds: float) -> None:
        calls.append("waited")
        if len(calls) == 2:
            user.communicate()

    monkeypatch.setattr("bootstrap.install.time.sleep", ends)
    monkeypatch.setattr(install.Setup, "pip", lambda *_: (calls.append("installed") or 0, ""))
    install.set_up(source, venv, [])
    assert calls == ["waited", "waited", "installed"]
    told = capsys.readouterr().err
    assert told.count("the run 20260101-120000-starter") == 1
    assert "main.py stop RUN" in told
    assert in_use.users(venv) == []
    assert list((venv / in_use.FOLDER).iterdir()) == []


@pytest.mark.usefixtures("user")
def test_a_better_build_is_not_installed_under_a_run(
    complete: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, venv = complete
    _machine(monkeypatch, RECENT)
    monkeypatch.setattr(install.Setup, "pip", lambda *_: pytest.fail("must not install"))
    install.set_up(source, venv, [])
    assert "at the next start" in capsys.readouterr().err
    assert not requirements.torch_settled(venv)


@pytest.mark.usefixtures("user")
def test_stopping_a_run_does_not_wait_for_it(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = complete
    (source / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "SOURCE", source)
    monkeypatch.setattr(requirements, "missing", lambda _: ["torch==2.13.0"])
    started: list[Path | str] = []
    monkeypatch.setattr(install, "set_up", lambda *_: started.append("set-up"))
    monkeypatch.setattr(bootstrap, "_hand_over", lambda python, _: started.append(python))
    monkeypatch.setattr("main.bootstrap.ensure", bootstrap.ensure)
    monkeypatch.setattr(in_use, "hold", lambda *_: None)
    main._prepare(["stop", "RUN"])
    assert started == [requirements.venv_python(venv)]
    main._prepare(["check", "p.studio"])
    assert started[1:] == ["set-up", requirements.venv_python(venv)]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [([], "the window"), (["TALK.STUDIO"], "the window"), (["run", "a.studio"], "main.py run")],
)
def test_a_start_marks_the_environment_as_used(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    held: list[str] = []
    monkeypatch.setattr(bootstrap, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(in_use, "hold", held.append)
    main._prepare(arguments)
    assert held == [what]


def test_a_project_in_upper_case_opens_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[list[str]] = []
    monkeypatch.setattr(main, "_window", lambda arguments: opened.append(arguments) or 0)
    assert main.main(["TALK.STUDIO"]) == 0
    assert opened == [["TALK.STUDIO"]]


def test_the_mark_of_an_earlier_process_with_the_same_number_is_replaced(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, venv = complete
    mark = venv / in_use.FOLDER / f"{os.getpid()}.lock"
    mark.parent.mkdir()
    mark.write_text("the run 20260101-120000-starter", encoding="utf-8")
    monkeypatch.setattr(in_use, "_held", [])
    in_use.hold("the window", venv)
    (handle,) = in_use._held
    assert mark.read_text(encoding="utf-8") == "the window"
    os.close(handle)


def test_only_an_environment_of_ours_is_marked_as_used(tmp_path: Path) -> None:
    in_use.hold("the window", tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- space


def _space(monkeypatch: pytest.MonkeyPatch, free_gib: float, total: int = 1 << 50) -> None:
    usage = type("Usage", (), {"total": total, "free": int(free_gib * 2**30)})
    monkeypatch.setattr("bootstrap.install.shutil.disk_usage", lambda _: usage)


@pytest.mark.parametrize(
    ("size", "free_gib", "fits", "keeps_copies"),
    [
        (install.TORCH_CPU, 2.5, False, True),
        (install.TORCH_CPU, 4.0, True, True),
        (install.TORCH_CUDA, 4.0, False, True),
        (install.TORCH_CUDA, 10.0, True, False),
        (install.TORCH_CUDA, 14.0, True, True),
    ],
)
def test_space_is_checked_for_the_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: install.Size,
    free_gib: float,
    fits: bool,
    keeps_copies: bool,
) -> None:
    _space(monkeypatch, free_gib)
    setup = _setup(tmp_path, tmp_path / ".venv")
    if not fits:
        with pytest.raises(BootstrapError, match=r"need about \d+\.\d GiB on the disk of"):
            install.check_space(setup, size)
        return
    install.check_space(setup, size)
    assert ("PIP_NO_CACHE_DIR" in setup.pip_environment) is not keeps_copies


def test_a_file_system_that_does_not_report_its_space_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _space(monkeypatch, 0.0, total=0)
    install.check_space(_setup(tmp_path, tmp_path / ".venv"), install.TORCH_CUDA)


def test_a_card_without_space_names_the_smaller_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _space(monkeypatch, 5.0)
    with pytest.raises(BootstrapError, match="LORA_STUDIO_TORCH=cpu"):
        install.check_space(_setup(tmp_path, tmp_path / ".venv"), install.TORCH_CUDA)


def test_a_small_temporary_folder_is_not_used_for_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /tmp lies in memory, CUDA's wheels do not fit into it."""
    setup = _setup(tmp_path, tmp_path / ".venv")
    small = tmp_path / "tmp"

    def short(needed: Sequence[tuple[Path, float]]) -> tuple[Path, float, float] | None:
        return next(((p, gib, 1.0) for p, gib in needed if p == small), None)

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(small))
    monkeypatch.setattr(install, "_short", short)
    install.check_space(setup, install.TORCH_CUDA)
    assert Path(setup.pip_environment["TMPDIR"]).is_relative_to(setup.venv)
    assert Path(setup.pip_environment["TMPDIR"]).is_dir()


@pytest.mark.parametrize("status", [0, 1])
def test_downloads_beside_the_environment_are_removed(
    complete: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    source, venv = complete
    (source / "constraints.txt").write_text("torch==2.13.0\n", encoding="utf-8")
    _machine(monkeypatch, NO_CARD)
    folder = venv / install.DOWNLOADS
    monkeypatch.setattr(install, "check_space", lambda setup, _: setup.download_into(folder))

    def pip(setup: install.Setup, _: list[str]) -> tuple[int, str]:
        (Path(setup.pip_environment["TEMP"]) / "wheel").touch()
        return status, ""

    monkeypatch.setattr(install.Setup, "pip", pip)
    with pytest.raises(BootstrapError) if status else contextlib.nullcontext():
        install.set_up(source, venv, [])
    assert not folder.exists()


def test_a_platform_without_packages_is_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, venv = _fake_source(tmp_path), tmp_path / ".venv"
    monkeypatch.setattr(cards, "installed", lambda *_: NO_CARD)
    monkeypatch.setattr(platforms, "problem", lambda: "torch has no build for this processor.")
    monkeypatch.setattr(install, "run", lambda *_, **__: pytest.fail("must not start anything"))
    with pytest.raises(BootstrapError, match="no build for this processor"):
        install.set_up(source, venv, [])
    assert not venv.exists()


@pytest.mark.parametrize(
    ("build", "computer", "expected"),
    [("win-amd64", "ARM64", "AMD64"), ("win-arm64", "ARM64", "ARM64"), ("win32", "AMD64", "x86")],
)
def test_windows_on_arm_runs_a_python_for_x86(
    monkeypatch: pytest.MonkeyPatch, build: str, computer: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", WINDOWS)
    monkeypatch.setattr("platform.machine", lambda: computer)
    monkeypatch.setattr("sysconfig.get_platform", lambda: build)
    assert platforms.machine() == expected


def test_a_complete_environment_needs_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _space(monkeypatch, 0.0)
    venv = _fake_venv(tmp_path)
    _package(venv, "torch", "2.13.0")
    install.check_space(_setup(tmp_path, venv), None)


# ---------------------------------------------------------------- platforms without packages

GOOD = platforms.Host(
    python=(3, 13),
    implementation="CPython",
    free_threaded=False,
    bits=64,
    system=LINUX,
    machine="x86_64",
    macos=(),
    rosetta=False,
    glibc=(2, 36),
    sse42=True,
)


@pytest.mark.parametrize(
    ("changes", "reason", "way_out"),
    [
        ({"python": (3, 15)}, "no build for Python 3.15", "python3.13 main.py"),
        ({"python": (3, 15), "system": WINDOWS}, "no build for Python 3.15", "py -3.13 main.py"),
        ({"implementation": "PyPy"}, "no build for PyPy", "Install Python"),
        ({"free_threaded": True}, "free-threaded", "Install Python"),
        ({"bits": 32, "machine": "x86", "system": WINDOWS}, "32-bit", "py -3.13 main.py (64-bit)"),
        ({"system": MAC, "glibc": ()}, "Intel processor", "Use another computer"),
        ({"system": MAC, "rosetta": True}, "built for Intel", "python.org"),
        ({"system": MAC, "machine": "arm64", "macos": (13, 6)}, "macOS 13.6", "Update macOS"),
        ({"system": WINDOWS, "machine": "ARM64"}, "Arm under Windows", "AMD64"),
        ({"machine": "ppc64le"}, "ppc64le", "x86-64"),
        ({"sse42": False}, "SSE4.2", "another computer"),
        ({"glibc": ()}, "musl", "Debian"),
        ({"glibc": (2, 31)}, "needs glibc 2.34 or newer, but this Linux has 2.31", "Ubuntu 22.04"),
        ({"glibc": (2, 36), "machine": "aarch64"}, "needs glibc 2.39", "Ubuntu 24.04"),
    ],
)
def test_a_platform_without_packages_is_named_with_the_way_out(
    changes: dict[str, Any], reason: str, way_out: str
) -> None:
    sentence = platforms.problem(replace(GOOD, **changes))
    assert sentence is not None
    assert reason in sentence
    assert way_out in sentence


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"python": (3, 11)},
        {"python": (3, 14)},
        {"system": WINDOWS, "machine": "AMD64", "glibc": ()},
        {"system": MAC, "machine": "arm64", "macos": (14, 0), "glibc": ()},
        {"machine": "aarch64", "glibc": (2, 39), "sse42": False},
    ],
)
def test_supported_platforms_are_not_refused(changes: dict[str, Any]) -> None:
    assert platforms.problem(replace(GOOD, **changes)) is None
    assert platforms.problem() is None  # where the tests run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_1 sse4_2\n", True),
        ("flags\t\t: fpu sse4_1\n", False),
        ("model name\t: unknown\n", True),
    ],
)
def test_sse42_is_read_from_the_flags(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setattr(sys, "platform", LINUX)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert platforms._has_sse42() is expected


def test_an_old_python_names_a_newer_one_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", LINUX)
    found = platforms.old_python(lambda name: "/usr/bin/x" if name == "python3.12" else None)
    assert found.endswith("Start with: python3.12 main.py")
    assert "Install Python" in platforms.old_python(lambda _: None)
    monkeypatch.setattr(sys, "platform", WINDOWS)
    assert platforms.old_python().endswith("Start with: py -3.13 main.py")


@pytest.mark.parametrize(
    "name",
    [
        "main.py",
        "bootstrap/__init__.py",
        "bootstrap/platforms.py",
        "bootstrap/requirements.py",
        "bootstrap/in_use.py",
    ],
)
def test_an_old_python_can_read_the_files_that_refuse_it(name: str) -> None:
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_an_old_python_gets_a_sentence() -> None:
    script = (
        "import sys; sys.version_info = (3, 9, 6, 'final', 0); sys.argv = ['main.py', 'nodes']\n"
        "import main; sys.exit(main.main(['nodes']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, encoding="utf-8"
    )
    assert result.returncode == 1
    assert "Python 3.11 or newer is required" in result.stderr
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- Windows: runtime, paths, folders


@pytest.mark.parametrize(
    ("path", "version", "words"),
    [
        ("", (), ["winget install"]),
        (
            r"C:\Anaconda3\msvcp140.dll",
            (14, 29, 1, 2),
            ["14.29", "conda update", "py -3.13 main.py"],
        ),
        (r"C:\Windows\System32\msvcp140.dll", (14, 36), ["14.40 or newer", "winget install"]),
    ],
)
def test_an_old_windows_runtime_is_named(
    path: str, version: tuple[int, ...], words: list[str]
) -> None:
    sentence = platforms.runtime_problem(path, version)
    assert sentence is not None
    assert all(word in sentence for word in words)


def test_a_recent_or_unknown_windows_runtime_is_accepted() -> None:
    assert platforms.runtime_problem(r"C:\Windows\System32\msvcp140.dll", (14, 40)) is None
    assert platforms.runtime_problem(r"C:\Windows\System32\msvcp140.dll", ()) is None


class _FakeWindll:
    """kernel32 and version.dll of a machine whose runtime has the version 14.29.30139.0."""

    path = r"C:\Anaconda3\msvcp140.dll"

    def __init__(self) -> None:
        self.kernel32 = self.version = self
        self.block = (ctypes.c_uint32 * 13)(0xFEEF04BD, 0x10000, 14 << 16 | 29, 30139 << 16)

    def GetModuleFileNameW(self, handle: Any, buffer: Any, size: int) -> int:
        buffer.value = self.path
        return len(self.path)

    def GetFileVersionInfoSizeW(self, path: str, handle: Any) -> int:
        return 2000 if path == self.path else 0

    def GetFileVersionInfoW(self, path: str, handle: int, size: int, data: Any) -> int:
        return 1

    def VerQueryValueW(self, data: Any, name: str, block: Any, length: Any) -> int:
        block._obj.value = ctypes.addressof(self.block)
        return 1


def test_the_runtime_that_this_python_loads_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = type("Library", (), {"_handle": 7})()
    monkeypatch.setattr(sys, "platform", WINDOWS)
    monkeypatch.setattr(ctypes, "windll", _FakeWindll(), raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: loaded)
    assert system.windows_runtime() == (_FakeWindll.path, (14, 29, 30139, 0))
    with pytest.raises(BootstrapError, match=r"version 14\.29 is loaded from C:\\Anaconda3"):
        system.check_windows_runtime()


class _FakeRegistry:
    """winreg with one value, or with the keys of a list."""

    HKEY_LOCAL_MACHINE = 0

    def __init__(self, value: int | None, keys: Sequence[str] = ()) -> None:
        self.value, self.keys = value, keys

    def OpenKey(self, root: int, path: str) -> Any:
        return contextlib.nullcontext(path)

    def QueryValueEx(self, key: str, name: str) -> tuple[int, int]:
        if self.value is None:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return self.value, 4

    def QueryInfoKey(self, key: str) -> tuple[int, int, int]:
        return len(self.keys), 0, 0

    def EnumKey(self, key: str, index: int) -> str:
        return self.keys[index]


@pytest.mark.parametrize(("value", "allowed"), [(1, True), (0, False), (None, False)])
def test_long_paths_are_read_from_the_registry(
    monkeypatch: pytest.MonkeyPatch, value: int | None, allowed: bool
) -> None:
    monkeypatch.setattr(sys, "platform", WINDOWS)
    monkeypatch.setitem(sys.modules, "winreg", _FakeRegistry(value))  # type: ignore[arg-type]
    assert platforms.long_paths() is allowed


def test_a_new_card_changes_the_signature_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", WINDOWS)
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    one = ["VEN_8086&DEV_1", "VEN_10DE&DEV_1B80"]
    found = []
    for keys in ([], one, [*one, "VEN_10DE&DEV_2B85"]):
        monkeypatch.setitem(sys.modules, "winreg", _FakeRegistry(0, keys))  # type: ignore[arg-type]
        found.append(cards.signature())
    assert found[0] == ""
    assert found[1] == "VEN_10DE&DEV_1B80"
    assert found[2] != found[1]


@pytest.mark.parametrize(
    ("status", "output", "words"),
    [
        (1, "OSError: [WinError 1114] A dynamic link library ... c10.dll", "Visual C++ runtime"),
        (-4, "", "instructions that this processor"),
        (0xC000001D, "", "instructions that this processor"),
        (1, "ImportError: /lib/libc.so.6: version `GLIBC_2.39' not found", "too old"),
        (1, "ImportError: something else", "something else"),
    ],
)
def test_a_torch_that_does_not_load_is_explained(status: int, output: str, words: str) -> None:
    assert words in platforms.import_problem(status, output)


def test_a_path_that_windows_cannot_hold_is_refused_before_the_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short, long = Path("C:/lora/.venv"), Path("C:/Users/" + "x" * 60 + "/.venv")
    monkeypatch.setattr(platforms, "long_paths", lambda: False)
    assert platforms.path_problem(short) is None
    fits = Path("C:/" + "x" * (platforms.LONGEST_PATH - platforms.DEEPEST_PACKAGE_FILE - 3))
    assert platforms.path_problem(fits) is None
    assert "1 characters" in (platforms.path_problem(Path(f"{fits}x")) or "")
    sentence = platforms.path_problem(long)
    assert sentence is not None
    assert "Windows allows 259" in sentence
    assert "LongPathsEnabled" in sentence
    monkeypatch.setattr(platforms, "long_paths", lambda: True)
    assert platforms.path_problem(long) is None


def test_the_deepest_package_file_is_not_deeper_than_assumed() -> None:
    allowed = platforms.DEEPEST_PACKAGE_FILE - len("/Lib/site-packages/")
    for folder in install.site_packages(Path(sys.prefix)):
        for record in folder.glob("*.dist-info/RECORD"):
            with record.open(encoding="utf-8", newline="") as file:
                longest = max((len(row[0]) for row in csv.reader(file)), default=0)
            assert longest <= allowed, record.parent.name


def test_sources_in_a_cloud_folder_get_an_environment_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    source = _fake_source(tmp_path)
    assert requirements.venv_path(source) == source / ".venv"
    monkeypatch.setenv("OneDrive", str(tmp_path))
    assert requirements.venv_path(source).is_relative_to(tmp_path / "home")
    (source / ".venv").mkdir()  # one that is there already is used
    assert requirements.venv_path(source) == source / ".venv"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/home/a/OneDrive - Firma/lora", "OneDrive"),
        ("/home/a/Dropbox/lora", "Dropbox"),
        ("/home/a/Dropbox (Firma)/lora", "Dropbox"),
        ("/home/a/Firma Dropbox/Anna/lora", "Dropbox"),
        ("/home/a/Nextcloud/lora", "Nextcloud"),
        ("/home/a/from Google Drive/lora", ""),
        ("/home/a/dropboxes/lora", ""),
        ("/home/a/Dropboxes/lora", ""),
        ("/home/a/Cloud/lora", "OneDrive"),
        ("/home/a/Clouds/lora", ""),
        ("/home/a/Library/CloudStorage/Box-Box/lora", ""),
    ],
)
def test_cloud_folders_are_recognized(
    monkeypatch: pytest.MonkeyPatch, path: str, service: str
) -> None:
    monkeypatch.setenv("OneDrive", "/home/a/Cloud/")
    assert platforms.cloud_folder(Path(path)) == service


@pytest.mark.parametrize(
    ("folder", "service"),
    [("CloudStorage/Box-Box", "a cloud service"), ("Mobile Documents/x", "iCloud"), ("x", "")],
)
def test_cloud_folders_of_a_mac(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, service: str
) -> None:
    monkeypatch.setattr(sys, "platform", MAC)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert platforms.cloud_folder(tmp_path / "Library" / folder / "lora") == service


def test_a_folder_counts_as_writable_only_if_a_file_can_be_created(
    tmp_path: Path,
) -> None:
    assert platforms.writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with refused_folder(tmp_path) as tried:
        assert not platforms.writable(tmp_path)
    assert len(tried) == 1


def test_store_python_keeps_its_data_outside_appdata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORA_STUDIO_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", WINDOWS)
    store = r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.12_3.12.2800.0_x64__q"
    monkeypatch.setattr(sys, "base_prefix", store)
    assert requirements._user_data() == Path.home() / "lora-studio" / "data"
    monkeypatch.setattr(sys, "base_prefix", r"C:\Python312")
    assert not platforms.store_python()


def test_failure_without_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = "WARNING: Retrying ... NewConnectionError: Failed to establish a new connection"
    _machine(monkeypatch, NO_CARD)
    monkeypatch.setattr(install.Setup, "pip", lambda *_: (1, tail))
    monkeypatch.setattr(install, "sources_here", lambda _: [PLAIN])
    with pytest.raises(BootstrapError, match="cannot be reached") as caught:
        install.install_torch(_setup(tmp_path, _fake_venv(tmp_path)), {})
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
    (source / "constraints.txt").write_text("torch==2.13.1\n", encoding="utf-8")
    assert not requirements.stamp_covers(venv, source, [])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fingerprint": 3}'])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, damage: str) -> None:
    source, venv = _fake_source(tmp_path), _fake_venv(tmp_path)
    (venv / requirements.STAMP).write_text(damage, encoding="utf-8")
    assert not requirements.stamp_covers(venv, source, [])


def test_read_only_sources_get_an_environment_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, another = _fake_source(tmp_path), tmp_path / "another"
    another.mkdir()
    _fake_source(another)
    assert requirements.venv_path(source) == source / ".venv"
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    with refused_folder(tmp_path):
        elsewhere = requirements.venv_path(source)
        assert elsewhere.is_relative_to(tmp_path / "home")
        assert elsewhere != requirements.venv_path(another)


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
    (venv / "half-a-file").write_text("cut off", encoding="utf-8")
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


class _Debian:
    """A Debian without the libraries of Qt, and whether root's apt-get was asked for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.missing = dict(system.QT)
        self.installed: list[str] = []
        monkeypatch.delenv(bootstrap.YES, raising=False)
        monkeypatch.setattr(system, "missing_libraries", lambda window: dict(self.missing))
        monkeypatch.setattr(system, "package_manager", lambda: "apt-get")
        monkeypatch.setattr(system, "is_root", lambda: True)
        monkeypatch.setattr(system, "apt_install", self._install)
        monkeypatch.setattr(install, "has_ensurepip", lambda: bool(self.installed))

    def _install(self, packages: list[str]) -> str:
        self.installed += packages
        self.missing.clear()
        return ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> _Debian:
    return _Debian(monkeypatch)


COMMAND = "apt-get install -y --no-install-recommends libegl1 "


@pytest.mark.parametrize("answer", ["y\n", "Yes\n"])
def test_root_on_debian_is_asked_and_goes_on_after_a_yes(
    debian: _Debian, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    monkeypatch.setattr(sys, "stderr", terminal)
    assert system.libraries_problem(window=False) is None
    assert "libegl1" in debian.installed
    asked = terminal.getvalue()
    assert asked.index("libEGL.so.1") < asked.index(COMMAND) < asked.index("Run it now? [y/N]")


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "x\n"])
def test_without_a_yes_nothing_is_installed(
    debian: _Debian, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    monkeypatch.setattr(sys, "stderr", _Terminal())
    problem = system.libraries_problem(window=False)
    assert problem is not None
    assert COMMAND in problem
    assert "--yes" in problem
    with pytest.raises(BootstrapError, match=r"Install with: apt-get install .*-venv .*--yes"):
        system.provide_venv()
    assert debian.installed == []


@pytest.mark.parametrize("closed", ["stdin", "stderr"])
def test_without_a_terminal_nobody_is_asked(
    debian: _Debian, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    streams = {"stdin": _Terminal("y\n"), "stderr": _Terminal()} | {closed: io.StringIO("y\n")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    problem = system.libraries_problem(window=False)
    assert problem is not None
    assert COMMAND in problem
    monkeypatch.setattr(sys, closed, None)  # as under pythonw
    assert system.libraries_problem(window=False) == problem
    assert debian.installed == []
    assert "[y/N]" not in str(streams["stderr"].getvalue())


def test_yes_is_given_in_advance(
    debian: _Debian, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setenv(bootstrap.YES, "0")
    assert system.libraries_problem(window=False) is not None
    assert bootstrap.without_yes(["demo", "--yes", "--terminal"]) == ["demo", "--terminal"]
    assert system.libraries_problem(window=False) is None
    assert f"Installing with: {COMMAND}" in capsys.readouterr().err
    debian.installed.clear()
    system.provide_venv()
    assert "-venv" in debian.installed[0]


def test_every_command_accepts_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bootstrap.YES, "")
    started: list[list[str]] = []

    def command(arguments: list[str]) -> int:
        started.append([*arguments, os.environ[bootstrap.YES]])
        return 0

    monkeypatch.setattr(main, "_command", command)
    assert main.main(["trust", "model", "--yes", "abc"]) == 0  # the hash of what is trusted
    assert main.main(["check", "--yes", "p.studio"]) == 0
    assert started == [["trust", "model", "--yes", "abc", ""], ["check", "p.studio", "1"]]


def test_ci_gives_the_yes_and_hangs_on_no_question() -> None:
    assert "python3 -m tests --yes\n" in (ROOT / ".ci" / "run").read_text("utf-8")


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

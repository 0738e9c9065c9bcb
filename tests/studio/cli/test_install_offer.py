"""Before a run, a terminal offers to install the packages that its problems name."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bootstrap import YES
from studio.cli import install_offer, main
from studio.cli.install_offer import install_missing
from studio.errors import Problem
from studio.export_folder import llama_cpp
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import save_project
from studio.system import pip_install
from studio.system.optional_packages import COMPRESSED_TENSORS, LLAMA_CPP, OptionalPackage
from tests.wheels import TINY, Environment, write_wheel

MISSING = [
    Problem("Not proven.", "a", code="no_llama_cpp", severity="warning"),
    Problem("Not proven.", "b", code="no_llama_cpp", severity="warning"),
    Problem("Not proven.", "b", code="no_compressed_tensors", severity="warning"),
    Problem("Something else.", code="no_train"),
]


class Terminal(io.StringIO):
    """A terminal with typed answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[OptionalPackage]:
    """What would be installed."""
    made: list[OptionalPackage] = []

    def install(package: OptionalPackage, tell: pip_install.Tell) -> str:
        made.append(package)
        tell(f"Downloading {package.title}", 0.5)
        return f"{package.title} is installed."

    monkeypatch.delenv(YES, raising=False)
    monkeypatch.setattr(pip_install, "install", install)
    monkeypatch.setattr(pip_install, "refusal", lambda package: "")
    return made


def in_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", shown)
    return shown


def test_each_package_is_asked_for_once(
    installs: list[OptionalPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = in_terminal(monkeypatch, "\nno\n")
    assert install_missing(MISSING, as_json=False)
    assert installs == [LLAMA_CPP]
    text = shown.getvalue()
    assert "llama.cpp is not installed. GGUF files are written, but count as not proven" in text
    assert "Install it now (34 MB to download, 102 MB on disk)? [Y/n]" in text
    assert "Downloading llama.cpp: 50 %" in text
    assert "llama.cpp is installed." in text
    assert "Install it now (1 MB to download, 6 MB on disk)? [Y/n]" in text


@pytest.mark.parametrize("typed", ["n\nno\n", ""])
def test_no_and_a_closed_input_install_nothing(
    installs: list[OptionalPackage], monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    in_terminal(monkeypatch, typed)
    assert not install_missing(MISSING, as_json=False)
    assert installs == []


def test_nobody_is_asked_where_nobody_answers(
    installs: list[OptionalPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = in_terminal(monkeypatch, "y\ny\n")
    assert not install_missing(MISSING, as_json=True)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    assert not install_missing(MISSING, as_json=False)
    assert (installs, shown.getvalue()) == ([], "")


def test_what_cannot_be_installed_is_not_offered(
    installs: list[OptionalPackage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_install, "refusal", lambda package: "It cannot be written.")
    shown = in_terminal(monkeypatch, "y\ny\n")
    assert not install_missing(MISSING, as_json=False)
    assert (installs, shown.getvalue()) == ([], "")


def test_yes_in_advance(installs: list[OptionalPackage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(YES, "1")
    assert install_missing(MISSING, as_json=True)
    assert installs == [LLAMA_CPP, COMPRESSED_TENSORS]


def project(tmp_path: Path) -> Path:
    """A base model that is exported as GGUF; its folder is missing, so that nothing is run."""
    nodes = (
        Node("base", "base_model", {"model": str(tmp_path / "nowhere")}),
        Node("export", "export", {"format": "gguf"}),
    )
    path = tmp_path / "gguf.studio"
    save_project(path, Graph("Gguf", nodes, (Wire("base", "model", "export", "model"),)))
    return path


def test_a_run_installs_it_first(
    environment: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the real pip: a failed installation is reported, and the warning still names its command."""
    found = environment.site_packages / "tiny_reader.py"
    monkeypatch.setattr(install_offer, "of_problem", {"no_llama_cpp": TINY}.get)
    monkeypatch.setattr(llama_cpp, "is_installed", found.is_file)
    monkeypatch.setenv(YES, "1")
    assert main(["run", str(project(tmp_path))]) == 2
    told = capsys.readouterr().err
    assert "Tiny reader could not be installed." in told
    assert llama_cpp.install_command() in told
    write_wheel(environment.wheels, "1.5")
    assert main(["run", str(project(tmp_path))]) == 2
    told = capsys.readouterr().err
    assert "Tiny reader is installed (tiny-reader 1.5)." in told
    assert "llama.cpp" not in told

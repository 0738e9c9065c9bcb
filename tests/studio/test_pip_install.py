"""Optional packages are installed by the real pip, into an environment of the test and from wheels that it makes."""

from __future__ import annotations

import http.server
import re
import shutil
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import bootstrap
from bootstrap import install as set_up
from bootstrap import requirements
from studio.errors import Stopped, StudioError
from studio.system import pip_install
from studio.system.optional_packages import PACKAGES
from tests.wheels import TINY, Environment, write_wheel


def installed(environment: Environment) -> list[str]:
    return sorted(p.name for p in environment.site_packages.glob("*.dist-info"))


def refusal_of_install() -> str:
    """Why the package was not installed, and what to do."""
    with pytest.raises(StudioError, match="Tiny reader could not be installed") as found:
        pip_install.install(TINY)
    return found.value.hint


def test_it_is_installed_from_the_index_of_the_user(environment: Environment) -> None:
    write_wheel(environment.wheels, "1.5")
    told: list[str] = []
    sentence = pip_install.install(TINY, lambda words, share: told.append(words))
    assert sentence == "Tiny reader is installed (tiny-reader 1.5)."
    assert list(dict.fromkeys(told)) == [
        "Downloading Tiny reader",
        "Installing Tiny reader",
        "Trying Tiny reader",
    ]
    assert installed(environment) == ["tiny_reader-1.5.dist-info"]


def test_the_versions_of_the_checkout_are_kept(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("1.4", "1.5"):
        write_wheel(environment.wheels, version)
    (tmp_path / "constraints.txt").write_text("tiny-reader==1.4\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "SOURCE", tmp_path)
    assert "tiny-reader 1.4" in pip_install.install(TINY)


def test_what_does_not_work_here_is_removed_again(environment: Environment) -> None:
    write_wheel(environment.wheels, "1.5", "raise OSError('illegal instruction')\n")
    why = refusal_of_install()
    assert re.search(r"does not work on this computer .*illegal instruction.* removed again", why)
    assert installed(environment) == []
    assert not (environment.site_packages / "tiny_reader.py").exists()


def test_no_build_for_this_computer(environment: Environment) -> None:
    write_wheel(environment.wheels, "1.5", tag="cp27-cp27m-win32")
    assert "no build of tiny-reader for its system and Python" in refusal_of_install()
    assert installed(environment) == []


def test_without_a_network(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert "index cannot be reached. Check the network connection" in refusal_of_install()


@pytest.fixture
def slow_index(tmp_path: Path) -> Iterator[str]:
    """An index that sends half of a wheel, and then waits."""
    wheel = write_wheel(tmp_path / "slow", "1.5", "#" + "x" * 400_000)
    content, end = wheel.read_bytes(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            page = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
            found = content if self.path.endswith(".whl") else page
            kind = "text/html" if found is page else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            if found is page:
                self.wfile.write(page)
                return
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            end.wait(300)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    end.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_shown_and_stopped(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, slow_index: str
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", slow_index)
    shares: list[float] = []

    def tell(words: str, share: float | None) -> None:
        if share:
            shares.append(share)

    with pytest.raises(Stopped):
        pip_install.install(TINY, tell, lambda: bool(shares) and shares[-1] > 0.2)
    assert shares == sorted(shares)
    assert 0.2 < shares[-1] < 1
    assert installed(environment) == []
    mine = psutil.Process().children(recursive=True)
    assert not [p for p in mine if "pip" in p.cmdline()]


def test_another_set_up_is_not_disturbed(environment: Environment) -> None:
    (environment.folder / requirements.STAMP).write_text("{}", encoding="utf-8")
    with set_up.locked_now(environment.folder) as held:
        assert held
        assert "Another LoRA Studio process is installing" in refusal_of_install()


# ------------------------------------------------------------------ what is refused before


def test_a_python_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    real = sysconfig.get_path
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name: str(tmp_path) if name == "stdlib" else real(name)
    )
    assert pip_install.refusal(TINY) == "" or sys.prefix == sys.base_prefix
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert "belongs to the operating system" in pip_install.refusal(TINY)


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootstrap.platforms.writable", lambda folder: False)
    assert "cannot be written" in pip_install.refusal(TINY)
    assert TINY.command in pip_install.refusal(TINY)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_500_000))
    assert re.search(r"needs 2 MB on the disk of .* has 2 MB free", pip_install.refusal(TINY))


# ------------------------------------------------------------------ the packages of the program


def test_each_is_an_extra_of_the_project() -> None:
    text = (bootstrap.SOURCE / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for package in PACKAGES.values():
        assert extras[package.id] == [package.requirement]
        assert f"({package.disk_mb} MB)" in package.button

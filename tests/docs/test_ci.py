"""The definitions of the public CI name commands and packages that exist, on every supported Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bootstrap import system

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SYSTEMS = {"ubuntu-latest", "windows-latest", "macos-latest"}
PYTHONS = {"3.11", "3.12", "3.13", "3.14"}


def jobs() -> list[tuple[str, dict]]:
    """Every job of every workflow."""
    found = []
    for path in WORKFLOWS:
        content = yaml.safe_load(path.read_text("utf-8"))
        found += [(f"{path.name}:{name}", job) for name, job in content["jobs"].items()]
    return found


def commands() -> list[str]:
    """Every command that a step runs."""
    return [step["run"] for _, job in jobs() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize(("name", "job"), jobs())
def test_each_job_runs_on_every_system_and_python(name: str, job: dict) -> None:
    matrix = job["strategy"]["matrix"]
    assert set(matrix["os"]) == SYSTEMS
    assert set(matrix["python"]) == PYTHONS
    assert job["runs-on"] == "${{ matrix.os }}"
    assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize(("name", "job"), jobs())
def test_actions_are_pinned_to_a_major_version(name: str, job: dict) -> None:
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used), used


def test_the_commands_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ran = commands()
    assert "python -m tests quick" in ran
    for command in ran:
        for extra in re.findall(r"\.\[(\w+)\]", command):
            assert extra in project["optional-dependencies"]
        for file in re.findall(r"--constraint (\S+)", command):
            assert (ROOT / file).is_file()


def test_the_system_packages_are_those_that_the_bootstrap_names() -> None:
    (line,) = [command for command in commands() if "apt-get install" in command]
    assert set(system.packages_for(system.QT.values(), "apt-get")) <= set(line.split())

"""The documents of the project name files, commands and links that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from studio.graph.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=[d.name for d in DOCUMENTS])
FOLDERS = ("", "studio", "ui", "studio/training", "studio/data", "docs")
"""A path in backticks is relative to one of them."""
PATH = re.compile(
    r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|json|toml|yaml|txt|jsonl|studio|png)|[\w.-]+(?:/[\w.-]+)*/"
)
OF_A_RUN = {
    "plan.json", "environment.json", "events.jsonl", "commands.jsonl", "artifacts/", "steps/",
    "checkpoints/", "count.txt", "config.json", "chats.jsonl",
}  # fmt: skip
"""Files of a run, a model or an example, which are not in the repository."""


def code_of(document: Path) -> Iterator[str]:
    """The code in backticks, and the lines of the code blocks that are commands."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from (line for block in blocks for line in block.splitlines())
    yield from re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )


@EACH_DOCUMENT
def test_paths_in_backticks_exist(document: Path) -> None:
    named = {
        code for code in code_of(document) if PATH.fullmatch(code) and "NAME" not in code
    } - OF_A_RUN
    existing = {
        p.name
        for folder in ("studio", "ui", "workers", "tests")
        for p in (ROOT / folder).rglob("*.py")
    }
    assert [
        path
        for path in sorted(named)
        if path not in existing and not any((ROOT / folder / path).exists() for folder in FOLDERS)
    ] == []


@EACH_DOCUMENT
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@EACH_DOCUMENT
def test_commands_exist(document: Path) -> None:
    for code in code_of(document):
        for command in re.findall(r"main\.py ([a-z]+)", code):
            assert command in main.COMMANDS, code
        for script in re.findall(r"\bpython3? ([\w/]+\.py)", code):
            assert (ROOT / script).is_file(), code
        for argument in re.findall(r"\b((?:tests|assets|benchmarks)/[\w./-]+)", code):
            assert (ROOT / argument).exists(), code


def test_the_readme_counts_the_methods_and_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"**{len(load_registry().choices('adapter'))} LoRA methods**" in text
    assert [c for c in main.COMMANDS if f"main.py {c}" not in text] == []

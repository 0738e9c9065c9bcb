"""``docs/interactions.md``: each line names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.e2e.studio_cli import ROOT

PAGE = ROOT / "docs" / "interactions.md"
LINES = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| A person", "| ---"))
]
DEFINED = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.M)
}


@pytest.mark.parametrize("line", LINES)
def test_the_tests_of_a_line_exist(line: str) -> None:
    last = line.strip().strip("|").rsplit("|", 1)[1]
    names = re.findall(r"`(test_\w+)`", last)
    files = re.findall(r"`(tests/[\w/]+\.py)`", last)
    assert names or files or "the same" in last
    assert set(names) <= DEFINED, set(names) - DEFINED
    assert all((ROOT / file).is_file() for file in files)

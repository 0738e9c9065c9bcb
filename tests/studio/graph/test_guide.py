"""Problems, findings, settings and parts of the window have a page in the guide, and each page and section exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from studio.graph import guide
from studio.graph.registry import load_registry
from studio.graph.schema import fields_of
from studio.preview.report import KINDS
from tests.e2e.studio_cli import ROOT

PLACES = {
    *guide.PROBLEMS.values(),
    *guide.FINDINGS.values(),
    *guide.PARTS.values(),
    *(place for places in guide.SETTINGS.values() for place in places.values()),
}
TREES = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "studio").rglob("*.py")]
TEXTS = {
    node.value
    for tree in TREES
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}
NAMED_BY_POSITION = {"Problem": 4, "Fault": 1, "bad_file": 3}
"""Calls that name a code, and the place of the argument if it has no keyword."""


def codes() -> Iterator[str]:
    """The codes that are written in calls."""
    for tree in TREES:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            found = [k.value for k in node.keywords if k.arg == "code"]
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = NAMED_BY_POSITION.get(name, 99)
            found += node.args[at : at + 1]
            for value in found:
                is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
                if is_text and re.fullmatch("[a-z0-9_]+", value.value):
                    yield value.value


@pytest.mark.parametrize("place", sorted(PLACES))
def test_the_page_and_the_section_exist(place: str) -> None:
    page, _, section = place.partition("#")
    text = (ROOT / guide.FOLDER / page).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    names = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
    assert not section or section in names, names
    assert len(names) == len(set(names)), "two sections with one name"


def test_each_code_of_a_problem_has_a_page_or_is_deliberately_without() -> None:
    assert len(set(codes())) > 150
    missing = {c for c in codes() if c not in guide.PROBLEMS} - guide.WITHOUT_PAGE
    assert missing == set()


def test_no_code_is_in_two_tables_or_in_none_of_the_program() -> None:
    known = [*guide.PROBLEMS, *guide.WITHOUT_PAGE]
    written = [c for codes in guide._PROBLEM_CODES.values() for c in codes.split()]
    assert len(written) == len(guide.PROBLEMS)
    assert not set(guide.PROBLEMS) & guide.WITHOUT_PAGE
    assert set(known) <= TEXTS, set(known) - TEXTS


def test_each_finding_of_the_report_has_a_page() -> None:
    assert set(guide.FINDINGS) == set(KINDS)


def test_each_node_has_a_page_and_the_settings_in_the_table_exist() -> None:
    registry = load_registry()
    assert set(guide.SETTINGS) == set(registry.nodes)
    for kind, places in guide.SETTINGS.items():
        node_type = registry.node_type(kind)
        assert node_type is not None
        specs = fields_of(node_type.settings)
        known = {"", *(s.name for s in specs), *(s.meta.group for s in specs)}
        assert set(places) <= known
        assert guide.of_node(kind)


def test_a_setting_of_a_variant_is_explained_with_its_field() -> None:
    assert guide.of_setting("dataset", "format_settings.label_names", "") == guide.of_setting(
        "dataset", "format", ""
    )
    assert guide.of_setting("an_extension", "size", "") == ""

"""docs/data.md says what the program reads, asks about and refuses."""

from __future__ import annotations

from types import ModuleType

import pytest

from studio.graph.registry import load_registry
from tests.docs.makers import check_page, load_maker


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script as a module."""
    return load_maker("make_data")


def test_page_is_current(maker: ModuleType) -> None:
    check_page(maker)


def test_every_format_has_an_example(maker: ModuleType) -> None:
    """Only the custom format has none, because the user writes it."""
    titles = {v.title for v in load_registry().variants["format"].values() if v.id != "custom"}
    page = maker.PAGE.read_text(encoding="utf-8")
    assert {t for t in titles if f"**: {t}; " not in page} == set()


def test_refused_examples_are_refused_and_others_are_not(maker: ModuleType) -> None:
    page = maker.PAGE.read_text(encoding="utf-8")
    rest, _, refused = page.partition("\n## Refused\n")
    assert "\n**Refused**: " not in rest
    assert refused.count("\n**Refused**: ") == refused.count("\n### ")

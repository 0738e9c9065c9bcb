"""docs/methods.md says what the methods declare."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from studio.graph.registry import load_registry
from tests.docs.makers import check_page, load_maker


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script as a module."""
    return load_maker("make_methods")


def test_page_is_current(maker: ModuleType) -> None:
    check_page(maker)


def test_every_method_says_when_to_use_it_and_names_its_paper() -> None:
    for variant in load_registry().choices("adapter"):
        assert "hen to use it" in variant.help, variant.id
        assert variant.payload.paper, variant.id
        assert re.search(r"20\d\d|arXiv:\d{4}\.\d{5}", variant.help), variant.id

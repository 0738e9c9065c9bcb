"""docs/methods.md says what the methods declare."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from studio.graph.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def maker() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("make_methods", ROOT / "docs" / "make_methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_current(maker: ModuleType) -> None:
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(load_registry()), (
        "run: python docs/make_methods.py"
    )


def test_every_method_says_when_to_use_it_and_names_its_paper() -> None:
    for variant in load_registry().choices("adapter"):
        assert "hen to use it" in variant.help, variant.id
        assert variant.payload.paper, variant.id
        assert re.search(r"20\d\d|arXiv:\d{4}\.\d{5}", variant.help), variant.id

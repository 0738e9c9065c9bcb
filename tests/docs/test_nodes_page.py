"""docs/nodes.md says what the registry says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from studio.graph.registry import load_registry
from studio.graph.schema import fields_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def maker() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("make_nodes", ROOT / "docs" / "make_nodes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_current(maker: ModuleType) -> None:
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(load_registry()), (
        "run: python docs/make_nodes.py"
    )


def test_every_setting_has_its_row(maker: ModuleType) -> None:
    text = maker.page(load_registry())
    for node_type in load_registry().nodes.values():
        assert f"## {node_type.title}" in text
        for spec in fields_of(node_type.settings):
            if not spec.name.endswith("_settings"):
                assert f"| `{spec.name}` |" in text

"""docs/nodes.md says what the registry says."""

from __future__ import annotations

from types import ModuleType

import pytest

from studio.graph.registry import load_registry
from studio.graph.schema import fields_of
from tests.docs.makers import check_page, load_maker


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script as a module."""
    return load_maker("make_nodes")


def test_page_is_current(maker: ModuleType) -> None:
    check_page(maker)


def test_every_setting_has_its_row(maker: ModuleType) -> None:
    text = maker.page(load_registry())
    for node_type in load_registry().nodes.values():
        assert f"## {node_type.title}" in text
        for spec in fields_of(node_type.settings):
            if not spec.name.endswith("_settings"):
                assert f"| `{spec.name}` |" in text

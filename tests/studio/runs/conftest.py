"""Toys for the run hosts of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from studio.graph.registry import load_registry
from tests.studio.runs import toys


@pytest.fixture(autouse=True)
def toys_in_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run hosts that are started here know the toy node types, and so does this process until the
    end of the test."""
    monkeypatch.setenv("LORA_STUDIO_EXTENSIONS", toys.MODULE)
    load_registry.cache_clear()
    yield
    load_registry.cache_clear()

"""Toys for the run hosts of these tests."""

from __future__ import annotations

import pytest

from tests.studio.runs import toys


@pytest.fixture(autouse=True)
def toys_in_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run hosts that are started here know the toy node types."""
    monkeypatch.setenv("LORA_STUDIO_EXTENSIONS", toys.MODULE)

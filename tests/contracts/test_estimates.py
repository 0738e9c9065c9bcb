"""Every optimizer and every LoRA method has an answer in the estimate, or an honest “not known”."""

from __future__ import annotations

from typing import get_args

import pytest

from studio.estimate.formulas import FORMULAS
from studio.estimate.optimizers import STATE_BYTES, state_bytes
from studio.graph.registry import load_registry
from studio.node_settings.train import OptimizerName


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer_has_its_bytes(optimizer: str) -> None:
    assert state_bytes(optimizer, "cpu") is not None
    assert state_bytes(optimizer, "cuda") is not None


def test_no_entry_is_left_of_an_optimizer_or_method_that_is_gone() -> None:
    assert set(STATE_BYTES) == set(get_args(OptimizerName))
    assert set(FORMULAS) <= set(load_registry().variants["adapter"])

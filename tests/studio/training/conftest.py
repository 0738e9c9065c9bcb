"""Fixtures of the training tests: one thread, and libraries that keep quiet."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

_READ_MODEL = "studio.training.export.parity.read_model"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The same arithmetic on every machine, and room for others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quiet_transformers() -> Iterator[None]:
    """For plain transformers code in a test: its advice to developers is not ours to act on."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers and PEFT read in this process, which has imported them; llama.cpp in its own."""
    from studio.training.export.parity import gate, read_model

    ask = gate._Gate._ask

    def here(self: Any, module: str, asked: dict[str, Any], what: str) -> Any:
        if module != _READ_MODEL:
            return ask(self, module, asked, what)
        try:
            return read_model.answer(json.loads(json.dumps(asked)))
        except Exception as error:
            raise gate._Failed(str(error)) from error

    monkeypatch.setattr(gate._Gate, "_ask", here)
    monkeypatch.setattr(read_model, "tell", lambda **message: None)

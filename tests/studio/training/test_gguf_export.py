"""GGUF exports: read back by the readers of transformers and the gguf package, and by llama.cpp where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import plain_adapted, plain_model, random_adapter
from tests.studio.training.gguf_models import FAMILIES, save_noisy
from tests.studio.training.llama_cpp import log_probabilities, needs_llama_cpp
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.tiny import VOCABULARY

pytestmark = pytest.mark.usefixtures("quiet_transformers")
LONG = [(37 * i * i + 11 * i) % 256 + 3 for i in range(100)]
PROMPTS = [[5, 60, 7, 200, 31, 9, 9, 120, 77, 14, 250, 3, 3, 41, 18, 66], LONG]
"""The second is longer than the sliding windows, and than the contexts before RoPE was scaled."""


def exported(
    root: Path, value: ModelValue | AdapterValue, recorder: Recorder | None = None, **settings: Any
) -> Path:
    """The folder of an export in the format GGUF."""
    context = make_context(root / "out", recorder or Recorder())
    context.title, context.project_name = "Export", "Small talk"
    export(context, value.to_json(), ExportSettings(format="gguf", format_settings=settings))
    (artifact,) = context.artifacts
    assert artifact["kind"] == ("adapter_gguf" if isinstance(value, AdapterValue) else "gguf")
    return Path(artifact["path"])


def expected(model: Any, prompts: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    """What transformers computes: logarithms of the probabilities of the next token."""
    with torch.no_grad():
        return [
            model(torch.tensor([p])).logits[0, -1].float().log_softmax(-1).numpy() for p in prompts
        ]


def largest_difference(
    model: Any, file: Path, prompts: list[list[int]], lora: Path | None = None
) -> float:
    """The largest difference between transformers and llama.cpp."""
    found = log_probabilities(file, prompts, VOCABULARY, lora)
    return max(
        abs(float(row[token]) - value)
        for row, answer in zip(expected(model, prompts), found, strict=True)
        for token, value in answer.items()
    )


@needs_llama_cpp
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same(tmp_path: Path, family: str) -> None:
    base = save_noisy(tmp_path / "model", *FAMILIES[family])
    folder = exported(tmp_path, model_value(base), quantizations=["F32"])
    # By its context, llama.cpp chooses the factors of LongRoPE once, and transformers for each text.
    prompts = [LONG] if family == "phi3 longrope" else PROMPTS
    assert largest_difference(plain_model(base), folder / "Small-talk-F32.gguf", prompts) < 1e-2


# ------------------------------------------------------------------ adapters


@needs_llama_cpp
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "phi3", "gpt2"])
def test_an_adapter_on_its_base_computes_the_same_in_llama_cpp(tmp_path: Path, family: str) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES[family]))
    adapter = random_adapter(tmp_path, base, size=0.2, alpha_pattern={"q_proj": 3})
    base_file = exported(tmp_path / "base", base, quantizations=["F32"]) / "Small-talk-F32.gguf"
    lora = exported(tmp_path / "lora", adapter, quantizations=["F32"]) / "Small-talk-F32-LoRA.gguf"
    assert largest_difference(plain_model(base.path), base_file, PROMPTS, lora) > 0.1
    assert largest_difference(plain_adapted(adapter), base_file, PROMPTS, lora) < 1e-2

"""The way of an adapter to every reader: as an adapter, merged, and in GGUF, for each architecture.

Plain PEFT, plain transformers and llama.cpp must compute what base and adapter compute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import (
    SHAPE,
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    save_family,
)
from tests.studio.training.gguf_models import FAMILIES, make_bpe_tokenizer, save_noisy
from tests.studio.training.llama_cpp import log_probabilities, needs_llama_cpp
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_gguf_export import PROMPTS, largest_difference
from tests.studio.training.test_merge import merged
from tests.tiny import VOCABULARY

pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.filterwarnings("ignore"),  # PEFT on tied embeddings
]
GGUF = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"]
_EXPERTS = {**SHAPE, "num_hidden_layers": 1, "num_experts_per_tok": 2}
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("MixtralConfig", {**_EXPERTS, "num_local_experts": 4}),
    "qwen3 moe": (
        "Qwen3MoeConfig",
        {**_EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "head_dim": 16},
    ),
}


def exported(root: Path, value: ModelValue | AdapterValue, **settings: Any) -> Path:
    context = make_context(root, Recorder())
    context.title, context.project_name = "Export", "Small talk"
    export(context, value.to_json(), ExportSettings(check_rows=0, **settings))
    return Path(context.artifacts[0]["path"])


def gguf(root: Path, value: ModelValue | AdapterValue, kind: str = "F32") -> Path:
    """The file of an export in the format GGUF."""
    settings = {"quantizations": [kind]}
    (file,) = exported(root, value, format="gguf", format_settings=settings).glob("*.gguf")
    return file


def same(model: Any, wanted: Any, limit: float) -> bool:
    """Whether two models compute the same logits."""
    return float((logits(model) - logits(wanted)).abs().max()) < limit


def both(root: Path, base: ModelValue) -> tuple[AdapterValue, ModelValue]:
    """An adapter whose layers have several scales, and the merged model."""
    options = {"use_rslora": True, "alpha_pattern": {"q_proj": 3, "c_attn": 3, "o_proj": 11}}
    adapter = random_adapter(root, base, size=0.2, **options)
    make_bpe_tokenizer().save_pretrained(adapter.path)
    return adapter, merged(root, adapter, dtype="float32")


@pytest.mark.parametrize("family", [*GGUF, *MIXTURES])
def test_peft_and_transformers_load_what_is_exported(tmp_path: Path, family: str) -> None:
    if family in MIXTURES:
        base = model_value(save_family(tmp_path / "model", *MIXTURES[family]))
    else:
        base = model_value(save_noisy(tmp_path / "model", *FAMILIES[family]))
    adapter, whole = both(tmp_path, base)
    wanted = plain_adapted(adapter)
    assert not same(plain_model(base.path), wanted, 0.1)
    for form in ("portable", "as_trained"):
        folder = exported(tmp_path / form, adapter, format_settings={"form": form})
        assert same(plain_adapted(adapter.model_copy(update={"path": str(folder)})), wanted, 1e-3)
    assert same(plain_model(exported(tmp_path / "whole", whole)), wanted, 1e-3)


@needs_llama_cpp
@pytest.mark.parametrize("family", GGUF)
def test_llama_cpp_loads_what_is_exported(tmp_path: Path, family: str) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES[family]))
    adapter, whole = both(tmp_path, base)
    wanted = plain_adapted(adapter)
    alone, lora = gguf(tmp_path / "a", base), gguf(tmp_path / "b", adapter)
    file, half = gguf(tmp_path / "c", whole), gguf(tmp_path / "d", whole, "F16")
    assert largest_difference(wanted, file, PROMPTS) < 1e-2
    assert largest_difference(wanted, half, PROMPTS) < 2e-2
    assert largest_difference(wanted, alone, PROMPTS, lora) < 1e-2
    assert largest_difference(wanted, alone, PROMPTS) > 0.1
    one = log_probabilities(file, PROMPTS, VOCABULARY)
    two = log_probabilities(alone, PROMPTS, VOCABULARY, lora)
    for whole_row, parts_row in zip(one, two, strict=True):
        assert max(abs(whole_row[t] - parts_row[t]) for t in whole_row) < 5e-3

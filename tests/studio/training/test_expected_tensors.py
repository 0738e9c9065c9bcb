"""The tensors of known architectures, as plain transformers builds and stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.model.expected_tensors import differences
from studio.model.families import FAMILIES
from studio.model.weight_files import Stored, stored_tensors
from tests.studio.estimate.architectures import ARCHITECTURES, Config, meta_model, shortened
from tests.studio.training.adapters import SHAPE, save_family

pytestmark = pytest.mark.usefixtures("quiet_transformers")

_SMALL = {
    **SHAPE,
    "num_hidden_layers": 3,
    "head_dim": 8,
    "num_local_experts": 4,
    "num_experts": 4,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
}
_OF_MOST = {"head_dim", "num_local_experts", "num_experts", "moe_intermediate_size"}
_MORE: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen3": {"attention_bias": True},
    "gpt_neox": {"use_parallel_residual": False},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "starcoder2": {"use_bias": False},
    "gpt2": {"n_inner": 80},
}
_CLASSES = {
    "gemma3_text": "Gemma3TextConfig",
    "gpt2": "GPT2Config",
    "gpt_neox": "GPTNeoXConfig",
    "opt": "OPTConfig",
    "qwen3_moe": "Qwen3MoeConfig",
    "smollm3": "SmolLM3Config",
}


def saved(folder: Path, family: str, **more: Any) -> tuple[Config, dict[str, Stored]]:
    """Config and stored tensors of a small model of a family, saved by transformers."""
    known = FAMILIES[family].defaults
    own = {k: v for k, v in _SMALL.items() if k in known or k not in _OF_MOST}
    save_family(folder, _CLASSES.get(family, f"{family.title()}Config"), {**own, **more})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config, dict(stored_tensors(folder / "model.safetensors"))


def reported(config: Config, stored: dict[str, Stored]) -> tuple[Any, ...]:
    found = differences(config, stored)
    assert found is not None
    return found.missing, found.surplus, dict(found.shapes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_real_models_have_exactly_these_tensors(name: str) -> None:
    config = shortened(ARCHITECTURES[name][0], 2)
    if config["model_type"] == "gemma3":  # its vision tower is not in the table
        assert differences(config, {}) is None
        return
    stored = {n: Stored("BF16", tuple(t.shape)) for n, t in meta_model(config).state_dict().items()}
    assert reported(config, stored) == ((), (), {})


@pytest.mark.parametrize("tied", [True, False, None], ids=["tied", "untied", "by default"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_models_have_exactly_these_tensors(
    family: str, tied: bool | None, tmp_path: Path
) -> None:
    """Also those whose experts are joined when they are loaded."""
    more = {} if tied is None else {"tie_word_embeddings": tied}
    assert reported(*saved(tmp_path, family, **more)) == ((), (), {})


@pytest.mark.parametrize("family", _MORE)
def test_options_that_add_or_remove_tensors(family: str, tmp_path: Path) -> None:
    assert reported(*saved(tmp_path, family, **_MORE[family])) == ((), (), {})


@pytest.mark.parametrize("family", FAMILIES)
def test_each_missing_and_misshapen_tensor_is_named(family: str, tmp_path: Path) -> None:
    config, stored = saved(tmp_path, family, tie_word_embeddings=False)
    for name in stored:
        rest = {n: t for n, t in stored.items() if n != name}
        assert reported(config, rest) == ((name,), (), {})
    for name, tensor in stored.items():
        other = (*tensor.shape[:-1], tensor.shape[-1] + 1)
        found = reported(config, {**stored, name: Stored(tensor.dtype, other)})
        assert found == ((), (), {name: (other, tensor.shape)})


def test_a_surplus_tensor_is_named_and_old_buffers_are_not(tmp_path: Path) -> None:
    config, stored = saved(tmp_path, "llama")
    stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = Stored("F32", (4,))
    assert reported(config, stored) == ((), (), {})
    stored["score.weight"] = Stored("F32", (2, 32))
    assert reported(config, stored) == ((), ("score.weight",), {})


def test_files_of_the_base_model_need_not_name_it(tmp_path: Path) -> None:
    """GPT-2 is published without its prefix; without a head the head is tied or missing."""
    config, stored = saved(tmp_path, "gpt2", tie_word_embeddings=True)
    bare = {n.removeprefix("transformer."): t for n, t in stored.items()}
    assert reported(config, bare) == ((), (), {})
    assert reported({**config, "tie_word_embeddings": False}, bare)[0] == ("lm_head.weight",)


def test_another_number_of_layers_is_counted(tmp_path: Path) -> None:
    config, stored = saved(tmp_path, "qwen3")
    for count in (1, 2, 4, 5):
        found = differences({**config, "num_hidden_layers": count}, stored)
        assert found is not None
        assert found.layers == (3, count)
        assert bool(found.missing) is (count > 3)
        assert bool(found.surplus) is (count < 3)


def test_unequal_layers_are_left_to_transformers(tmp_path: Path) -> None:
    config, stored = saved(tmp_path, "qwen3_moe")
    assert differences({**config, "mlp_only_layers": [1]}, stored) is None
    assert differences({"model_type": "unheard-of"}, stored) is None

"""The sizes of GGUF files that the form shows before anything is trained are those of the files that are written."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import gguf
import pytest

from studio.export_folder.gguf_architectures import ARCHITECTURES
from studio.export_folder.gguf_mixtures import WITH_MATRIX
from studio.export_folder.gguf_quantizations import PURPOSES
from studio.export_folder.gguf_sizes import file_size
from studio.export_folder.gguf_types import BLOCKS
from studio.model.read_shape import read_shape
from studio.node_settings.export import KQuant, Quantization
from studio.training.export.gguf_file import data_size
from studio.training.export.gguf_weights import model_tensors
from studio.training.model.load import config_of
from tests.studio.training.adapters import SHAPE
from tests.studio.training.gguf_models import FAMILIES, save_noisy

WIDE = {**SHAPE, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 9}
MODELS = {
    **{
        name: FAMILIES[name]
        for name in ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2")
    },
    "llama with biases": FAMILIES["llama with biases"],
    "llama, wide": ("LlamaConfig", WIDE),
    "qwen2, wide": ("Qwen2Config", {**WIDE, "tie_word_embeddings": True}),
    "qwen3 mixture, wide": (
        "Qwen3MoeConfig",
        {**FAMILIES["qwen3 mixture"][1], "hidden_size": 256, "moe_intermediate_size": 256},
    ),
    "phi3, wide": ("Phi3Config", {**WIDE, "sliding_window": None}),
}


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_all_tensors(tmp_path: Path, name: str) -> None:
    """Within 2 %, for each quantization and each architecture; with an importance matrix where that is the default."""
    folder = save_noisy(tmp_path / "model", *MODELS[name])
    config = config_of(folder).to_dict()
    tensors = model_tensors(folder, ARCHITECTURES[config["model_type"]], config)
    shape = read_shape(folder)
    assert shape is not None
    for kind in PURPOSES:
        wanted = data_size(tensors, kind, kind in WITH_MATRIX)
        found = file_size(shape, kind) - file_size_of_keys(shape.vocabulary)
        assert found == pytest.approx(wanted, rel=0.02), kind


def file_size_of_keys(tokens: int) -> int:
    """What the file size adds for the tokenizer."""
    return 36 * tokens


def test_blocks_are_those_of_the_library() -> None:
    for name, block in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == block


def test_every_quantization_is_described_once() -> None:
    assert sorted(PURPOSES) == sorted((*get_args(Quantization), *get_args(KQuant)))
    assert [n for n, p in PURPOSES.items() if p.group == "Recommended"] == ["Q8_0", "Q4_K_M"]

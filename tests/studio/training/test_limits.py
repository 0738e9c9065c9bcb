"""What does not fit is said in a sentence: tokens, targets, precisions, and GPUs that are too small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio.errors import StudioError
from studio.model.layers import read_linear_modules
from studio.training.answer.generate import new_tokens
from studio.training.loop.train import train_adapter
from studio.training.merge import check as merge_check
from studio.training.model import load
from studio.training.model.base_model import check_folder
from studio.training.model.out_of_memory import explain_out_of_memory
from studio.training.model.weights import parameter_count
from studio.training.tokens.limits import learned_positions
from tests.studio.training.adapters import save_family
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import VOCABULARY, make_tiny_model, make_tiny_tokenizer

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
GIB = 2**30


@pytest.mark.usefixtures("quiet_transformers")
def test_the_positions_of_opt_are_those_of_its_config(tmp_path: Path) -> None:
    """Its table has two more rows, which are not positions."""
    sizes = {"hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    values = {"vocab_size": VOCABULARY, "max_position_embeddings": 48, **sizes, **layers}
    assert learned_positions(save_family(tmp_path / "opt", "OPTConfig", values)) == 48


def test_an_answer_ends_where_the_positions_of_the_longest_prompt_do() -> None:
    """Prompts of a batch are padded to the longest: all have its room."""
    prompts = [[1] * 3, [1] * 8]
    assert new_tokens(prompts, 10, limit=12) == 4
    assert new_tokens(prompts, 2, limit=12) == 2
    assert new_tokens(prompts, 10, limit=None) == 10


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    """One token more than the model knows: named, instead of an assertion on the GPU."""
    inputs = make_inputs(tmp_path)
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(8)] + ["oak"])
    tokenizer.save_pretrained(str(tmp_path / "model"))
    with pytest.raises(StudioError, match=r"the token “oak” \(ID 267\).* 264 tokens") as caught:
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    assert caught.value.code == "unknown_token"


def test_a_pad_token_that_the_model_lacks_is_replaced(tmp_path: Path) -> None:
    """It is masked everywhere, so the losses are those of any other."""
    plain, foreign = Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", plain), make_inputs(tmp_path), settings_of())
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(8)])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id > VOCABULARY
    file = tmp_path / "model" / "tokenizer_config.json"
    tokenizer.save_pretrained(str(file.parent))
    train_adapter(make_context(tmp_path / "b", foreign), make_inputs(tmp_path), settings_of())
    assert json.loads(file.read_text(encoding="utf-8"))["pad_token"] == "<pad>"
    assert foreign.losses() == plain.losses()


def test_a_target_that_only_the_files_have_is_refused(tmp_path: Path) -> None:
    """PEFT adapts what it finds and is content; the user asked for all."""
    inputs = make_inputs(tmp_path, target_modules=["q_proj", "model.layers.9.up_proj"])
    with pytest.raises(StudioError, match=r"“model.layers.9.up_proj” is in the files"):
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())


_OWN_PRECISION = [
    ({"bias": "all"}, "biases"),
    ({"modules_to_save": ["embed_tokens"]}, "fully trained modules"),
]


@pytest.mark.parametrize(("adapter", "what"), _OWN_PRECISION)
def test_what_has_the_models_precision_is_refused_in_float16(
    tmp_path: Path, adapter: dict[str, Any], what: str
) -> None:
    """Before a step, not in the middle of it."""
    inputs = make_inputs(tmp_path, **adapter)
    inputs["model"]["model"]["dtype"] = "float16"
    with pytest.raises(StudioError, match=f"{what} cannot be trained in float16"):
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())


@pytest.mark.usefixtures("quiet_transformers")
@pytest.mark.parametrize(("adapter", "what"), _OWN_PRECISION)
def test_what_has_the_models_precision_is_told_in_bfloat16(
    tmp_path: Path, adapter: dict[str, Any], what: str
) -> None:
    """They train, and hardly move."""
    inputs, recorder = make_inputs(tmp_path, **adapter), Recorder()
    inputs["model"]["model"]["dtype"] = "bfloat16"
    train_adapter(make_context(tmp_path, recorder), inputs, settings_of(max_steps=2))
    assert any(
        f"{what} are trained in bfloat16" in e.get("sentence") for e in recorder.named("Notice")
    )


def test_a_damaged_file_of_weights_is_a_sentence(tmp_path: Path) -> None:
    """Cut off in the middle, as a broken copy is."""
    inputs = make_inputs(tmp_path)
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(StudioError, match=r"^model\.safetensors is truncated") as caught:
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    assert caught.value.code == "bad_weights"


@pytest.mark.parametrize(
    ("gpu", "place"),
    [(40, (GPU, "float32")), (20, (GPU, "bfloat16")), (8, (CPU, "float32"))],
)
def test_a_merge_is_compared_where_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: int, place: object
) -> None:
    """7 billion weights, trained in 4 bits: on 8 GiB the unquantized model goes to the CPU."""
    value = model_value(make_tiny_model(tmp_path / "model"), parameters=7 * 10**9, dtype="bfloat16")
    room = {"cuda": gpu * GIB, "cpu": 64 * GIB}
    for module in (load, merge_check):
        monkeypatch.setattr(module, "pick_device", lambda: GPU)
        monkeypatch.setattr(module, "free_bytes", lambda device: room[device.type])
    assert merge_check._place(value) == place
    assert load.roomy_device(value) == place[0]  # type: ignore[index]
    assert load.roomy_device(value.model_copy(update={"quantization": "nf4"})) == GPU


def test_files_for_other_programs_are_passed_over(tmp_path: Path) -> None:
    """Mistral's repositories hold the weights twice, the second time under other names."""
    folder = make_tiny_model(tmp_path / "model")
    before = read_linear_modules(folder), parameter_count(folder)
    save_file(
        {"layers.0.attention.wq.weight": torch.zeros(4, 4)}, folder / "consolidated.safetensors"
    )
    assert (read_linear_modules(folder), parameter_count(folder)) == before


def test_a_missing_file_of_weights_is_a_sentence(tmp_path: Path) -> None:
    """One of several is not there, as after a copy that broke off."""
    folder = make_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(StudioError, match=names[1]) as caught:
        check_folder(make_context(tmp_path, Recorder()), folder, "the model")
    assert (caught.value.code, caught.value.field) == ("bad_weights", "model")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), "GPU "),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "GPU "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), ""),
        (MemoryError(), ""),
    ],
)
def test_a_full_memory_is_a_sentence(tmp_path: Path, error: Exception, place: str) -> None:
    """However it is said; and nothing else is taken for it."""
    as_studio_error = explain_out_of_memory("training", "Less.", "batch_size")
    with (
        pytest.raises(StudioError, match=f"not enough {place}memory for") as caught,
        as_studio_error,
    ):
        raise error
    assert (caught.value.code, caught.value.field) == ("out_of_memory", "batch_size")
    with (
        pytest.raises(RuntimeError, match="shape"),
        explain_out_of_memory("training", "Less."),
    ):
        raise RuntimeError("shape mismatch")


def test_a_quantization_that_hardly_reaches_anything_is_told(tmp_path: Path) -> None:
    """Here the embedding is counted a thousand times as large."""
    recorder = Recorder()
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization="nf4", dtype="bfloat16", parameters=10**8)
    train_adapter(make_context(tmp_path, recorder), inputs, settings_of(max_steps=2))
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert any(s.startswith("Only 0.") and " % of the weights" in s for s in sentences)

"""Weights in bfloat16, products in float32: on a CPU without units for bfloat16, a training computes as in float32 and
keeps its weights in half the memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from studio.estimate.kept import FLOAT32_BASE
from studio.graph.node_type import CheckContext
from studio.model.models import quick_check
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.merge import MergeSettings
from studio.system import hardware
from studio.training.adapter.build import build_adapter
from studio.training.loop.chunked_head import chunked_loss
from studio.training.loop.train import train_adapter, train_model
from studio.training.merge.make import merge_adapter
from studio.training.model import load
from studio.training.model.wide_products import (
    multiplies_in_float32,
    multiply_in_float32,
    widen,
)
from tests.studio.training.adapters import plain_model
from tests.studio.training.gguf_models import FAMILIES, MIXTURES, noisy_model
from tests.studio.training.methods import METHODS, OWN, facts_of, inputs_for, train_settings
from tests.studio.training.steps import (
    Recorder,
    adapted_value,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model, make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture(autouse=True)
def old_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that emulates bfloat16."""
    monkeypatch.setattr(load, "computes_bfloat16", lambda device: False)


def noisy(family: str) -> Any:
    """A tiny model in bfloat16 whose weights are noise."""
    with torch.random.fork_rng():
        return noisy_model(family, seed=5).to(torch.bfloat16).eval()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in (*MIXTURES, "nemotron")])
def test_logits_are_those_in_float32(family: str) -> None:
    model = noisy(family)
    ids = torch.arange(3, 20)[None]
    assert multiply_in_float32(model)
    with torch.no_grad():
        found = model(input_ids=ids).logits
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        wanted = noisy(family).float()(input_ids=ids).logits
    limit = (
        0.05 if family.startswith("gemma") else 1e-4
    )  # Gemma's factor of the embeddings is rounded
    torch.testing.assert_close(found, wanted, rtol=limit, atol=limit)


@pytest.mark.parametrize("family", [*MIXTURES, "nemotron"])
def test_a_model_that_needs_one_precision_stays_as_it_was(family: str) -> None:
    model = noisy(family)
    before = {n: type(m) for n, m in model.named_modules()}
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        if multiply_in_float32(model):  # a version of transformers whose experts take both
            pytest.skip("its layers take float32")
        assert {n: type(m) for n, m in model.named_modules()} == before
        assert torch.equal(model(input_ids=ids).logits, wanted)


WITHOUT_DATA = [
    name
    for name, method in METHODS.items()
    if "bfloat16" in method.payload.dtypes
    and not method.payload.only_quantized
    and not (method.payload.hooks.prepare or method.payload.hooks.initialise)
]


def run(root: Path, model: Path, dtype: str, **settings: Any) -> tuple[Recorder, Any]:
    """A training of six steps."""
    recorder = Recorder()
    inputs = {
        "model": adapted_value(model_value(model, dtype=dtype)).model_dump(mode="json"),
        "dataset": dataset_value(root / "data", validation=4).model_dump(mode="json"),
    }
    options = settings_of(max_steps=6, batch_size=3, eval_steps=3, **settings)
    return recorder, train_adapter(make_context(root, recorder), inputs, options)


@pytest.mark.parametrize(
    "settings",
    [{}, {"fused": False}, {"gradient_checkpointing": True}, {"batching": "padded"}],
    ids=["as it comes", "plain functions", "checkpointing", "padded"],
)
def test_losses_are_those_in_float32(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Of a base model whose weights are stored in bfloat16."""
    model = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    half, _ = run(tmp_path / "half", model, "bfloat16", **settings)
    single, _ = run(tmp_path / "single", model, "float32", **settings)
    assert half.losses() == pytest.approx(single.losses(), abs=3e-4)
    losses = [
        [e.get("eval_loss") for e in r.named("Metric") if e.get("eval_loss")]
        for r in (half, single)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=3e-4)
    assert not [e for e in half.named("Notice") if e.get("level") == "warning"]


@pytest.mark.parametrize("tokens", [(), (5, 6)], ids=["layers", "and tokens"])
def test_trained_tokens_are_those_in_float32(tmp_path: Path, tokens: tuple[int, ...]) -> None:
    model = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    found = []
    for dtype in ("bfloat16", "float32"):
        recorder = Recorder()
        adapted = adapted_value(model_value(model, dtype=dtype), trained_tokens=tokens)
        inputs = {
            "model": adapted.model_dump(mode="json"),
            "dataset": dataset_value(tmp_path / "data").model_dump(mode="json"),
        }
        train_adapter(make_context(tmp_path / dtype, recorder), inputs, settings_of(max_steps=4))
        found.append(recorder.losses())
    assert found[0] == pytest.approx(found[1], abs=3e-4)


@pytest.mark.parametrize("method", WITHOUT_DATA)
def test_methods_that_compute_with_the_weights_get_a_base_in_float32(
    tmp_path: Path, method: str
) -> None:
    """And the estimate knows which they are."""
    base = plain_model(make_tiny_model(tmp_path / "model", dtype="bfloat16")).to(torch.bfloat16)
    assert multiply_in_float32(base)
    own = {"method_settings": OWN.get(method, {})}
    value = adapted_value(model_value(tmp_path / "model", dtype="bfloat16"), method=method, **own)
    tuning = build_adapter(make_context(tmp_path, Recorder()), base, value, facts_of(tmp_path))
    assert multiplies_in_float32(tuning.model) is (method not in FLOAT32_BASE)
    with torch.no_grad():
        logits = tuning.model(input_ids=torch.arange(3, 20)[None]).logits
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("method", "base"),
    [*((m, "bfloat16") for m in sorted(FLOAT32_BASE)), ("ln_tuning", "float32")],
)
def test_an_adapter_of_these_methods_is_trained_verified_and_merged(
    tmp_path: Path, method: str, base: str
) -> None:
    """The base is loaded again for both, in bfloat16 for the merge; that of LN tuning is merged in memory."""
    inputs = inputs_for(tmp_path, method, base)
    settings = train_settings(method, max_steps=3)
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings)
    merged = merge_adapter(
        make_context(tmp_path, Recorder()),
        value.model_dump(mode="json"),
        MergeSettings(dtype="bfloat16"),
    )
    found = transformers.AutoModelForCausalLM.from_pretrained(merged.path, dtype="auto")
    assert found.dtype == torch.bfloat16


def test_a_layer_keeps_its_weight_and_not_a_wide_copy(tmp_path: Path) -> None:
    model = noisy("llama")
    multiply_in_float32(model)
    model.requires_grad_(False)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        x = torch.randn(1, 8, model.config.hidden_size, requires_grad=True)
        model(inputs_embeds=x).logits.sum()
    shapes = {tuple(p.shape) for p in model.parameters() if p.dim() == 2}
    wide = [t for t in kept if tuple(t.shape) in shapes and t.dtype == torch.float32]
    assert kept
    assert not wide


def test_the_merged_model_is_in_bfloat16(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    _, value = run(tmp_path, model, "bfloat16")
    merged = merge_adapter(
        make_context(tmp_path, Recorder()), value.model_dump(mode="json"), MergeSettings()
    )
    found = transformers.AutoModelForCausalLM.from_pretrained(merged.path, dtype="auto")
    assert found.dtype == torch.bfloat16


def test_only_a_cpu_computes_in_float32_instead() -> None:
    """A GPU without units converts by itself, and was not measured."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert load.is_emulated("bfloat16", cpu)
    assert not load.is_emulated("bfloat16", gpu)
    assert not load.is_emulated("float32", cpu)


def test_the_output_head_in_chunks_is_that_in_float32() -> None:
    """What it reads is not rounded to the precision of its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        hidden = torch.randn(40, 16)
        weight = torch.randn(1 << 20, 16).to(torch.bfloat16)
    head = torch.nn.Linear(16, len(weight), bias=False, dtype=torch.bfloat16)
    head.weight.data = weight
    head.requires_grad_(False)
    widen(SimpleNamespace(modules=head.modules, get_input_embeddings=torch.nn.Identity))
    wanted = torch.arange(40)

    def loss(logits: torch.Tensor, ids: torch.Tensor, weights: Any) -> torch.Tensor:
        del weights
        return cross_entropy(logits.float(), ids, reduction="sum")

    found = chunked_loss(hidden, head, wanted, None, loss)
    plain = cross_entropy(hidden @ weight.float().t(), wanted, reduction="sum")
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=0)


def test_a_fully_fine_tuned_model_is_what_is_loaded_later(tmp_path: Path) -> None:
    """It is trained in float32, stored in bfloat16, and compared as it computes when it is loaded."""
    model = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    inputs = {
        "model": model_value(model, dtype="bfloat16").model_dump(mode="json"),
        "dataset": dataset_value(tmp_path / "data").model_dump(mode="json"),
    }
    context = make_context(tmp_path, Recorder())
    value = train_model(context, inputs, settings_of(max_steps=4, learning_rate=1e-3))
    assert value.dtype == "bfloat16"
    assert value.merged_from[-1]["adapter"]["reload_difference"] <= 1e-5


@pytest.mark.parametrize(
    ("family", "warned"),
    [("llama", False), *((family, True) for family in (*MIXTURES, "nemotron"))],
)
def test_the_check_warns_of_what_is_still_emulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, warned: bool
) -> None:
    """Of joined experts; and the training of such a model says it too."""
    monkeypatch.setattr(hardware, "cpu_computes_bfloat16", lambda: False)
    noisy(family).save_pretrained(tmp_path)
    settings = BaseModelSettings(model=str(tmp_path), dtype="bfloat16")
    found = quick_check(settings, CheckContext("base", "Base model", tmp_path))
    assert ("bfloat16_emulated" in [p.code for p in found]) is warned
    recorder = Recorder()
    load.load_base(make_context(tmp_path, recorder), model_value(tmp_path, dtype="bfloat16"))
    told = [e for e in recorder.named("Notice") if "no units for bfloat16" in e.get("sentence")]
    assert bool(told) is warned


def test_what_is_still_emulated_is_said_once_in_a_step(tmp_path: Path) -> None:
    """A training loads the model again to verify the adapter."""
    noisy("mixtral").save_pretrained(tmp_path / "model")
    make_tiny_tokenizer().save_pretrained(str(tmp_path / "model"))
    recorder = Recorder()
    model = model_value(tmp_path / "model", dtype="bfloat16")
    inputs = {
        "model": adapted_value(model, target_modules=["q_proj"]).model_dump(mode="json"),
        "dataset": dataset_value(tmp_path / "data").model_dump(mode="json"),
    }
    train_adapter(make_context(tmp_path, recorder), inputs, settings_of(max_steps=2))
    said = [e.get("sentence") for e in recorder.named("Notice")]
    assert sum("no units for bfloat16" in sentence for sentence in said) == 1


def test_a_loaded_model_multiplies_in_float32(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", dtype="bfloat16")
    context = make_context(tmp_path, Recorder())
    assert multiplies_in_float32(load.load_base(context, model_value(folder, dtype="bfloat16")))
    assert not multiplies_in_float32(load.load_base(context, model_value(folder, dtype="float32")))

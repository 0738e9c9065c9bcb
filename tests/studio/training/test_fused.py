"""Fused functions: the same loss and gradients as transformers and PEFT, less kept for the backward pass, and a check
that notices every fault in them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from studio.estimate.activations import Mode
from studio.estimate.kept import FUSED
from studio.estimate.memory import Batch
from studio.node_settings.train import TrainSettings
from studio.training.estimate.probe import run_probe
from studio.training.fused import functions, swap
from studio.training.fused.check import compare
from studio.training.fused.swap import Fused, fuse
from studio.training.loop import training_loop
from studio.training.loop.train import train_adapter
from tests.studio.training.gguf_models import FAMILIES, MIXTURES, noisy_model
from tests.studio.training.methods import built
from tests.studio.training.steps import (
    TARGETS,
    Recorder,
    adapted_value,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.tiny import VOCABULARY, make_tiny_model

pytestmark = pytest.mark.usefixtures("quiet_transformers")

WHOLE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "smollm3")
"""Families whose decoder layers are computed with fused functions throughout."""
LENGTHS = (13, 7)


def made(
    family: str, targets: Any = "all-linear", dtype: Any = None, shape: Any = None, **lora: Any
) -> Any:
    """A tiny model whose weights are noise, with an adapter whose weights are noise, too."""
    with torch.random.fork_rng():
        base = noisy_model(family, seed=3, **(shape or {})).to(dtype or torch.float32)
        config = LoraConfig(
            r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **lora
        )
        model = get_peft_model(base, config)
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.data = 0.1 * torch.randn(p.shape)
    return model.train()


def loss_of(model: Any) -> torch.Tensor:
    """The loss of two rows; the same at each call."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (2, max(LENGTHS)), generator=draw)
    mask = torch.ones_like(ids)
    mask[1, LENGTHS[1] :] = 0
    labels = ids.masked_fill(mask == 0, -100)
    out: torch.Tensor = model(
        input_ids=ids, attention_mask=mask, labels=labels, use_cache=False
    ).loss
    return out


def gradients(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients by name; dropout of the model itself is the same each time."""
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        loss = loss_of(model)
    loss.backward()
    return float(loss.detach()), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


def assert_same(model: Any, limit: float = 2e-4) -> Fused:
    """The fused model has loss and gradients of the plain one; returns what was fused."""
    loss, plain = gradients(model)
    fused = fuse(model)
    again, found = gradients(model)
    assert again == pytest.approx(loss, rel=limit)
    assert found.keys() == plain.keys()
    largest = max(float(g.norm()) for g in plain.values())
    for name, wanted in plain.items():
        difference = float((found[name] - wanted).norm())
        assert difference <= limit * (float(wanted.norm()) + 1e-2 * largest), name
    return fused


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_trains_the_same(family: str) -> None:
    model = made(family)
    fused = assert_same(model)
    layers = sum(hasattr(m, "lora_A") for m in model.modules())
    if family in WHOLE:
        assert fused.adapted == layers
        assert fused.counts["gated MLPs"] == model.config.num_hidden_layers
        assert fused.counts["RMS norms"] > 2 * model.config.num_hidden_layers
    elif family not in MIXTURES and family != "gpt2":
        assert fused.adapted > 0


@pytest.mark.parametrize(
    ("targets", "lora"),
    [
        (["q_proj", "v_proj"], {}),
        (["down_proj"], {}),
        (["k_proj", "gate_proj"], {"use_rslora": True}),
        (TARGETS, {"rank_pattern": {"q_proj": 2, "up_proj": 7}, "alpha_pattern": {"v_proj": 50}}),
        ([*TARGETS, "lm_head"], {}),
    ],
    ids=["q and v", "one", "rsLoRA", "patterns", "head"],
)
def test_some_layers_with_an_adapter(targets: list[str], lora: dict[str, Any]) -> None:
    model = made("llama with biases", targets, **lora)
    fused = assert_same(model)
    assert fused.adapted == sum(hasattr(m, "lora_A") for m in model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_under_autocast(dtype: torch.dtype) -> None:
    """As accelerate trains in mixed precision: gradients of the adapter stay in float32."""
    model = made("qwen3", dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss, plain = gradients(model)
        assert fuse(model)
        again, found = gradients(model)
    assert again == pytest.approx(loss, rel=2e-2)
    for name, wanted in plain.items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - wanted).norm()) <= 0.1 * float(wanted.norm()), name


def test_with_gradient_checkpointing() -> None:
    model = made("gemma3")
    loss, plain = gradients(model)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert fuse(model)
    again, found = gradients(model)
    assert again == pytest.approx(loss, rel=1e-4)
    for name, wanted in plain.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-5)


def test_less_is_kept_for_the_backward_pass() -> None:
    model = made("llama", shape={"intermediate_size": 512, "num_hidden_layers": 4})

    def kept() -> int:
        sizes: dict[int, int] = {}

        def count(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape and not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            loss = loss_of(model)
        total = sum(size for place, size in sizes.items() if place not in own)
        del loss
        return total

    plain = kept()
    fuse(model)
    assert kept() < 0.75 * plain


def test_evaluation_and_a_disabled_adapter_compute_as_before() -> None:
    model = made("llama")
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        with model.disable_adapter():
            base = model(input_ids=ids).logits
    fuse(model)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, trained)
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids).logits, base)
    with model.disable_adapter():  # with gradients, too
        torch.testing.assert_close(model(input_ids=ids).logits.detach(), base)
    model.eval()
    assert torch.equal(model(input_ids=ids).logits.detach(), trained)


def test_undo_leaves_the_model_as_it_was() -> None:
    model = made("gemma2")
    before = {n: m.forward for n, m in model.named_modules()}
    fused = fuse(model)
    assert fused.adapted > 0
    fused.undo()
    assert {n: m.forward for n, m in model.named_modules()} == before
    assert not fused
    assert fused.adapted == 0


@pytest.mark.parametrize(
    "lora",
    [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}],
    ids=lambda x: next(iter(x)),
)
def test_what_is_not_supported_stays_plain(lora: dict[str, Any]) -> None:
    model = made("llama", TARGETS, **lora)
    fused = fuse(model)
    assert fused.adapted == 0
    assert not any("forward" in m.__dict__ for m in model.modules() if hasattr(m, "lora_A"))


@pytest.mark.parametrize("method", sorted(FUSED))
def test_methods_that_the_estimate_takes_for_fused_are(tmp_path: Path, method: str) -> None:
    """All layers with an adapter."""
    model = built(tmp_path, method).model
    layers = sum(isinstance(module, BaseTunerLayer) for module in model.modules())
    assert fuse(model).adapted == layers > 0


def test_a_layer_that_something_listens_to_stays_plain() -> None:
    model = made("llama", TARGETS)
    layers = model.base_model.model.model.layers
    seen: list[int] = []
    layers[0].mlp.up_proj.register_forward_hook(lambda *_: seen.append(0))
    layers[1].self_attn.k_proj.register_forward_hook(lambda *_: seen.append(1))
    fused = assert_same(model)
    assert fused.adapted == sum(hasattr(m, "lora_A") for m in model.modules()) - 2
    assert sorted(set(seen)) == [0, 1]
    assert len(seen) == 4


@pytest.mark.parametrize("part", ["mlp", "act", "norm"])
def test_a_module_that_computes_something_else_stays_plain(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """It consists of the same parts, and its name ends the same: a factor, another activation, a mean."""
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    mlp, norm = LlamaMLP.forward, LlamaRMSNorm.forward
    if part == "mlp":
        monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: 0.9 * mlp(self, x))
    elif part == "norm":
        centered = lambda self, x: norm(self, x - x.mean(-1, keepdim=True))  # noqa: E731
        monkeypatch.setattr(LlamaRMSNorm, "forward", centered)
    model = made("llama", shape={"hidden_act": "relu2"} if part == "act" else None)
    fused = assert_same(model)
    assert fused.counts["RMS norms"] == (0 if part == "norm" else 5)
    assert fused.counts["gated MLPs"] == (2 if part == "norm" else 0)
    assert fused.adapted == sum(hasattr(m, "lora_A") for m in model.modules())


def test_layers_with_inputs_of_their_own_get_them() -> None:
    """Query, key and value are computed together only where they read the same tensor."""
    model = made("llama", TARGETS)
    attention = model.base_model.model.model.layers[0].self_attn
    size = model.config.hidden_size
    one, other = torch.randn(3, size), torch.randn(3, size)
    wanted = attention.q_proj(one), attention.k_proj(other), attention.v_proj(one)
    assert fuse(model)
    found = attention.q_proj(one), attention.k_proj(other), attention.v_proj(one)
    for made_now, before in zip(found, wanted, strict=True):
        torch.testing.assert_close(made_now, before)


# ------------------------------------------------------------------ in a training


def run(root: Path, model: Path, changes: Any = None, **settings: Any) -> tuple[Recorder, Any]:
    """A training of six steps; ``changes`` are those of the adapter."""
    recorder = Recorder()
    context = make_context(root, recorder)
    inputs = {
        "model": adapted_value(model_value(model), **(changes or {})).model_dump(mode="json"),
        "dataset": dataset_value(root / "data").model_dump(mode="json"),
    }
    value = train_adapter(context, inputs, settings_of(max_steps=6, batch_size=3, **settings))
    return recorder, value


def warnings_of(recorder: Recorder) -> list[Any]:
    """Its notices at the level of a warning."""
    return [e for e in recorder.named("Notice") if e.get("level") == "warning"]


def weights_of(value: Any) -> dict[str, torch.Tensor]:
    """The saved adapter."""
    from safetensors.torch import load_file

    return load_file(Path(value.path) / "adapter_model.safetensors")


@pytest.mark.parametrize("batching", ["padded", "padding_free"])
def test_a_training_is_the_same_with_and_without(tmp_path: Path, batching: str) -> None:
    model = make_tiny_model(tmp_path / "model")
    # Noise on the embeddings: the comparison before the training must draw no random number of it.
    options = {"batching": batching, "neftune_alpha": 5.0}
    with_it, one = run(tmp_path / "on", model, fused=True, **options)
    without, other = run(tmp_path / "off", model, fused=False, **options)
    assert with_it.losses() == pytest.approx(without.losses(), abs=2e-5)
    assert not warnings_of(with_it)
    found = weights_of(other)
    for name, wanted in weights_of(one).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-2, atol=2e-4)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fused functions that a training calls."""
    called: list[str] = []
    for name in ("linears", "gated_mlp", "rms_norm"):
        real = getattr(functions, name)

        def watch(*given: Any, _real: Any = real, _name: str = name) -> Any:
            called.append(_name)
            return _real(*given)

        monkeypatch.setattr(swap, name, watch)
    return called


@pytest.mark.parametrize("fused", [True, False])
def test_the_setting_decides(tmp_path: Path, used: list[str], fused: bool) -> None:
    run(tmp_path, make_tiny_model(tmp_path / "model"), fused=fused)
    assert set(used) == ({"linears", "gated_mlp", "rms_norm"} if fused else set())


def test_the_probe_measures_what_a_training_does(used: list[str]) -> None:
    for fused in (False, True):
        settings = TrainSettings(fused=fused)
        run_probe(
            made("llama"), Mode(weights=4, autocast=False), Batch(2, 8, 4), settings, lambda _: None
        )
        assert set(used) == ({"linears", "gated_mlp", "rms_norm"} if fused else set())


def test_a_training_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what follows it: the saved adapter is compared with the plain functions."""
    made_here: list[Fused] = []
    real = training_loop.fuse_checked

    def remember(*given: Any) -> Fused:
        made_here.append(real(*given))
        assert made_here[-1]
        return made_here[-1]

    monkeypatch.setattr(training_loop, "fuse_checked", remember)
    run(tmp_path, make_tiny_model(tmp_path / "model"))
    assert len(made_here) == 1
    assert not made_here[0]


FAULTS = {
    "no scale in the forward pass": (
        "alpha=layer.scale)\n        made",
        "alpha=1.0)\n        made",
    ),
    "no adapter in the forward pass": ("y.addmm_(part, layer.b", "y.clone().addmm_(part, layer.b"),
    "no scale in the gradient of A": (".mul_(layer.scale)\n        db", "\n        db"),
    "no scale in the gradient of B": ("inner[:, part]).mul_(layer.scale)", "inner[:, part])"),
    "no base in the gradient of the input": ("dx.addmm_(dy, weight)", "dx"),
    "no adapter in the gradient of the input": ("dx.addmm_(d_inner, stacked)", "pass"),
    "the A of another layer": ("found = [layer.a", "found = [layers[0].a"),
    "another layer's part of the gradient": ("a=da[rows]", "a=da[: len(layer.a)]"),
    "a factor in the gradient of A": (
        "torch.mm(d_inner.t(), x)",
        "torch.mm(d_inner.t(), x).mul_(1.01)",
    ),
    "gate and up exchanged": ("_gradients([d_gate, d_up]", "_gradients([d_up, d_gate]"),
    "no activation in the gradient": ("d_up = active.mul_(dm)", "d_up = dm.clone()"),
    "no up in the gradient of the gate": ("dm.mul_(up), gate)", "dm, gate)"),
    "another activation": ("functional.silu(x) if", "functional.mish(x) if"),
    "the output of the gate alone": (
        "activate(kind, gate).mul_(up), [down]",
        "activate(kind, gate), [down]",
    ),
    "no projection in the norm": (
        "scaled.mul_(factor), wide, along)",
        "scaled.mul_(factor), wide, along * 0)",
    ),
    "no weight in the norm's gradient": (
        "upstream.float() * weight.float()",
        "upstream.float().clone()",
    ),
    "another power in the norm": ("factor.pow(3)", "factor.pow(2)"),
    "no eps": (".add_(eps).rsqrt_()", ".add_(0.1).rsqrt_()"),
}


@pytest.fixture
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions with one fault in their source."""
    old, new = FAULTS[request.param]
    source = Path(str(functions.__file__)).read_text("utf-8")
    assert source.count(old) == 1, f"{source.count(old)} places in the source for {request.param}"
    module = types.ModuleType("faulty_functions")
    monkeypatch.setitem(
        sys.modules, module.__name__, module
    )  # dataclasses and NamedTuple look there
    exec(compile(source.replace(old, new), "faulty_functions.py", "exec"), module.__dict__)
    for name in ("linears", "gated_mlp", "rms_norm", "activate", "Linear"):
        monkeypatch.setattr(swap, name, getattr(module, name))


@pytest.mark.parametrize("faulty", FAULTS, indirect=True)
def test_the_check_notices_a_fault(faulty: None) -> None:
    """In any function, and whatever of it is fused: by the values of a part or by the gradients of the whole."""
    model = made("llama with biases", TARGETS)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # as at the start of a training
            parameter.data.zero_()
    layers = sum(hasattr(m, "lora_A") for m in model.modules())
    norms = sum(type(m).__name__ == "LlamaRMSNorm" for m in model.modules())
    fused, difference = compare(model, fuse, lambda: loss_of(model), torch.float32)
    left_out = (
        fused.adapted < layers
        or not fused.counts["gated MLPs"]
        or fused.counts["RMS norms"] < norms
    )
    assert not difference.is_same or left_out


def test_a_fault_ends_in_a_notice_and_the_plain_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(tmp_path / "model")
    real = functions.linears
    monkeypatch.setattr(swap, "linears", lambda x, layers: tuple(1.01 * y for y in real(x, layers)))
    with_fault, value = run(tmp_path / "on", model, fused=True)
    without, other = run(tmp_path / "off", model, fused=False)
    (notice,) = warnings_of(with_fault)
    assert notice.get("sentence").startswith(
        "Fused functions are not used: with this model they change the loss by "
    )
    assert with_fault.losses() == without.losses()
    found = weights_of(other)
    assert all(torch.equal(found[n], w) for n, w in weights_of(value).items())


def test_a_model_that_cannot_be_fused_trains_with_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(x: torch.Tensor, layers: Any) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(swap, "linears", fails)
    recorder, _ = run(tmp_path, make_tiny_model(tmp_path / "model"))
    (notice,) = warnings_of(recorder)
    assert (
        notice.get("sentence") == "Fused functions are not used: this model does not support them."
    )
    assert len(recorder.losses()) == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"dropout": 0.1}, "The layers with an adapter are computed without fused functions"),
        ({"method": "dora"}, "The layers with an adapter are computed without fused functions"),
    ],
    ids=["LoRA", "dropout", "DoRA"],
)
def test_layers_that_are_not_fused_are_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    recorder, _ = run(tmp_path, make_tiny_model(tmp_path / "model"), changes=changes)
    said = [e.get("sentence") for e in recorder.named("Notice") if "fused" in e.get("sentence")]
    assert len(said) == bool(words)
    assert all(s.startswith(words) for s in said)


def test_the_comparison_changes_nothing() -> None:
    model = made("llama")
    for n, p in model.named_parameters():
        if "lora_B" in n:
            p.data.zero_()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = torch.get_rng_state()

    def noisy() -> torch.Tensor:
        return loss_of(model) * torch.rand(())

    fused, difference = compare(model, fuse, noisy, torch.float32)
    assert difference.is_same, difference
    assert fused
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None

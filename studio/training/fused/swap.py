"""Puts the functions of ``functions.py`` under the modules of a model, and takes them away again.

A module keeps its class, parameters and name; only its ``forward`` is replaced, and only while it trains: without
gradients (evaluation, generation) and with the adapter switched off the module computes as before. What is replaced
follows from what a module consists of, not from the name of the model, so it applies to many architectures. Whether
the result is the same is tested on the model itself (``check.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from studio.training.fused.functions import (
    ACTIVATIONS,
    Linear,
    activate,
    gated_mlp,
    linears,
    rms_norm,
)
from studio.training.model.wide_products import WideLinear

_ADAPTER = "default"
_SAME_INPUT = ("q_proj", "k_proj", "v_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_HALF_OR_SINGLE = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Fused:
    """What was replaced in one model, by kind, and how many layers with an adapter it computes; ``undo`` restores
    it."""

    counts: Counter[str] = field(default_factory=Counter)
    adapted: int = 0
    _modules: list[Any] = field(default_factory=list)

    def replace(self, module: Any, forward: Callable[..., Any], kind: str) -> None:
        """Let ``forward`` compute the module."""
        module.forward = forward
        self._modules.append(module)
        self.counts[kind] += 1

    def count(self, layers: Sequence[Any]) -> None:
        """Count those of ``layers`` that have an adapter."""
        self.adapted += sum(map(_has_adapter, layers))

    def undo(self) -> None:
        """Let every module compute as its class does."""
        for module in self._modules:
            module.__dict__.pop("forward", None)
        self._modules.clear()
        self.counts.clear()
        self.adapted = 0

    def __bool__(self) -> bool:
        return bool(self._modules)


def fuse(model: Any, tried: bool = True) -> Fused:
    """Replace what can be replaced in ``model``, a model with a LoRA adapter whose other weights are frozen. A model
    without values cannot be ``tried``: what its modules consist of decides alone."""
    done = Fused()
    together: set[int] = set()  # layers that are computed with others
    known: dict[type, bool] = {}  # whether a class of MLPs computes what its parts suggest
    modules = list(model.modules())
    for module in modules:
        if _is_gated_mlp(module):
            if type(module) not in known:
                known[type(module)] = not tried or _is_only_gated(module)
            if not known[type(module)]:
                continue
            _fuse_mlp(done, module)
            together.update(id(getattr(module, n)) for n in _GATED)
        elif _has_same_input(module):
            _fuse_projections(done, [getattr(module, n) for n in _SAME_INPUT])
        elif _is_rms_norm(module):
            _fuse_norm(done, module, _offset(module) if tried else 0.0)
    for module in modules:
        if id(module) not in together and _has_adapter(module):
            _fuse_layer(done, module)
    return done


# ------------------------------------------------------------------ what a module is


def _is_plain(module: Any) -> bool:
    """Whether the module computes as its class does, and nothing listens to it."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" not in module.__dict__ and not any(getattr(module, n) for n in hooks)


def _has_adapter(module: Any) -> bool:
    """Whether this is a linear layer with one LoRA adapter, as ``lora.Linear`` of PEFT computes it."""
    if type(module) is not LoraLinear or not _is_plain(module):
        return False
    keys = list(module.lora_A)
    return (
        keys == [_ADAPTER]
        and list(module.active_adapters) == keys
        and not module.lora_variant
        and not module.fan_in_fan_out
        and type(module.lora_dropout[_ADAPTER]) is torch.nn.Identity
        and _is_matrix(module.base_layer)
        and not _trains(module.base_layer)
        and all(_is_matrix(m[_ADAPTER]) for m in (module.lora_A, module.lora_B))
        and module.lora_A[_ADAPTER].bias is None
        and module.lora_B[_ADAPTER].bias is None
    )


def _is_matrix(module: Any) -> bool:
    return (
        type(module) in (torch.nn.Linear, WideLinear)
        and _is_plain(module)
        and module.weight.dtype in _HALF_OR_SINGLE
    )


def _trains(module: Any) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _is_linear(module: Any) -> bool:
    """Whether this is a linear layer with or without an adapter, whose base is frozen."""
    return _has_adapter(module) or (_is_matrix(module) and not _trains(module))


def _is_gated_mlp(module: Any) -> bool:
    children = dict(module.named_children())
    return (
        children.keys() == {*_GATED, "act_fn"}
        and _is_plain(module)
        and _activation(module.act_fn) is not None
        and all(_is_linear(children[n]) for n in _GATED)
        and any(_has_adapter(children[n]) for n in _GATED)
    )


def _is_only_gated(mlp: Any) -> bool:
    """Whether the MLP gives what ``gated_mlp`` gives, while it trains: without dropout or a factor of its own."""
    weight = _as_linear(mlp.gate_proj).weight
    tried = torch.linspace(-2, 3, 4 * weight.shape[1], device=weight.device).to(weight.dtype)
    tried = tried.view(4, -1)
    kind = _activation(mlp.act_fn)
    assert kind is not None
    with torch.no_grad(), torch.random.fork_rng():
        wanted = mlp(tried).float()
        found = gated_mlp(tried, kind, [_as_linear(getattr(mlp, n)) for n in _GATED]).float()
    return _near(found, wanted, weight.dtype)


def _near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether two ways of computing in ``dtype`` differ by rounding."""
    limit = 1e-4 if dtype == torch.float32 else 0.05
    return float((found - wanted).abs().max()) <= limit * float(wanted.abs().max())


def _activation(function: Any) -> str | None:
    """The name of an activation function, by its values."""
    tried = torch.linspace(-6, 6, 25)
    with torch.no_grad():
        found = function(tried)
    return next((k for k in ACTIVATIONS if torch.allclose(activate(k, tried), found)), None)


def _has_same_input(module: Any) -> bool:
    """Whether this is an attention with query, key and value as layers of their own."""
    layers = [getattr(module, n, None) for n in _SAME_INPUT]
    return all(n is not None and _is_linear(n) for n in layers) and any(map(_has_adapter, layers))


def _is_rms_norm(module: Any) -> bool:
    return (
        type(module).__name__.endswith("RMSNorm")
        and dict(module.named_parameters()).keys() == {"weight"}
        and module.weight.dim() == 1
        and isinstance(_eps(module), float)
        and _is_plain(module)
        and not _trains(module)
    )


def _eps(module: Any) -> Any:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _offset(norm: Any) -> float | None:
    """What is added to the weight of an RMS norm: 0, or 1 in Gemma, which stores it minus one; ``None`` for a norm
    that computes something else."""
    weight = norm.weight
    tried = torch.linspace(-2, 3, len(weight), device=weight.device).to(weight.dtype)[None]
    with torch.no_grad():
        found = norm(tried).float()
        for offset in (0.0, 1.0):
            made = rms_norm(tried, weight + offset, _eps(norm)).float()
            if _near(made, found, weight.dtype):
                return offset
    return None


# ------------------------------------------------------------------ replacing it


def _as_linear(module: Any) -> Linear:
    """The tensors of a layer, read at each use: a checkpoint may replace them."""
    if isinstance(module, LoraLinear):
        base = module.base_layer
        a, b = module.lora_A[_ADAPTER].weight, module.lora_B[_ADAPTER].weight
        return Linear(base.weight, base.bias, a, b, float(module.scaling[_ADAPTER]))
    return Linear(module.weight, module.bias, None, None, 1.0)


def _in_use(modules: Sequence[Any]) -> bool:
    """Whether the layers train now, with their adapters."""
    return torch.is_grad_enabled() and all(
        m.training and not (isinstance(m, LoraLinear) and (m.disable_adapters or m.merged))
        for m in modules
    )


def _fuse_layer(done: Fused, layer: Any) -> None:
    done.count([layer])

    def forward(x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if more or named or not _in_use([layer]):
            return plain(layer, x, *more, **named)
        return linears(x, [_as_linear(layer)])[0]

    plain: Any = type(layer).forward
    done.replace(layer, forward, "linear layers")


class _SameInput:
    """Computes layers together when the first of them is called, and hands the others their outputs.

    Gradient checkpointing may end a repetition in between, so outputs count only for the same input tensor.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = list(layers)
        self._input: torch.Tensor | None = None
        self._outputs: dict[int, torch.Tensor] = {}

    def output(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """The output of ``layer`` for the input ``x``."""
        if self._input is not x or id(layer) not in self._outputs:
            made = linears(x, [_as_linear(n) for n in self.layers])
            self._outputs = {id(n): y for n, y in zip(self.layers, made, strict=True)}
            self._input = x
        found = self._outputs.pop(id(layer))
        if not self._outputs:
            self._input = None
        return found

    def forward_of(self, layer: Any) -> Callable[..., torch.Tensor]:
        """The function that replaces the layer's."""
        plain: Any = type(layer).forward

        def forward(x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
            if more or named or not _in_use(self.layers):
                return plain(layer, x, *more, **named)
            return self.output(layer, x)

        return forward


def _fuse_projections(done: Fused, layers: Sequence[Any]) -> None:
    done.count(layers)
    together = _SameInput(layers)
    forwards = [together.forward_of(layer) for layer in layers]
    for layer, forward in zip(layers, forwards, strict=True):
        done.replace(layer, forward, "linear layers")


def _fuse_mlp(done: Fused, mlp: Any) -> None:
    layers = [getattr(mlp, n) for n in _GATED]
    done.count(layers)
    kind = _activation(mlp.act_fn)
    assert kind is not None
    plain: Any = type(mlp).forward

    def forward(x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if more or named or not _in_use(layers):
            found: torch.Tensor = plain(mlp, x, *more, **named)
            return found
        return gated_mlp(x, kind, [_as_linear(n) for n in layers])

    done.replace(mlp, forward, "gated MLPs")


def _fuse_norm(done: Fused, norm: Any, offset: float | None) -> None:
    plain: Any = type(norm).forward
    eps = float(_eps(norm))
    if offset is None:
        return

    def forward(x: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if more or named or not _in_use([norm]) or not _takes(norm, x):
            found: torch.Tensor = plain(norm, x, *more, **named)
            return found
        return rms_norm(x, norm.weight.float() + offset if offset else norm.weight, eps)

    done.replace(norm, forward, "RMS norms")


def _takes(norm: Any, x: torch.Tensor) -> bool:
    """Whether the norm's output has the precision of its input."""
    return x.dtype in (norm.weight.dtype, torch.float32)

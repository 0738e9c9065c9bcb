"""The logits of a model that does not have to fit into memory: its weights are read layer by layer.

For comparisons of large models. Each decoder layer gets its weights from the files when its forward pass begins, in
float32, and loses them when it ends; so does everything outside of the layers, such as embedding and head. An adapter
is loaded by plain PEFT, and computed by its forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError

from studio.graph.context import StepContext
from studio.training.model.skeleton import skeleton
from studio.training.model.weights_file import StoredWeights

_WRAPPERS = (BaseTunerLayer, AuxiliaryTrainingWrapper)
_INSIDE = ("base_layer", "original_module", "token_adapter")
"""Attributes under which PEFT keeps the layers of the model."""


class NotStreamed(Exception):
    """The weights of this model cannot be read layer by layer; the text is the reason."""


@torch.no_grad()
def streamed_logits(
    context: StepContext,
    base: Path,
    adapter: str | None,
    rows: Sequence[list[int]],
    change: Callable[[Any], None] | None = None,
) -> list[torch.Tensor]:
    """Logits of every position in float32, (tokens, vocabulary) per row; all rows in one forward pass on the CPU.
    ``change`` may add hooks to the layers of the base model.

    Raises ``NotStreamed`` if a weight is not stored under the name of its layer, or is read outside of it.
    """
    model = skeleton(base, buffers=True)
    if any(value.dim() == 0 for value in model.parameters()):
        raise NotStreamed("the model has single numbers as weights")
    prefix, tied = f"{model.base_model_prefix}.", _tied_head(model)
    if adapter is not None:
        model = PeftModel.from_pretrained(
            model, adapter, low_cpu_mem_usage=True, torch_device="cpu"
        ).get_base_model()
    if change is not None:
        change(model)
    model.eval()
    stored = StoredWeights(base)
    weights = _Weights(stored, prefix, tied)
    try:
        units = list(_units(model, ""))
        for done, (module, parts) in enumerate(units):
            weights.attach(context, module, parts, done, len(units))
        ids, mask = _padded(rows)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    except (KeyError, SafetensorError) as error:
        raise NotStreamed(f"{error} is not stored") from error
    finally:
        stored.close()
    found = [logits[i, : len(row)].float() for i, row in enumerate(rows)]
    if not all(bool(torch.isfinite(row).all()) for row in found):
        raise NotStreamed("a weight is read outside of its layer")
    return found


def _tied_head(model: Any) -> dict[str, str]:
    """The path of the head's weight -> that of the embedding, if they are the same matrix."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return {}
    paths = {id(module): name for name, module in model.named_modules()}
    head, embedding = (
        paths.get(id(m)) for m in (model.get_output_embeddings(), model.get_input_embeddings())
    )
    return {f"{head}.weight": f"{embedding}.weight"} if head and embedding else {}


class _Weights:
    """Gives modules their stored weights for the time of a forward pass."""

    def __init__(self, stored: StoredWeights, prefix: str, tied: dict[str, str]) -> None:
        self._stored = stored
        self._names = {entry.name for entry in stored.entries()}
        self._prefix = prefix
        self._tied = tied

    def attach(
        self,
        context: StepContext,
        module: torch.nn.Module,
        parts: Sequence[tuple[torch.nn.Module, str, str]],
        done: int,
        total: int,
    ) -> None:
        """Read the weights of ``parts`` (module, name of the parameter, path) whenever ``module`` is called."""
        named = [(owner, name, self._name_of(path)) for owner, name, path in parts]
        _release(named)

        def before(*args: Any) -> None:
            del args
            context.check()
            for owner, name, stored in named:
                value = self._stored.tensor(stored)
                value = value.float() if value.is_floating_point() else value
                setattr(owner, name, torch.nn.Parameter(value, requires_grad=False))

        def after(*args: Any) -> None:
            del args
            _release(named)
            context.progress("verify", done + 1, total, "layers")

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after, always_call=True)

    def _name_of(self, path: str) -> str:
        path = self._tied.get(path, path)
        for name in (path, path.removeprefix(self._prefix)):
            if name in self._names:
                return name
        raise NotStreamed(f"{path} is not stored")


def _release(named: Sequence[tuple[torch.nn.Module, str, str]]) -> None:
    """Replace the weights by numbers that cannot be used unnoticed, and that take no memory."""
    for owner, name, _ in named:
        shape = getattr(owner, name).shape
        stub = torch.full((), float("nan")).expand(shape)
        setattr(owner, name, torch.nn.Parameter(stub, requires_grad=False))


def _units(
    module: torch.nn.Module, path: str
) -> Iterator[tuple[torch.nn.Module, list[tuple[torch.nn.Module, str, str]]]]:
    """The modules that get their weights as a whole: decoder layers, and outside of them single modules with
    whatever PEFT has put around them."""
    if isinstance(module, _WRAPPERS):
        yield module, _stubs(module, path)
        return
    own = _own_stubs(module, path)
    if own:
        yield module, own
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if isinstance(child, torch.nn.ModuleList):
            for index, block in child.named_children():
                parts = _stubs(block, f"{inner}.{index}")
                if parts:
                    yield block, parts
        else:
            yield from _units(child, inner)


def _stubs(module: torch.nn.Module, path: str) -> list[tuple[torch.nn.Module, str, str]]:
    """All parameters without values in ``module``, each with the module that holds it."""
    return [
        part
        for name, inner in module.named_modules()
        for part in _own_stubs(inner, f"{path}.{name}" if name else path)
    ]


def _own_stubs(module: torch.nn.Module, path: str) -> list[tuple[torch.nn.Module, str, str]]:
    plain = ".".join(part for part in path.split(".") if part not in _INSIDE)
    return [
        (module, name, f"{plain}.{name}")
        for name, value in module.named_parameters(recurse=False)
        if value.dim() and not any(value.stride())
    ]


def _padded(rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask (rows, longest row), padded at the end, where causal attention does not look."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask

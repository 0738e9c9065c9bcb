"""Merges the adapter into each weight with PEFT's own code, one layer at a time.

``merge_and_unload`` needs the complete model in memory. Each method (LoRA, rsLoRA, DoRA, transposed
layers, ...) has its own formula, and PEFT's code is the one used in the forward pass. So the model
is built without storage, the adapter is added to it, and a layer gets its real weight only while it
is merged. Computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper

from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.skeleton import skeleton
from studio.training.model.weights_file import Entry, StoredWeights


class CannotMerge(Exception):
    """The adapter cannot be merged into these weights; the text is the reason."""


class OtherNames(CannotMerge):
    """A stored weight does not correspond to one layer of the model: it has another name or is
    joined (experts).
    """


def _as_stored(path: str, stored: torch.Tensor) -> torch.Tensor:
    del path
    return stored


@dataclass
class MergePlan:
    """Which stored tensors change, and what is written.

    ``layers`` maps the parameter path of an adapted layer to its PEFT module, ``replaced`` holds
    parameters that the adapter stores completely, ``weight`` turns a path and a stored tensor into the base weight to
    merge into, ``names`` maps each written name to the stored
    tensor it comes from, ``ready`` keeps results until they are requested. ``tokens`` maps an
    embedding's path to its trained layer, whose rows replace the stored ones.
    """

    stored: StoredWeights
    entries: list[Entry]
    names: dict[str, str]
    layers: dict[str, Any]
    replaced: dict[str, torch.Tensor]
    prefix: str
    dtype: torch.dtype
    untied: bool = False
    weight: Callable[[str, torch.Tensor], torch.Tensor] = _as_stored
    tokens: dict[str, TrainableTokensLayer] = field(default_factory=dict)
    merged: set[str] = field(default_factory=set)
    ready: dict[str, torch.Tensor] = field(default_factory=dict)

    def tensor(self, name: str) -> torch.Tensor:
        """The merged tensor for a written name, in the target dtype."""
        if name not in self.ready:
            self.ready.update(self._computed(name))
        value = self.ready.pop(name)
        return value.to(self.dtype) if value.is_floating_point() else value

    def _computed(self, name: str) -> dict[str, torch.Tensor]:
        path = self.path_of(name)
        if path in self.replaced:
            self.merged.add(path.rpartition(".")[0])
            return {name: self.replaced[path]}
        owner, _, _ = path.rpartition(".")
        if owner in self.layers:
            return self._merged_layer(owner)
        if owner in self.tokens:
            self.merged.add(owner)
            return {name: _with_rows(self._base(name), self.tokens[owner])}
        return {name: self._base(name)}

    def _base(self, name: str) -> torch.Tensor:
        """The base weight for a written name."""
        source = self.names[name]
        return self.weight(self.path_of(source), self.stored.tensor(source))

    def path_of(self, name: str) -> str:
        """The path in the model of a written name."""
        return f"{self.prefix}{name}"

    def _merged_layer(self, owner: str) -> dict[str, torch.Tensor]:
        """All parameters of one adapted layer, merged together."""
        layer = self.layers[owner]
        base = layer.get_base_layer()
        own = {
            n: n.rpartition(".")[2]
            for n in self.names
            if self.path_of(n).rpartition(".")[0] == owner
        }
        for name, parameter in own.items():
            path = self.path_of(name)
            value = self.replaced.get(path)
            if value is None:
                value = self._base(name)
            own_copy = value.to(torch.float32, copy=True)  # PEFT adds in place
            setattr(base, parameter, torch.nn.Parameter(own_copy, requires_grad=False))
        with torch.no_grad():
            layer.merge(safe_merge=False)
        if getattr(layer, "_base_weight_before_merge", None) is not None:
            layer._base_weight_before_merge = (
                None  # used to unmerge; would keep a copy of every weight
            )
        self.merged.add(owner)
        found = {name: getattr(base, parameter).data for name, parameter in own.items()}
        for parameter in own.values():
            setattr(base, parameter, None)
        bad = [n for n, v in found.items() if not torch.isfinite(v).all()]
        if bad:
            raise CannotMerge(f"the merged weight {bad[0]} is not finite")
        return found

    def unmerged(self) -> list[str]:
        """Adapted layers whose stored weight was not found."""
        trained = {n for n, layer in self.tokens.items() if layer.tied_adapter is None}
        return sorted({*self.layers, *trained} - self.merged)


def plan_merge(base: Path, adapter: Path, dtype: torch.dtype) -> MergePlan:
    """Match the adapter with the stored weights; raises ``CannotMerge``."""
    model = skeleton(base)
    try:
        adapted = PeftModel.from_pretrained(
            model, str(adapter), is_trainable=False, low_cpu_mem_usage=True, torch_device="cpu"
        )
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        raise CannotMerge(
            f"the adapter does not fit the model ({str(error).splitlines()[0]})"
        ) from error
    inner = adapted.get_base_model()
    layers = _layers(inner)
    replaced = _replaced(inner)
    stored = StoredWeights(base)
    entries = stored.entries()
    prefix = _prefix(inner, [e.name for e in entries], layers)
    written = {e.name: e.name for e in entries}
    untied = _untie(inner, prefix, layers, replaced, written)
    shapes = {e.name: e for e in entries}
    planned = [_entry(name, shapes[source], dtype) for name, source in written.items()]
    return MergePlan(
        stored, planned, written, layers, replaced, prefix, dtype, untied, tokens=_tokens(inner)
    )


def _with_rows(weight: torch.Tensor, layer: TrainableTokensLayer) -> torch.Tensor:
    """(vocabulary, hidden) with the trained rows inserted, in float32."""
    merged = weight.to(torch.float32, copy=True)
    merged[layer.token_indices["default"]] = layer.trainable_tokens_delta["default"].data.float()
    return merged


def _tokens(model: Any) -> dict[str, TrainableTokensLayer]:
    """The layers with trained tokens, by the path of the embedding they replace."""
    return {
        name: module.token_adapter
        for name, module in model.named_modules()
        if isinstance(module, TrainableTokensWrapper)
    }


def _is_stub(value: torch.Tensor) -> bool:
    return value.untyped_storage().nbytes() <= value.element_size()


def _layers(model: Any) -> dict[str, Any]:
    """Adapted layers by their path without PEFT."""
    found = {
        _plain_path(name): module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and not isinstance(module, TrainableTokensLayer)
    }
    for name, layer in found.items():
        if isinstance(layer, ParamWrapper):
            raise OtherNames(f"the adapter of {name} is on a weight of several experts")
        if not hasattr(layer, "merge"):
            raise CannotMerge(f"the adapter of {name} has no merge")
    return found


def _plain_path(name: str) -> str:
    return ".".join(p for p in name.split(".") if p != "base_layer")


def _replaced(model: Any) -> dict[str, torch.Tensor]:
    """Parameters that the adapter stores completely: modules to save, and trained biases."""
    found: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper) and not isinstance(
            module, TrainableTokensWrapper
        ):
            for part, value in module.modules_to_save["default"].named_parameters():
                found[f"{name}.{part}"] = value.data
    for name, value in model.named_parameters():
        inside = any(k in name for k in (".modules_to_save.", ".original_module."))
        if not inside and not _is_stub(value) and not _is_adapter(name):
            found[_plain_path(name)] = value.data
    return found


def _is_adapter(name: str) -> bool:
    """Whether a parameter belongs to the adapter: it is in a dictionary keyed by adapter name."""
    return ".default" in name


def _prefix(model: Any, names: list[str], layers: dict[str, Any]) -> str:
    """The prefix that turns stored names into the model's names: often empty, or the attribute of
    the base model if only that part was saved.
    """
    owners = {name.rpartition(".")[0] for name in names}
    for prefix in ("", f"{model.base_model_prefix}."):
        if all(layer.removeprefix(prefix) in owners or _tied(model, layer) for layer in layers):
            return prefix
    raise OtherNames("the names of the stored weights are not those of the model's layers")


def _tied(model: Any, path: str) -> bool:
    head = model.get_output_embeddings()
    return bool(getattr(model.config, "tie_word_embeddings", False)) and _is_part(model, path, head)


def _is_part(model: Any, path: str, module: Any) -> bool:
    found = model.get_submodule(path)
    return found is module or getattr(found, "base_layer", None) is module


def _untie(
    model: Any,
    prefix: str,
    layers: dict[str, Any],
    replaced: dict[str, torch.Tensor],
    written: dict[str, str],
) -> bool:
    """Write head and embedding separately if they share one tensor and only one of them was trained."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return False
    head = _path_of(model, model.get_output_embeddings())
    embedding = _path_of(model, model.get_input_embeddings())
    if head is None or embedding is None:
        return False
    changed = {*layers, *(p.rpartition(".")[0] for p in replaced)}
    if not changed & {head, embedding}:
        return False
    source, target = (f"{p}.weight".removeprefix(prefix) for p in (embedding, head))
    written.setdefault(target, source)
    return True


def _path_of(model: Any, module: Any) -> str | None:
    for name, found in model.named_modules():
        if found is module:
            return _plain_path(name)
    return None


def _entry(name: str, source: Entry, dtype: torch.dtype) -> Entry:
    return Entry(name, source.shape, dtype if source.dtype.is_floating_point else source.dtype)

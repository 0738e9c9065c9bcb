"""Rewrites an adapter as a plain LoRA that PEFT, vLLM and llama.cpp load with the same effect.

All layers get one rank, lower ones filled with zeros, and alpha equal to it, so that each program multiplies B·A
by 1; the scale of the training is part of B. The A and B of LoRA, rsLoRA and the methods that are saved as a LoRA
are kept as they are otherwise. Of other methods, of fully trained modules and of trained tokens the change ΔW of
each weight is computed by PEFT's own merge, and A and B follow from its singular value decomposition: exact if its
rank is low, else the nearest matrix of the rank that is allowed (Eckart and Young, 1936).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from studio.export_folder.copy_files import copy_files
from studio.graph.context import StepContext
from studio.model.adapter_files import (
    EMBEDDING_A,
    EMBEDDING_B,
    LORA_A,
    LORA_B,
    PREFIX,
    scale_of,
)
from studio.system.atomic import write_atomic
from studio.training.merge.layers import CannotMerge, MergePlan, plan_merge
from studio.training.model.skeleton import skeleton
from studio.training.saved.snapshot import ADAPTER, CONFIG, same_mode
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.values import AdapterValue

LEAST_KEPT = 0.9
"""Of ‖ΔW‖². An adapter that keeps less than this as a LoRA is left as it was trained."""

_NOT_ONLY_A_AND_B = (
    "use_dora",
    "lora_bias",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "modules_to_save",
)
_ENTRY_BYTES = 96
"""What the header of a file says of a tensor besides its name."""
_SMALL = 1024
"""Up to this width a complete decomposition is fast; above it, a randomized one is used (Halko et al., 2011)."""


@dataclass(frozen=True)
class Pair:
    """A (r, in) and B (out, r) of a layer with scale 1; of an embedding, A is (r, vocabulary) and B (hidden, r).
    ``energy`` is ‖ΔW‖², ``lost`` the part of it that B·A lacks."""

    a: torch.Tensor
    b: torch.Tensor
    embedding: bool = False
    energy: float = 0.0
    lost: float = 0.0

    def padded(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of this rank, filled with zeros: (rank, in) and (out, rank)."""
        more, pad = rank - self.a.shape[0], torch.nn.functional.pad
        return pad(self.a, (0, 0, 0, more)), pad(self.b, (0, more))


@dataclass
class Plain:
    """An adapter as pairs by the path of their layer, with the names by which PEFT finds these layers.
    ``transposed``: weights are stored as (in, out), as in GPT-2. ``computed`` are the layers that were decomposed,
    ``left`` the tensors that no pair can express, by their names in the file."""

    target_modules: list[str] = field(default_factory=list)
    transposed: bool = False
    pairs: dict[str, Pair] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
    left: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The highest rank, which all layers get."""
        return max(p.a.shape[0] for p in self.pairs.values())

    @property
    def kept(self) -> float:
        """The share of ‖ΔW‖² that the decomposed layers keep."""
        energy = sum(self.pairs[n].energy for n in self.computed)
        return 1.0 - sum(self.pairs[n].lost for n in self.computed) / energy if energy else 1.0


class NotPlain(Exception):
    """The adapter cannot be written as a plain LoRA; the text is the reason. ``rank_helps``: it could be with a
    higher rank."""

    def __init__(self, reason: str, rank_helps: bool = False) -> None:
        super().__init__(reason)
        self.rank_helps = rank_helps


def plain_form(
    context: StepContext, value: AdapterValue, max_rank: int, phase: str = "export"
) -> Plain:
    """The adapter as pairs of A and B, at most of ``max_rank`` where they have to be computed. Raises ``NotPlain``."""
    folder, base = Path(value.path), Path(value.model.model.path)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("alora_invocation_tokens"):
        raise NotPlain("an activated LoRA has no effect on the tokens before its invocation")
    tensors = read_tensors(folder / ADAPTER)
    model = skeleton(base)
    modules = dict(model.named_modules())
    plain = Plain()
    is_lora = config["peft_type"] == "LORA"
    if is_lora and not any(config.get(n) for n in _NOT_ONLY_A_AND_B[:5]):
        _take_pairs(config, tensors, plain)
    if tensors:
        _compute_pairs(context, value, tensors, plain, model, max_rank, phase)
    if not plain.pairs:
        raise NotPlain("it does not change a matrix")
    if plain.kept < LEAST_KEPT:
        raise NotPlain(
            f"as a LoRA of rank {plain.rank} it would keep {100 * plain.kept:.0f} % of its change",
            rank_helps=True,
        )
    plain.target_modules = _targets(set(plain.pairs), modules)
    plain.transposed = any(_kind(modules[path]) == "transposed" for path in plain.pairs)
    return plain


def stored_shapes(value: AdapterValue) -> dict[str, tuple[int, int]]:
    """Rank and sum of the sides (in + out) of each pair of the portable form, from the headers of an adapter whose A
    and B are kept; empty for one that has to be computed, so that its ranks are not known yet."""
    folder = Path(value.path)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config["peft_type"] != "LORA" or any(config.get(n) for n in _NOT_ONLY_A_AND_B):
        return {}
    with safe_open(folder / ADAPTER, framework="pt", backend="pread") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    pairs = {}
    for end_a, end_b in ((LORA_A, LORA_B), (EMBEDDING_A, EMBEDDING_B)):
        for name in (n.removesuffix(end_a) for n in shapes if n.endswith(end_a)):
            (rank, wide), (out, _) = shapes[name + end_a], shapes[name + end_b]
            pairs[name.removeprefix(PREFIX)] = (int(rank), int(wide + out))
    return pairs


def pair_bytes(shapes: Mapping[str, tuple[int, int]], itemsize: int = 4) -> int:
    """The size of these pairs, all of the highest rank, with their entries in the header of a file."""
    rank = max((r for r, _ in shapes.values()), default=0)
    listed = sum(2 * (len(path) + len(PREFIX) + _ENTRY_BYTES) for path in shapes)
    return itemsize * rank * sum(sides for _, sides in shapes.values()) + listed


def plain_bytes(plain: Plain) -> int:
    """The size of the weights of a portable form that has been computed."""
    pairs = {path: (p.a.shape[0], p.a.shape[1] + p.b.shape[0]) for path, p in plain.pairs.items()}
    left = sum(t.nbytes + len(name) + _ENTRY_BYTES for name, t in plain.left.items())
    return pair_bytes(pairs) + left


def _take_pairs(config: Mapping[str, Any], tensors: dict[str, torch.Tensor], plain: Plain) -> None:
    """Move the A and B of a LoRA from ``tensors`` into ``plain``, with the scale in B."""
    for end_a, end_b in ((LORA_A, LORA_B), (EMBEDDING_A, EMBEDDING_B)):
        for name in [n.removesuffix(end_a) for n in tensors if n.endswith(end_a)]:
            a, b = tensors.pop(name + end_a), tensors.pop(name + end_b)
            scaled = b.float() * scale_of(config, name, a.shape[0])
            plain.pairs[name.removeprefix(PREFIX)] = Pair(a.float(), scaled, end_a == EMBEDDING_A)


def _compute_pairs(
    context: StepContext,
    value: AdapterValue,
    tensors: Mapping[str, torch.Tensor],
    plain: Plain,
    model: Any,
    max_rank: int,
    phase: str,
) -> None:
    """Decompose the change of each weight that ``plain`` does not have yet."""
    try:
        plan = plan_merge(Path(value.model.model.path), Path(value.path), torch.float32)
    except CannotMerge as error:
        raise NotPlain(str(error)) from error
    limit = max([max_rank, *(p.a.shape[0] for p in plain.pairs.values())])
    names = [n for n in plan.names if _is_changed(plan, n) and _owner(plan, n) not in plain.pairs]
    context.phase(phase, "Computing A and B")
    try:
        for done, name in enumerate(names, start=1):
            context.check()
            _add(plan, name, tensors, plain, model, limit)
            context.progress(phase, done, len(names), "weights")
    except (CannotMerge, ValueError, NotImplementedError) as error:
        raise NotPlain(str(error).splitlines()[0]) from error
    finally:
        plan.stored.close()


def _owner(plan: MergePlan, name: str) -> str:
    return plan.path_of(name).rpartition(".")[0]


def _is_changed(plan: MergePlan, name: str) -> bool:
    owner = _owner(plan, name)
    return owner in plan.layers or owner in plan.tokens or plan.path_of(name) in plan.replaced


def _add(
    plan: MergePlan,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    plain: Plain,
    model: Any,
    limit: int,
) -> None:
    """Add the change of one stored weight to ``plain``: as a pair, or to what is left."""
    owner = _owner(plan, name)
    stored = plan.stored.tensor(plan.names[name]).float()
    change = plan.tensor(name) - stored
    if not change.any():
        return
    kind = _kind(model.get_submodule(owner))
    if kind == "other" or change.dim() != 2:
        left = {n: t for n, t in tensors.items() if _plain_name(n) == plan.path_of(name)}
        if not left:
            raise NotPlain(f"it changes {plan.path_of(name)}, which is not a matrix")
        plain.left.update(left)
        return
    if kind != "linear":  # an embedding is (vocabulary, hidden), a Conv1D (in, out)
        change = change.T
    noise = 4 * torch.finfo(torch.float32).eps * float(stored.norm())
    pair = decomposed(change, limit, noise, kind == "embedding")
    plain.pairs[owner] = pair
    plain.computed.add(owner)
    head = _tied_head(model) if owner in plan.tokens and not plan.untied else ""
    if head:  # trained tokens change the head as well, if it shares the embedding's matrix
        plain.pairs[head] = Pair(pair.b.T.contiguous(), pair.a.T.contiguous())


def _kind(module: Any) -> str:
    """How the weight is stored: (out, in), (in, out) as in GPT-2, (vocabulary, hidden), or otherwise."""
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    if type(module).__name__ == "Conv1D":
        return "transposed"
    return "linear" if isinstance(module, torch.nn.Linear) else "other"


def _tied_head(model: Any) -> str:
    """The path of a head that shares its matrix with the embedding; empty if there is none."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return ""
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), "")


def _plain_name(name: str) -> str:
    return ".".join(p for p in name.removeprefix(PREFIX).split(".") if p != "base_layer")


def decomposed(change: torch.Tensor, limit: int, noise: float, embedding: bool = False) -> Pair:
    """A and B of the lowest rank whose product equals ``change`` (out, in) except for ``noise``, the norm of its
    rounding; of rank ``limit`` if that is not enough."""
    energy = float(change.double().square().sum())
    allowed = max(noise, 1e-5 * math.sqrt(energy)) ** 2
    u, s, v = _directions(change, limit)
    # What a rank leaves out is summed from its smallest part on: energy minus a sum would be all rounding.
    rest = s.double().square().flip(0).cumsum(0).flip(0)
    enough = (rest <= allowed).nonzero()
    rank = max(1, min(int(enough[0]) if len(enough) else len(s), limit))
    root = s[:rank].sqrt()
    a, b = (root[:, None] * v[:, :rank].T).contiguous(), (u[:, :rank] * root).contiguous()
    lost = float((change - b @ a).double().square().sum())
    return Pair(a, b, embedding, energy, 0.0 if lost <= allowed else lost)


def _directions(
    change: torch.Tensor, limit: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first singular vectors and values: u (out, k), s (k), v (in, k)."""
    if min(change.shape) <= _SMALL:
        u, s, vh = torch.linalg.svd(change, full_matrices=False)
        return u, s, vh.T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same export from the same adapter
        count = min(limit + 8, *change.shape)
        u, s, v = torch.svd_lowrank(change, q=count, niter=4)
    return u, s, v


def write_plain(
    context: StepContext, plain: Plain, value: AdapterValue, target: Path, base_name: str | None
) -> None:
    """Write config and weights into ``target``, and copy the files beside them, such as the tokenizer."""
    source = Path(value.path)
    copy_files(context, source, target, link_weights=False, weights=False)
    trained = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    config = _config(trained, plain, base_name or Path(value.model.model.path).name)
    # PEFT reads it in the encoding of the locale: only ASCII is the same in all of them.
    write_atomic(target / CONFIG, json.dumps(config, indent=2) + "\n")
    write_tensors(dict(_tensors(plain)), target / ADAPTER)
    same_mode(target, CONFIG)


def _tensors(plain: Plain) -> Iterator[tuple[str, torch.Tensor]]:
    for path, pair in plain.pairs.items():
        ends = (EMBEDDING_A, EMBEDDING_B) if pair.embedding else (LORA_A, LORA_B)
        for end, part in zip(ends, pair.padded(plain.rank), strict=True):
            yield f"{PREFIX}{path}{end}", part
    yield from plain.left.items()


def _config(trained: Mapping[str, Any], plain: Plain, base: str) -> dict[str, Any]:
    """Only what differs from PEFT's defaults: versions since 0.13 read no keys that they do not know."""
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": plain.rank,
        "lora_alpha": plain.rank,
        "target_modules": plain.target_modules,
    }
    if plain.transposed:
        config["fan_in_fan_out"] = True
    left = {_plain_name(n).rpartition(".")[0].rpartition(".")[2] for n in plain.left}
    saved = sorted(left & set(trained.get("modules_to_save") or ()))
    if saved:
        config["modules_to_save"] = saved
    if trained.get("bias", "none") != "none" and any(n.endswith(".bias") for n in plain.left):
        config["bias"] = trained["bias"]
    return config


def _targets(layers: set[str], modules: Mapping[str, Any]) -> list[str]:
    """The ends of the layers' names if they match no other module, else their full names."""
    ends = {n.rpartition(".")[2] for n in layers}
    matched = {n for n in modules if n.rpartition(".")[2] in ends}
    return sorted(ends if matched == layers else layers)

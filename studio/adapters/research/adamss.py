"""AdaMSS (Zheng et al., 2025): low-rank pairs for groups of outputs, within the base's principal
directions.

The groups come from k-means over the singular vectors, and PEFT does not save them: on another
device they would be computed again, with another result. So the adapter is saved as the equivalent
plain LoRA: B has a block for each group of outputs, A holds the pairs' inner factors times the
basis. The groups are computed here without scikit-learn, and stored in checkpoints. In half
precision PEFT rounds after each of its three factors, a LoRA after two (measured on SmolLM2: the
reloaded logits differed by 1.4), so it trains in float32 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from studio.adapters.research.clusters import clusters
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import (
    Hooks,
    LoraMethod,
    State,
    TrainingFacts,
    own_settings,
)


class AdamssSettings(Settings):
    """The basis, the groups, and the rank of each."""

    directions: int = setting(
        100,
        "Directions",
        "Number of principal directions of each weight that form the basis. "
        "Typical values are 50 to 500; layers with fewer directions use all of "
        "them.",
        ge=1,
        le=8192,
        log_scale=True,
    )
    parts: int = setting(
        5,
        "Groups",
        "Number of groups into which the outputs of each layer are divided. "
        "Typical values are 3 to 10.",
        ge=1,
        le=64,
    )
    rank: int = setting(
        1,
        "Group rank",
        "Rank of the change in each group. Typical values are 1 to 4. The rank of "
        "the saved LoRA is the number of groups times this value.",
        ge=1,
        le=64,
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft.tuners.adamss import layer

    own = own_settings(value, AdamssSettings)

    def grouped(rows: Any, count: int, rounds: int) -> tuple[Any, int]:
        del rounds
        return clusters(rows, count, own.rank), count

    layer.clustering_Z = grouped  # PEFT's version needs scikit-learn
    return _config(value, own)


def _config(value: AdaptedModelValue, own: AdamssSettings) -> Any:
    """PEFT's config, without its final check for scikit-learn."""
    from peft import AdamssConfig

    class Config(AdamssConfig):
        def __post_init__(self) -> None:
            with suppress(ImportError):
                super().__post_init__()

    return Config(
        r=own.directions,
        num_subspaces=own.parts,
        subspace_rank=own.rank,
        target_modules=list(value.target_modules),
        task_type="CAUSAL_LM",
        modules_to_save=list(value.modules_to_save) or None,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    wanted = own.parts * own.rank
    small = next((m for m in layers if m.width_out < wanted), None)
    if small is not None:
        yield (
            "method_settings.parts",
            f"{own.parts} groups of rank {own.rank} need more than the {small.width_out} outputs of {small.name}.",
        )
        return
    basis = next((m for m in layers if min(own.directions, m.width_in) < own.rank), None)
    if basis is not None:
        yield (
            "method_settings.rank",
            f"{own.rank} exceeds the number of directions of {basis.name}.",
        )


def _refuse_biases(base: Any, config: Any, facts: TrainingFacts) -> None:
    """Refuse biases, which PEFT would train with the weight, because a plain LoRA cannot hold them."""
    del facts
    from studio.model.layer_names import matches

    for name, module in base.named_modules():
        wanted = any(matches(name, t) for t in config.target_modules)
        if wanted and getattr(module, "bias", None) is not None:
            raise StudioError(
                f"AdaMSS does not support layers with a bias, such as {name}.",
                title="Method and layers are incompatible",
                code="method_layers",
                field="method",
                hint="Choose layers without a bias, often those of the MLP, or choose LoRA.",
            )


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.adamss.layer import AdamssLayer

    return ((n, m) for n, m in model.named_modules() if isinstance(m, AdamssLayer))


def _state(model: Any) -> State:
    """The output that each row of the joined groups belongs to."""
    return {f"{name}.groups": layer.scatter_index["default"] for name, layer in _layers(model)}, {}


def _restore(model: Any, tensors: dict[str, Any], values: dict[str, Any]) -> None:
    """The groups are computed again from the base's weights and must equal those of the checkpoint."""
    del values
    for name, layer in _layers(model):
        kept = tensors.get(f"{name}.groups")
        if kept is None or not kept.equal(layer.scatter_index["default"].cpu()):
            raise StudioError(
                f"The groups of {name} in the checkpoint differ from those computed on this "
                "machine.",
                title="The checkpoint cannot be used",
                code="checkpoint_mismatch",
                hint="Resume on the machine on which the training started, or start a new run.",
            )


def _pair(layer: Any) -> tuple[Any, Any]:
    """A (groups × rank, in) and B (out, groups × rank) of the same change."""
    import torch

    inner, outer = layer.adamss_A["default"], layer.adamss_B["default"]
    a = torch.cat([part.detach() for part in inner]).float() @ layer.adamss_newB["default"].float()
    b = torch.block_diag(*(part.detach().float() for part in outer))  # outputs in the groups' order
    return a, torch.empty_like(b).index_copy_(0, layer.scatter_index["default"].to(b.device), b)


def _save(folder: Path, model: Any) -> None:
    from studio.training.adapter.convert import as_plain_lora

    as_plain_lora(folder, {name: _pair(layer) for name, layer in _layers(model)}, ".adamss_")


VARIANT = Variant(
    kind="adapter",
    id="adamss",
    title="AdaMSS",
    order=560,
    settings=AdamssSettings,
    help="Divides the outputs of each layer into groups and trains a small LoRA for "
    "each, within the principal directions of the base weight. Requires layers "
    "without a bias and a float32 base. Saved as a plain LoRA. When to use it: "
    "all layers with a tenth of the parameters of LoRA. Zheng et al. 2025, "
    "openreview.net/forum?id=8ZdWmpYxT0.",
    payload=LoraMethod(
        _build,
        # 5e-4 to 1e-2 in the paper (table 19).
        learning_rates=(2e-4, 1e-3, 1e-2),
        research=True,
        transposed=False,
        quantized=(),
        uses=frozenset(),
        fits=_fits,
        saved_as="LoRA",
        dtypes=("float32",),
        paper="openreview.net/forum?id=8ZdWmpYxT0",
        why_not_quantized="the principal directions of quantized weights cannot be computed",
        hooks=Hooks(prepare=_refuse_biases, state=_state, restore=_restore, save=_save),
    ),
)

"""Full fine-tuning: the model's own weights are trained, all of them or those of some layers.

Why: for small models it is the strongest method, and it goes through the same training as an
adapter. The weights are trained in float32 (steps of a fine-tuning are too small for bfloat16, which
would round most of them away) and written in the precision that the Base model node names. It must
not keep a second model in memory: what moved is seen on a few rows of each weight.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.layer_names import block_number
from studio.model.layers import TOWERS, weight_files
from studio.node_settings.layer_range import HINT, chosen_layers
from studio.node_settings.train import TrainSettings
from studio.system.number_text import percent
from studio.training.adapter.tuning import Tuning
from studio.training.adapter.verify import Expected, largest_difference
from studio.training.model.configs import write_surroundings
from studio.training.model.load import load_base
from studio.training.saved.checkpoint import sha256_of
from studio.training.saved.snapshot import same_mode
from studio.values import FULL_FINE_TUNING, AdaptedModelValue, AdapterValue, ModelValue
from studio.variants.lora_method import LoraMethod, TrainingFacts

_PROBED_ROWS = 2
_SHARD = "5GB"
_METHOD = LoraMethod(build=lambda value: None)


def whole_of(context: StepContext, base: ModelValue, settings: TrainSettings) -> AdaptedModelValue:
    """A base model as something to be trained as a whole. Raises ``StudioError`` where that is
    impossible."""
    if base.quantization != "none":
        raise StudioError(
            f"a model quantized to {base.quantization} does not support full fine-tuning.",
            title="A quantized model",
            code="whole_quantized",
            hint="Set Quantization to None in the Base model node, or insert a LoRA node.",
        )
    own = {"layers": settings.trained_layers, "embeddings": settings.train_embeddings}
    return AdaptedModelValue(
        model=base,
        method=FULL_FINE_TUNING,
        r=0,
        alpha=0,
        dropout=0.0,
        bias="none",
        target_modules=[],
        method_settings=own,
    )


def load_for_training(context: StepContext, value: ModelValue) -> Any:
    """The model with its weights in float32."""
    return load_base(context, value.model_copy(update={"dtype": "float32"}))


@dataclass
class WholeTuning(Tuning):
    """``before`` are a few rows of each trained weight, as they were before the training."""

    before: dict[str, torch.Tensor] = field(default_factory=dict)


def build_whole(
    context: StepContext,
    model: Any,
    adapted: AdaptedModelValue,
    facts: TrainingFacts | None = None,
    resumed: Path | None = None,
) -> Tuning:
    """Mark what is trained; everything else stays frozen."""
    del facts, resumed
    wanted = adapted.method_settings
    count = mark_trained(model, str(wanted["layers"]), bool(wanted["embeddings"]))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise StudioError(
            f"nothing of the model would be trained: it has {count} layers, and "
            f"“{wanted['layers']}” names none of them.",
            title="Nothing to train",
            field="trained_layers",
            code="no_trained_layers",
            hint=HINT,
        )
    total = sum(p.numel() for p in model.parameters())
    context.notice(
        f"{trained:,} of {total:,} weights are trained ({percent(trained / total)}), in float32.",
        level="info",
    )
    return WholeTuning(_METHOD, adapted, model, before=probe_of(model))


def mark_trained(model: Any, words: str, embeddings: bool) -> int:
    """Freeze everything but the layers that ``words`` name; returns how many layers there are. Parts
    that see or hear have layers of their own, which no row of text reaches: they stay frozen."""
    numbers = [n for n in map(block_number, _text_weights(model)) if n is not None]
    count = 1 + max(numbers, default=-1)
    chosen = chosen_layers(words, count)
    embedded = _embeddings(model)
    model.requires_grad_(False)
    for name, parameter in _text_weights(model).items():
        if any(parameter is e for e in embedded):
            parameter.requires_grad = embeddings
        else:
            parameter.requires_grad = chosen is None or block_number(name) in chosen
    return count


def _text_weights(model: Any) -> dict[str, Any]:
    towers = set(TOWERS)
    return {n: p for n, p in model.named_parameters() if towers.isdisjoint(n.split("."))}


def _embeddings(model: Any) -> list[Any]:
    """The weights of the embedding and of the head."""
    found = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [m.weight for m in found if m is not None]


def probe_of(model: Any) -> dict[str, torch.Tensor]:
    """A few rows of each trained weight, to see later whether it moved."""
    return {
        n: p.detach()[:_PROBED_ROWS].cpu().clone()
        for n, p in model.named_parameters()
        if p.requires_grad
    }


def _to_stored_precision(model: Any, dtype: torch.dtype) -> None:
    """Round what is written. Not ``model.to``: it also rounds the frequencies of rotary embeddings, which
    are made anew in float32 whenever a model is loaded (on 30 layers that moves logits by 0.9 of 30)."""
    for value in model.state_dict(keep_vars=True).values():
        if value.is_floating_point():
            value.data = value.data.to(dtype)


def write_whole(context: StepContext, tuning: Tuning, tokenizer: Any, folder: Path) -> None:
    """Write the model in its own precision, as plain transformers loads it."""
    assert isinstance(tuning, WholeTuning)
    model, adapted, before = tuning.model, tuning.adapted, tuning.before
    folder.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, adapted.model.dtype)
    _to_stored_precision(model, dtype)
    after = probe_of(model)
    if all(torch.equal(after[n].float(), before[n].to(dtype).float()) for n in after):
        raise StudioError(
            f"the training did not change the model: in {adapted.model.dtype} every "
            "weight that was looked at is as it was.",
            title="Nothing was learned",
            code="model_unmoved",
            field="learning_rate",
            hint="Raise the learning rate or the number of steps, or set the precision to float32.",
        )
    model.save_pretrained(folder, max_shard_size=_SHARD)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_surroundings(Path(adapted.model.path), folder, adapted.model.dtype, tokenizer)
    same_mode(folder, "config.json")


def verify_whole(
    context: StepContext, adapted: AdaptedModelValue, folder: Path, expected: Expected
) -> float:
    """The largest logit difference of the model on disk; refuse it when it is not small."""
    context.phase("verify", "Loading the saved model")
    saved = adapted.model.model_copy(update={"path": str(folder)})
    model = load_base(context, saved, "Loading the saved model to compare")
    context.phase("verify", "Comparing the saved model with the trained one")
    difference, allowed = largest_difference(model, adapted.model.dtype, expected)
    if not difference <= allowed:
        raise StudioError(
            f"the saved model does not do what was trained: its logits differ by "
            f"{difference:.3g} (at most {allowed:.3g} is rounding).",
            title="The saved model differs from the trained one",
            code="reload_mismatch",
            hint="The checkpoints are kept. Set the Base model's precision to float32.",
            file=str(folder),
        )
    return difference


def tuned_model(context: StepContext, trained: AdapterValue) -> ModelValue:
    """The trained model as a model that other nodes take."""
    base, folder = trained.model.model, Path(trained.path)
    digest = hashlib.sha256()
    for file in weight_files(folder):
        context.check()
        digest.update(sha256_of(file).encode())
    record = {
        "adapter": trained.model_dump(mode="json"),
        "max_logit_difference": trained.reload_difference,
    }
    return ModelValue(
        path=str(folder),
        source=base.source,
        revision=base.revision,
        dtype=base.dtype,
        weights_sha256=digest.hexdigest(),
        parameters=base.parameters,
        attention=base.attention,
        base=base,
        merged_from=[*base.merged_from, record],
    )

"""Full fine-tuning: training the model's own weights, all of them or those of selected layers.

It uses the same training loop as an adapter. The weights are trained in float32, because most updates
of a fine-tuning are smaller than the resolution of bfloat16, and are saved in the precision set in the
Base model node. To see whether the weights changed, a few rows of each are compared instead of a second
copy of the model.
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
from studio.model.layers import TOWERS
from studio.model.weight_files import weight_files
from studio.node_settings.layer_range import HINT, chosen_layers
from studio.node_settings.train import TrainSettings
from studio.system.number_text import percent
from studio.training.adapter.tuning import Tuning
from studio.training.adapter.verify import Expected, largest_difference
from studio.training.model.configs import save_loaded, write_surroundings
from studio.training.model.load import is_emulated, load_base
from studio.training.model.wide_products import multiply_in_float32
from studio.training.saved.checkpoint import sha256_of
from studio.training.saved.snapshot import same_mode
from studio.values import FULL_FINE_TUNING, AdaptedModelValue, AdapterValue, ModelValue
from studio.variants.lora_method import LoraMethod, TrainingFacts

_PROBED_ROWS = 2
_SHARD = "5GB"
_METHOD = LoraMethod(build=lambda value: None)


def full_fine_tuning_of(
    context: StepContext, base: ModelValue, settings: TrainSettings
) -> AdaptedModelValue:
    """Describe full fine-tuning of ``base``. Raises ``StudioError`` for a quantized model."""
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
    """Load the model with its weights in float32."""
    return load_base(context, value.model_copy(update={"dtype": "float32"}))


@dataclass
class FullFineTuning(Tuning):
    """``before`` holds the first rows of each trained weight from before the training."""

    before: dict[str, torch.Tensor] = field(default_factory=dict)


def build_full_fine_tuning(
    context: StepContext,
    model: Any,
    adapted: AdaptedModelValue,
    facts: TrainingFacts | None = None,
    resumed: Path | None = None,
) -> Tuning:
    """Make the selected weights trainable and freeze all others."""
    del facts, resumed
    wanted = adapted.method_settings
    count = mark_trained(model, str(wanted["layers"]), bool(wanted["embeddings"]))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trained:
        raise StudioError(
            f"no parameter would be trained: “{wanted['layers']}” matches none of the model's "
            f"{count} layers.",
            title="Nothing to train",
            field="trained_layers",
            code="no_trained_layers",
            hint=HINT,
        )
    total = sum(p.numel() for p in model.parameters())
    context.notice(
        f"{trained:,} of {total:,} parameters are trainable ({percent(trained / total)}), in float32.",
        level="info",
    )
    return FullFineTuning(_METHOD, adapted, model, before=probe_of(model))


def mark_trained(model: Any, words: str, embeddings: bool) -> int:
    """Freeze all parameters except those of the layers selected by ``words``; return the number of layers.

    Vision and audio towers stay frozen: rows of text do not pass through them.
    """
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
    """The weights of the input embedding and of the output head."""
    found = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [m.weight for m in found if m is not None]


def probe_of(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the first rows of each trained weight, to detect later whether it changed."""
    return {
        n: p.detach()[:_PROBED_ROWS].cpu().clone()
        for n, p in model.named_parameters()
        if p.requires_grad
    }


def _to_stored_precision(model: Any, dtype: torch.dtype) -> None:
    """Convert the saved tensors to ``dtype`` in place.

    ``model.to`` would also round the frequencies of rotary embeddings, which are not saved and are
    computed in float32 whenever a model is loaded (on 30 layers that moves logits by 0.9 of 30).
    """
    for value in model.state_dict(keep_vars=True).values():
        if value.is_floating_point():
            value.data = value.data.to(dtype)


def write_model(context: StepContext, tuning: Tuning, tokenizer: Any, folder: Path) -> None:
    """Save the model in its own precision, in the format of transformers."""
    assert isinstance(tuning, FullFineTuning)
    model, adapted, before = tuning.model, tuning.adapted, tuning.before
    folder.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, adapted.model.dtype)
    _to_stored_precision(model, dtype)
    after = probe_of(model)
    if all(torch.equal(after[n].float(), before[n].to(dtype).float()) for n in after):
        raise StudioError(
            f"the training did not change the model: all compared weights are unchanged in "
            f"{adapted.model.dtype}.",
            title="Nothing was learned",
            code="model_unmoved",
            field="learning_rate",
            hint="Raise the learning rate or the number of steps, or set the precision to float32.",
        )
    if is_emulated(adapted.model.dtype, model.device):
        multiply_in_float32(model)  # as the saved model will be compared with it
    save_loaded(model, folder, _SHARD)
    write_surroundings(Path(adapted.model.path), folder, adapted.model.dtype, tokenizer)
    same_mode(folder, "config.json")


def verify_model(
    context: StepContext, adapted: AdaptedModelValue, folder: Path, expected: Expected
) -> float:
    """Load the saved model and return the largest difference of its logits from the trained model's.

    Raises ``StudioError`` when the difference exceeds rounding.
    """
    context.phase("verify", "Loading the saved model")
    saved = adapted.model.model_copy(update={"path": str(folder)})
    model = load_base(context, saved, "Loading the saved model to compare")
    context.phase("verify", "Comparing the saved model with the trained one")
    difference, allowed = largest_difference(model, adapted.model.dtype, expected)
    if not difference <= allowed:
        raise StudioError(
            f"the logits of the saved model differ from those of the trained model by "
            f"{difference:.3g}; rounding explains at most {allowed:.3g}.",
            title="The saved model differs from the trained one",
            code="reload_mismatch",
            hint="Checkpoints are kept. Set the Base model's precision to float32.",
            file=str(folder),
        )
    return difference


def tuned_model(context: StepContext, trained: AdapterValue) -> ModelValue:
    """The trained model as the input of other nodes."""
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

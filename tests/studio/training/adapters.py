"""Random adapters on tiny models, written by plain PEFT, and what plain libraries make of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from studio.values import AdapterValue, ModelValue
from tests.studio.training.steps import adapted_value, dataset_value, model_value, settings_of
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def tiny_base(root: Path, **options: Any) -> ModelValue:
    """The description of a tiny model in ``root/model``."""
    return model_value(make_tiny_model(root / "model", **options), source="models/tiny-talk")


def random_adapter(root: Path, base: ModelValue, size: float = 0.05, **config: Any) -> AdapterValue:
    """An adapter whose every trained weight is noise, saved by plain PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = plain_model(base.path)
    torch.manual_seed(1)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += size * torch.randn_like(parameter)
    folder = root / "adapter"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    make_tiny_tokenizer().save_pretrained(str(folder))
    return AdapterValue(
        path=str(folder), model=adapted_value(base), dataset=dataset_value(root / "data"),
        train=settings_of().model_dump(mode="json"), metrics={"loss": 1.25, "eval_loss": 1.5},
        reload_difference=2e-6,
    )  # fmt: skip


def plain_model(folder: Path | str) -> Any:
    """A model as plain transformers loads it, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def plain_adapted(adapter: AdapterValue) -> Any:
    """Base and adapter as plain PEFT loads them."""
    from peft import PeftModel

    return PeftModel.from_pretrained(plain_model(adapter.model.model.path), adapter.path).eval()


def logits(model: Any, width: int = 40) -> Any:
    """(width, vocabulary) logits of a fixed row."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(3, 3 + width)[None]).logits[0].float()

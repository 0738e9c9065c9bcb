"""Random adapters on tiny models, written by plain PEFT, and what plain libraries make of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from studio.values import AdapterValue, ModelValue
from tests.studio.training.steps import adapted_value, dataset_value, model_value, settings_of
from tests.tiny import VOCABULARY, make_tiny_model, make_tiny_tokenizer

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""The config of a tiny model, with the keys that most architectures use."""


def tiny_base(root: Path, **options: Any) -> ModelValue:
    """The description of a tiny model in ``root/model``."""
    return model_value(make_tiny_model(root / "model", **options), source="models/tiny-talk")


def save_family(folder: Path, config_name: str, values: dict[str, Any]) -> Path:
    """A random model with this config and the tiny tokenizer, saved by plain transformers."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, config_name)(**values)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(str(folder))
    return folder


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
        path=str(folder),
        model=adapted_value(base),
        dataset=dataset_value(root / "data"),
        train=settings_of().model_dump(mode="json"),
        metrics={"loss": 1.25, "eval_loss": 1.5},
        reload_difference=2e-6,
    )


def plain_model(folder: Path | str) -> Any:
    """A model as plain transformers loads it, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def plain_adapted(adapter: AdapterValue) -> Any:
    """Base and adapter as plain PEFT loads them."""
    from peft import PeftModel

    return PeftModel.from_pretrained(plain_model(adapter.model.model.path), adapter.path).eval()


@contextmanager
def other_signs() -> Iterator[None]:
    """Within the block every second direction of a decomposition has the other sign: as right as
    before, and what another library, a GPU or another number of threads may give."""
    import torch

    svd, qr, eigh = torch.linalg.svd, torch.linalg.qr, torch.linalg.eigh

    def signs(count: int) -> Any:
        return 1 - 2 * (torch.arange(count) % 2)

    def other_svd(*args: Any, **more: Any) -> Any:
        u, s, vh = svd(*args, **more)
        turn, n = signs(s.shape[-1]), s.shape[-1]
        return (
            torch.cat([u[..., :n] * turn, u[..., n:]], -1),
            s,
            torch.cat([vh[..., :n, :] * turn[:, None], vh[..., n:, :]], -2),
        )

    def other_qr(*args: Any, **more: Any) -> Any:
        q, r = qr(*args, **more)
        return q * signs(q.shape[-1]), r * signs(r.shape[-2])[:, None]

    def other_eigh(*args: Any, **more: Any) -> Any:
        values, vectors = eigh(*args, **more)
        return values, vectors * signs(vectors.shape[-1])

    with (
        patch("torch.linalg.svd", other_svd),
        patch("torch.linalg.qr", other_qr),
        patch("torch.linalg.eigh", other_eigh),
    ):
        yield


def logits(model: Any, width: int = 40) -> Any:
    """(width, vocabulary) logits of a fixed row."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(3, 3 + width)[None]).logits[0].float()

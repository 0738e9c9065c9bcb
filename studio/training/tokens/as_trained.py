"""Rows as tokens in the way of an earlier training, by the settings that its adapter has kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.graph.context import StepContext
from studio.node_settings.train import TrainSettings
from studio.training.tokens.chat import load_tokenizer
from studio.training.tokens.encoder import Tokenized, tokenize_dataset
from studio.training.tokens.limits import max_length_for
from studio.values import DatasetValue, ModelValue

_KEPT = ("train_on", "end_token", "bos", "long_text", "max_length", "objective")


def settings_as_trained(train: Mapping[str, Any]) -> TrainSettings:
    """The settings of ``AdapterValue.train`` that decide about tokens and loss; defaults for those that it does not
    have, as in adapters that were loaded."""
    return TrainSettings.model_validate({name: train[name] for name in _KEPT if name in train})


def tokenized_as_trained(
    context: StepContext,
    dataset: DatasetValue,
    train: TrainSettings,
    tokenizer_folder: str,
    model: ModelValue,
    folder: Path,
) -> tuple[Any, Tokenized]:
    """The tokenizer in ``tokenizer_folder``, and the rows of ``dataset`` tokenized into ``folder``. Raises
    ``StudioError`` as ``tokenize_dataset`` does."""
    tokenizer = load_tokenizer(tokenizer_folder)
    tokens = tokenize_dataset(
        context,
        dataset,
        tokenizer,
        train_on=train.train_on,
        folder=folder,
        end_token=train.end_token,
        bos=train.bos,
        long_text=train.long_text,
        max_length=max_length_for(context, model, train.max_length),
    )
    return tokenizer, tokens

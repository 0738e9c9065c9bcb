"""The limits of a model: its vocabulary, its learned positions, and what a quantization reached.

Beyond these limits a GPU aborts the process with an assertion that names neither the row nor
the reason. Models with computed positions (rotary) have no limit of positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.layers import TOWERS
from studio.model.weight_files import tensor_shapes, weight_files
from studio.system.number_text import percent
from studio.training.tokens.encoder import Tokenized
from studio.values import ModelValue

_LEARNED = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")
_QUANTIZED = ("Linear4bit", "Linear8bitLt")
_MOST = 0.5
_OPT_OFFSET = 2  # OPT's table has two more rows than positions


def learned_positions(folder: Path) -> int | None:
    """The number of learned positions; ``None`` if positions are computed."""
    shapes = [s for file in weight_files(folder) for s in tensor_shapes(file)]
    for name, shape in shapes:
        seen = set(TOWERS).isdisjoint(name.split("."))
        if seen and name.endswith(_LEARNED) and len(shape) == 2:
            return shape[0] - (_OPT_OFFSET if name.endswith(_LEARNED[1]) else 0)
    return None


def max_length_for(context: StepContext, model: ModelValue, wanted: int) -> int:
    """The maximum length in the settings, or the model's own, with a notice, if that is smaller."""
    limit = learned_positions(Path(model.path))
    if limit is None or wanted <= limit:
        return wanted
    context.notice(
        f"{model.source} supports at most {limit} tokens: this is used as the maximum "
        f"length instead of {wanted}.",
        "Shorten the longest rows, or choose a model with a longer context.",
    )
    return limit


def pad_id_of(model: Any, tokenizer: Any) -> int:
    """The padding token. It is masked everywhere, so any token of the vocabulary is suitable."""
    pad = tokenizer.pad_token_id
    return int(pad) if pad is not None and pad < _vocabulary(model) else 0


def refuse_unknown_tokens(
    context: StepContext, model: Any, tokens: Tokenized, tokenizer: Any
) -> None:
    """Raise ``StudioError`` when a row contains a token outside the model's vocabulary."""
    known = _vocabulary(model)
    if len(tokenizer) <= known:
        return
    splits = [s for s in (tokens.train, tokens.validation) if s is not None]
    largest = max(pc.max(pc.list_flatten(s.data.column("input_ids"))).as_py() for s in splits)
    if largest >= known:
        raise StudioError(
            f"the rows contain the token “{tokenizer.convert_ids_to_tokens(largest)}” (ID "
            f"{largest}), but the model has only {known} tokens: the tokenizer belongs to "
            "another model.",
            title="Tokenizer and model do not match",
            hint="Choose a model folder with the tokenizer files of the model.",
            code="unknown_token",
        )


def tell_unquantized(context: StepContext, model: Any, value: ModelValue) -> None:
    """A notice when most weights were not quantized."""
    if value.quantization == "none" or not value.parameters:
        return
    layers = [m for m in model.modules() if type(m).__name__ in _QUANTIZED]
    share = sum(m.in_features * m.out_features for m in layers) / value.parameters
    if share < _MOST:
        context.notice(
            f"Only {percent(share)} of the weights of {value.source} could be quantized; the "
            f"others, such as embeddings and experts, stay in {value.dtype} and need the "
            "corresponding memory.",
        )


def _vocabulary(model: Any) -> int:
    """The number of rows of the embedding."""
    return int(model.get_input_embeddings().weight.shape[0])

"""What a model can read at all: tokens that it has a vector for, and positions that it has learned;
and how much of it a quantization reached.

Why: beyond either limit a GPU ends the whole process with an assertion that names neither row nor
reason. It must not cut a model whose positions are computed (rotary): those have no such limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.layers import TOWERS, tensor_shapes, weight_files
from studio.system.number_text import percent
from studio.training.tokens.encoder import Tokenized
from studio.values import ModelValue

_LEARNED = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")
_QUANTIZED = ("Linear4bit", "Linear8bitLt")
_MOST = 0.5
_OPT_OFFSET = 2  # OPT's table has two more rows than positions


def learned_positions(folder: Path) -> int | None:
    """How many positions a model has learned; ``None`` where they are computed."""
    shapes = [s for file in weight_files(folder) for s in tensor_shapes(file)]
    for name, shape in shapes:
        seen = set(TOWERS).isdisjoint(name.split("."))
        if seen and name.endswith(_LEARNED) and len(shape) == 2:
            return shape[0] - (_OPT_OFFSET if name.endswith(_LEARNED[1]) else 0)
    return None


def max_length_for(context: StepContext, model: ModelValue, wanted: int) -> int:
    """The max length that the user set, or the model's own where that is smaller; it is told."""
    limit = learned_positions(Path(model.path))
    if limit is None or wanted <= limit:
        return wanted
    context.notice(
        f"{model.source} reads at most {limit} tokens at once: that is the max length, not {wanted}.",
        "Shorten the longest rows, or choose a model that reads more.",
    )
    return limit


def pad_id_of(model: Any, tokenizer: Any) -> int:
    """The token that fills up rows. It is masked everywhere, so any that the model has will do."""
    pad = tokenizer.pad_token_id
    return int(pad) if pad is not None and pad < _vocabulary(model) else 0


def refuse_unknown_tokens(
    context: StepContext, model: Any, tokens: Tokenized, tokenizer: Any
) -> None:
    """Raise ``StudioError`` when a row holds a token that the model has no vector for."""
    known = _vocabulary(model)
    if len(tokenizer) <= known:
        return
    splits = [s for s in (tokens.train, tokens.validation) if s is not None]
    largest = max(pc.max(pc.list_flatten(s.data.column("input_ids"))).as_py() for s in splits)
    if largest >= known:
        raise StudioError(
            f"the rows hold the token “{tokenizer.convert_ids_to_tokens(largest)}” "
            f"(number {largest}), but the model has only {known} tokens: its tokenizer belongs to "
            "another model.",
            title="Tokenizer and model do not go together",
            hint="Choose a model folder whose tokenizer files are the model's own.",
            code="unknown_token",
        )


def tell_unquantized(context: StepContext, model: Any, value: ModelValue) -> None:
    """A notice when most of the weights stay as large as they were."""
    if value.quantization == "none" or not value.parameters:
        return
    layers = [m for m in model.modules() if type(m).__name__ in _QUANTIZED]
    share = sum(m.in_features * m.out_features for m in layers) / value.parameters
    if share < _MOST:
        context.notice(
            f"Only {percent(share)} of the weights of {value.source} could be quantized; the others, such as "
            f"embeddings and experts, stay in {value.dtype} and take that much memory.",
        )


def _vocabulary(model: Any) -> int:
    """Rows of the embedding."""
    return int(model.get_input_embeddings().weight.shape[0])

"""Tokens whose embedding is trained beside an adapter: from the setting to token ids.

A marker that is new to the base needs its own vector and layers that react to it, and PEFT trains
both at once, also with tied weights. No tokens are added: a larger tokenizer needs a larger
embedding, which other programs would not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.targets import FieldError, listed
from studio.node_settings.lora import LoraSettings
from studio.values import ModelValue

_ENDS = {
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "lm_head",
    "embed_out",
}


def token_errors(settings: LoraSettings) -> Iterator[FieldError]:
    """Why single tokens cannot be trained together with the modules to save."""
    if not listed(settings.trained_tokens):
        return
    for name in listed(settings.modules_to_save):
        if name.rpartition(".")[2] in _ENDS:
            yield (
                "trained_tokens",
                f"“{name}” is fully trained, which includes these tokens.",
                "Clear one of the two settings.",
            )
            return


def token_ids(context: StepContext, model: ModelValue, settings: LoraSettings) -> list[int]:
    """The ids of the tokens in the settings, without duplicates, in ascending order."""
    wanted = listed(settings.trained_tokens)
    if not wanted:
        return []
    for field, sentence, hint in token_errors(settings):
        raise _refusal(context, sentence, hint, field)
    from studio.training.tokens.encoder import load_tokenizer

    tokenizer = load_tokenizer(model.path)
    rows = _rows(Path(model.path)) or len(tokenizer)
    found = {_token_id(context, tokenizer, text, rows) for text in wanted}
    names = ", ".join(f"“{tokenizer.convert_ids_to_tokens(i)}” ({i})" for i in sorted(found))
    context.notice(f"The embeddings of these tokens are trained too: {names}.", level="info")
    return sorted(found)


def _token_id(context: StepContext, tokenizer: Any, text: str, rows: int) -> int:
    if text.isdecimal():
        if int(text) < rows:
            return int(text)
        raise _refusal(
            context,
            f"there is no token {text}: the token IDs of this model are 0 to {rows - 1:,}.",
            "Enter a token of the model, or a smaller ID.",
        )
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) == 1:
        return int(ids[0])
    raise _refusal(
        context,
        f"“{text}” is not a single token of this model: it consists of {len(ids)} tokens.",
        "Enter tokens that the vocabulary contains, or their IDs. New tokens would "
        "require a larger embedding, which is not supported; unused token IDs of "
        "the model can be trained.",
    )


def _refusal(
    context: StepContext, sentence: str, hint: str, field: str = "trained_tokens"
) -> StudioError:
    return StudioError(
        sentence,
        title="Unknown token",
        hint=hint,
        node=context.node,
        field=field,
        code="unknown_token",
    )


def _rows(folder: Path) -> int | None:
    """The number of rows of the embedding, often more than the tokenizer has tokens."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")

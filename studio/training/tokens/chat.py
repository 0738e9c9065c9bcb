"""Tokenizer and chat template: how messages become the text that the model sees.

Why: training, evaluation and export must render a conversation in exactly one way. A model without
a chat template gets a plain one, and that one travels with everything that is saved, so that the
tuned model is asked as it was taught. Nothing here may guess from rendered text where a turn ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoTokenizer

from studio.chat_templates import template
from studio.data.canonical import as_template_messages
from studio.errors import StudioError
from studio.model.trust import may_run_code
from studio.training.tokens.bounded import TookTooLong, bounded

Message = Mapping[str, Any]
Result = TypeVar("Result")

_PLAIN = template("plain").source
"""``role: content`` on a line of its own; an answer ends with the end-of-text token."""


class TemplateRefused(Exception):
    """The chat template rejects these messages; the text is its reason."""


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a local folder, with a pad token, and a chat template in any case."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path), trust_remote_code=may_run_code(Path(path)), local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise StudioError(
            f"The tokenizer in {path} cannot be loaded: {str(error).splitlines()[0]}",
            title="No tokenizer",
            hint="Choose a model folder that holds its tokenizer files.",
            code="no_tokenizer",
            file=str(path),
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if not tokenizer.chat_template:
        tokenizer.chat_template = plain_template(tokenizer)
    return tokenizer


def plain_template(tokenizer: Any) -> str:
    """The template for a model that has none; it starts with BOS where the tokenizer would."""
    return ("{{ bos_token }}" if starts_with_bos(tokenizer) else "") + _PLAIN


def has_plain_template(tokenizer: Any) -> bool:
    """Whether the tokenizer's template is the plain one of this module."""
    return str(tokenizer.chat_template or "").endswith(_PLAIN)


def starts_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a BOS token before plain text on its own."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [bos]


def render(
    tokenizer: Any, messages: Sequence[Message], *, ask: bool = False, tools: Any = None
) -> str:
    """The conversation as text; with ``ask`` it ends where the next answer starts. ``messages`` are
    stored or plain ones; ``tools`` is what the row offers to the model."""
    given = as_template_messages(messages)
    return str(
        refused_in_words(
            lambda: tokenizer.apply_chat_template(
                given, tools=tools, tokenize=False, add_generation_prompt=ask
            ),
            tokenizer,
        )
    )


def refused_in_words(render: Callable[[], Result], tokenizer: Any) -> Result:
    """What rendering with the tokenizer's template gives; raises ``TemplateRefused`` where that fails,
    in whatever way, or does not come to an end."""
    try:
        return bounded(render, str(tokenizer.chat_template))
    except TookTooLong as error:
        raise TemplateRefused("it does not come to an end") from error
    except Exception as error:  # a template may fail in any way that Jinja can
        raise TemplateRefused(str(error) or type(error).__name__) from error

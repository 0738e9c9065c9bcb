"""Which chat template a training writes conversations with, and what each would make of a sample.

Why apart from ``chat``: that one renders with whatever the tokenizer has; this one decides what the
tokenizer has. A template is tried on a plain conversation before any row is read. The
choice lives in the tokenizer, so it is saved with the adapter and used wherever that is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from studio import chat_templates
from studio.chat_templates import TemplateInfo
from studio.chat_templates.chats import Chat, ChatTemplate, render_chats
from studio.chat_templates.render import LARGEST_TEXT, SECONDS_A_ROW, TemplateFailed
from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.training.tokens.chat import (
    Message,
    TemplateRefused,
    has_own_rendering,
    render,
    starts_with_bos,
)
from studio.training.tokens.left_out import names_read

_CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
_NUMBER = {"type": "integer"}
SAMPLE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {"type": "object", "properties": {"a": _NUMBER, "b": _NUMBER}},
        },
    }
]
SAMPLE: tuple[Message, ...] = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "What is 2 + 2?"},
)
_ANSWERED: tuple[Message, ...] = (*SAMPLE, {"role": "assistant", "content": "4"})
_WITH_TOOL: tuple[Message, ...] = (
    *SAMPLE,
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "4", "name": "add"},
    {"role": "assistant", "content": "4"},
)


def with_template(tokenizer: Any, settings: Mapping[str, Any]) -> Any:
    """The tokenizer with the chat template that the Train node's settings choose; the given one
    stays as it is. Raises ``StudioError`` for a custom template that does not work, and for one of
    the model's that never ends."""
    choice = str(settings.get("chat_template", "model"))
    kwargs = chat_templates.template_kwargs(settings.get("chat_template_kwargs"))
    if choice == "model":
        refuse_endless(tokenizer)
        return _with_kwargs(tokenizer, kwargs) if kwargs else tokenizer
    return _with_kwargs(_chosen(tokenizer, choice, settings), kwargs)


def _chosen(tokenizer: Any, choice: str, settings: Mapping[str, Any]) -> Any:
    chosen = copy.copy(tokenizer)
    if choice == "custom":
        chosen.chat_template = str(settings.get("custom_template", ""))
        refuse_broken(chosen)
    else:
        chosen.chat_template = library_source(tokenizer, chat_templates.template(choice))
    return chosen


def _with_kwargs(tokenizer: Any, kwargs: Mapping[str, Any]) -> Any:
    """The tokenizer whose template has these variables unless it is given others."""
    chosen = copy.copy(tokenizer)
    source = tokenizer.chat_template
    if kwargs and (has_own_rendering(tokenizer) or not isinstance(source, (str, dict))):
        raise StudioError(
            "the tokenizer of this model renders conversations with its own code, which takes no "
            "template arguments.",
            hint="Remove the template arguments.",
            field="chat_template_kwargs",
            code="no_template_kwargs",
        )
    if isinstance(source, dict):
        chosen.chat_template = {
            n: chat_templates.with_defaults(text, kwargs) for n, text in source.items()
        }
    else:
        chosen.chat_template = chat_templates.with_defaults(source, kwargs)
    return chosen


def unread_arguments(tokenizer: Any, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The template arguments of these settings that the chosen template does not read."""
    kwargs = chat_templates.template_kwargs(settings.get("chat_template_kwargs"))
    if not kwargs:
        return ()
    names = names_read(with_template(tokenizer, {**settings, "chat_template_kwargs": ""}))
    return () if names is None else tuple(name for name in kwargs if name not in names)


def library_source(tokenizer: Any, info: TemplateInfo) -> str:
    """The template of the library; where it says nothing of BOS, it begins with it as the tokenizer
    would."""
    opening = "bos_token" not in info.source and starts_with_bos(tokenizer)
    return ("{{- bos_token }}" if opening else "") + info.source


def refuse_broken(tokenizer: Any) -> None:
    """Raise ``StudioError`` when the template fails on plain conversations, loops or writes too
    much."""
    try:
        text = _tried(tokenizer)
    except TemplateFailed as error:
        raise _broken(error.why) from error
    if not all(str(m["content"]) in text for m in _ANSWERED[1:]):
        raise _broken("it omits the contents of the messages")


def refuse_endless(tokenizer: Any) -> None:
    """Raise ``StudioError`` when the model's own template does not end on a plain conversation. What
    else it says there is for the rows: it may use more than the trial knows."""
    try:
        _tried(tokenizer)
    except TemplateFailed as error:
        if error.slow:
            raise StudioError(
                f"the chat template of the model does not terminate: it {error.why}.",
                title="The chat template does not work",
                hint="Choose another chat template.",
                field="chat_template",
                code="bad_template",
            ) from error


def _tried(tokenizer: Any) -> str:
    """A plain conversation as the template writes it in the process that can be ended; of several
    templates by name, the default one."""
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default", next(iter(source.values()), ""))
    template = ChatTemplate(
        str(source), dict(tokenizer.special_tokens_map), SECONDS_A_ROW, LARGEST_TEXT
    )
    chat = Chat(_ANSWERED[1:], None, [(len(_ANSWERED) - 1, False)])
    ((outcome,),) = render_chats(template, [chat])
    if isinstance(outcome, TemplateFailed):
        raise outcome
    return outcome


def _broken(why: str) -> StudioError:
    return StudioError(
        f"the custom chat template fails on a simple conversation: {why.rstrip('.')}.",
        title="The chat template does not work",
        hint="Correct it, or choose another chat template.",
        field="custom_template",
        code="bad_template",
    )


def tell_choice(context: StepContext, own: Any, chosen: Any, settings: Mapping[str, Any]) -> None:
    """Notices about a template that is not the model's own."""
    if chosen is own:
        return
    if unread := unread_arguments(own, settings):
        context.notice(
            f"The chat template does not read {_listed(unread)}.",
            "Correct or remove the template arguments, or choose a template that reads them.",
        )
    if str(settings.get("chat_template", "model")) == "model":
        context.notice(
            "Conversations are written with these template arguments: "
            f"{settings.get('chat_template_kwargs')}.",
            "They are saved with the chat template of the adapter.",
            "info",
        )
        return
    if sample_text(chosen) != sample_text(own):
        context.notice(
            "Conversations are formatted with a different chat template than the model's own.",
            "It is saved with the adapter; use it with the tuned model, too.",
            "info",
        )
    choice = str(settings.get("chat_template"))
    missing = () if choice == "custom" else missing_tokens(own, chat_templates.template(choice))
    if missing:
        context.notice(
            f"The vocabulary has no single token for {', '.join(missing)}: these special tokens "
            "of the chat template are split into several.",
            "A chat template whose special tokens are in the vocabulary is better.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)


def missing_tokens(tokenizer: Any, info: TemplateInfo) -> tuple[str, ...]:
    """The special tokens of a template that the tokenizer would split into pieces."""
    ids = [tokenizer.convert_tokens_to_ids(t) for t in info.tokens]
    unknown = (None, tokenizer.unk_token_id)
    return tuple(t for t, i in zip(info.tokens, ids, strict=True) if i in unknown)


def sample_text(tokenizer: Any, source: str | None = None) -> str:
    """The sample conversation as text: with a tool where the template writes it, without a system
    message where it takes none. Empty when it takes none of these."""
    shown = tokenizer
    if source is not None:
        shown = copy.copy(tokenizer)
        shown.chat_template = source
    for messages, tools in ((_WITH_TOOL, SAMPLE_TOOLS), (_ANSWERED, None), (_ANSWERED[1:], None)):
        try:
            text = render(shown, messages, tools=tools)
        except TemplateRefused:
            continue
        if tools is None or '"add"' in text or "add[ARGS]" in text:
            return text
    return ""


def rendered_samples(tokenizer: Any) -> list[dict[str, Any]]:
    """What the model's own template and each of the library makes of the sample: ``id``, ``title``,
    ``looks``, ``text``, ``differs`` (from the model's own) and ``missing_tokens``."""
    own = sample_text(tokenizer)
    first = {
        "id": "model",
        "title": "The model's own",
        "looks": "",
        "text": own,
        "differs": False,
        "missing_tokens": [],
    }
    return [first, *(_sample(tokenizer, info, own) for info in chat_templates.library())]


def _sample(tokenizer: Any, info: TemplateInfo, own: str) -> dict[str, Any]:
    text = sample_text(tokenizer, library_source(tokenizer, info))
    return {
        "id": info.id,
        "title": info.title,
        "looks": info.looks,
        "text": text,
        "differs": text != own,
        "missing_tokens": list(missing_tokens(tokenizer, info)),
    }

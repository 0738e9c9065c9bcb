"""Settings of the Train node: how rows become text, and which of it is trained.

It must not say what the settings do to a row: see ``studio.training.tokens.masks``, ``studio.training.tokens.ends``
and ``docs/masks.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from studio import chat_templates
from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.graph.schema import setting
from studio.nodes._train_rows import RowSettings

_TITLES = {t.id: t.title for t in chat_templates.library()}
_WAITING = {
    "preference": "preferences (chosen and rejected)",
    "kto": "labels of good and bad answers",
}
"""Formats whose rows plain answers cannot be learned from."""


class DataSettings(RowSettings):
    """What is trained, and in which words it is put."""

    train_on: Literal["answers", "last_answer", "weights", "all"] = setting(
        "answers", "Train on", "Answers only: the model learns to answer. Last answer only: earlier ones are "
        "context. Weights in the data: each message counts as much as its “weight” says. Everything: it also "
        "learns to write the questions.", group="Data",
        choice_labels={
            "answers": "Answers only", "last_answer": "Last answer only", "weights": "Weights in the data",
            "all": "Everything",
        },
    )  # fmt: skip
    chat_template: Literal[
        "model", "chatml", "llama-3", "llama-2", "mistral", "mistral-tekken", "gemma", "phi-3", "phi-4",
        "qwen-2.5", "qwen-3", "deepseek", "zephyr", "alpaca", "vicuna", "plain", "custom",
    ] = setting(
        "model", "Chat template", "How a conversation is written. The model's own suits nearly always; another "
        "one must be learned first. It is saved with the adapter, and the tuned model is asked with it.",
        group="Data", advanced=True,
        choice_labels={"model": "The model's own", **_TITLES, "custom": "Custom"},
    )  # fmt: skip
    custom_template: str = setting(
        "", "Custom template", "A Jinja chat template as transformers takes it: it loops over “messages” and "
        "ends with the start of an answer when “add_generation_prompt” is true.", group="Data",
        widget="multiline", advanced=True, shown_if={"chat_template": "custom"}, max_length=100_000,
    )  # fmt: skip
    end_token: Literal["auto", "always", "never"] = setting(
        "auto", "End token", "What teaches the model to stop. Where needed: the end token is added where the "
        "chat template ends answers with nothing, and after raw text. Always: after every row. Never: a model "
        "may not learn to stop.", group="Data", advanced=True,
        choice_labels={"auto": "Where needed", "always": "Always", "never": "Never"},
    )  # fmt: skip
    bos: Literal["auto", "always", "never"] = setting(
        "auto", "BOS before raw text", "The token that begins a text. As the tokenizer does suits nearly "
        "always. Chat templates write their own; it never stands twice.", group="Data", advanced=True,
        choice_labels={"auto": "As the tokenizer does", "always": "Always", "never": "Never"},
    )  # fmt: skip


def check_data(settings: DataSettings, context: CheckContext) -> Iterable[Problem]:
    """Templates that cannot work or need a second thought, and data for another objective."""
    if settings.chat_template == "custom":
        yield from _custom_problems(settings, context)
    elif settings.chat_template != "model":
        yield from _other_template(settings, context)
    for kind, values in context.upstream.values():
        if kind != "dataset" or values is None or settings.objective != "sft":
            continue
        waiting = _WAITING.get(_format_of(values, context))
        if waiting:
            yield context.problem(
                f"the rows are {waiting}, and supervised fine-tuning learns from answers only.",
                "objective", hint="Choose another format on the Dataset node, or other data.",
                code="wrong_shape",
            )  # fmt: skip


def _format_of(dataset: Any, context: CheckContext) -> str:
    from studio.formats._check import detected_format

    variants = context.variants.get("format", {})
    return detected_format(dataset, context.project_dir, variants)


def _custom_problems(settings: DataSettings, context: CheckContext) -> Iterable[Problem]:
    if not settings.custom_template.strip():
        yield context.problem(
            "the custom chat template is empty.", "custom_template",
            hint="Write one, or choose another chat template.", code="no_template",
        )  # fmt: skip
        return
    mistake = chat_templates.mistake_in(settings.custom_template)
    if mistake:
        yield context.problem(
            f"the custom chat template {mistake}.", "custom_template",
            hint="Correct it, or choose another chat template.", code="bad_template",
        )  # fmt: skip


def _other_template(settings: DataSettings, context: CheckContext) -> Iterable[Problem]:
    from studio.facts import model_facts

    models = (s for t, s in context.upstream.values() if t == "base_model" and s is not None)
    facts = next((model_facts(getattr(s, "model", ""), context.project_dir) for s in models), None)
    if facts is not None and facts.chat_template:
        title = chat_templates.template(settings.chat_template).title
        yield context.problem(
            f"the model has a chat template of its own, and the rows are written with that of {title}.",
            "chat_template", hint="Choose “The model's own”, unless the model has to learn another one.",
            code="other_template", severity="warning",
        )  # fmt: skip

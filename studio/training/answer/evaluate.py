"""The Evaluate step: exact match on held-out questions before and after tuning.

Both models answer the same rows in the same way, with one model in memory at a time. An adapter is
merged in memory first, because generation with an unmerged adapter is half as fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from studio.graph.context import StepContext
from studio.system import disk
from studio.training.adapter.attach import attach
from studio.training.adapter.build import method_of
from studio.training.answer.generate import Answer, greedy_answers
from studio.training.answer.questions import (
    Question,
    answer_length,
    exact_match,
    file_names,
    questions_of,
)
from studio.training.model.load import load_base, pick_device, roomy_device
from studio.training.model.out_of_memory import explain_out_of_memory
from studio.training.model.quiet import quiet_libraries
from studio.training.tokens.chat import load_tokenizer
from studio.training.tokens.limits import learned_positions
from studio.values import AdapterValue, DatasetValue, ModelValue, ReportValue

if TYPE_CHECKING:
    from studio.node_settings.evaluate import EvaluateSettings

_EXAMPLES = 8
_SHOWN = 2000


def evaluate(
    context: StepContext,
    dataset_json: Mapping[str, Any],
    value_json: Mapping[str, Any],
    settings: EvaluateSettings,
) -> ReportValue:
    """Evaluate both models, emit ``Evaluation`` and write ``report.json``."""
    dataset = DatasetValue.model_validate(dataset_json)
    adapter = value_json.get("kind") == "adapter"
    value = (AdapterValue if adapter else ModelValue).model_validate(value_json)
    quiet_libraries()
    if context.threads:
        torch.set_num_threads(context.threads)
    tokenizer = load_tokenizer(value.path)
    questions = questions_of(context, dataset, tokenizer, settings.rows, _bos_rule(value))
    _warn_if_trained_on(context, dataset, value)
    limit = _limit_of(context, value, questions)
    longest = settings.max_new_tokens or answer_length(questions)

    def ask(model: Any, title: str) -> list[Answer]:
        context.phase("generate", title)
        return greedy_answers(
            model,
            tokenizer,
            [q.ids for q in questions],
            max_new_tokens=longest,
            batch_size=settings.batch_size,
            check=context.check,
            progress=lambda done: context.progress("generate", done, len(questions), "rows"),
            limit=limit,
        )

    with explain_out_of_memory("evaluation", "Lower the batch size.", "batch_size"):
        before, after = _both(context, value, ask)
    _tell_cut(context, after, longest)
    used = {**settings.model_dump(mode="json"), "max_new_tokens": longest}
    return _reported(context, questions, before, after, used)


Ask = Callable[[Any, str], list[Answer]]


def _both(
    context: StepContext, value: ModelValue | AdapterValue, ask: Ask
) -> tuple[list[Answer] | None, list[Answer]]:
    """Answers before (``None`` when the model was not tuned here) and after tuning."""
    if isinstance(value, AdapterValue):
        return _with_adapter(context, value, ask)
    before = None
    if value.base is not None:
        model = _loaded(context, value.base, "Loading the base model")
        before = ask(model, "Generating answers with the base model")
        del model
    else:
        context.notice(
            "The model was not fine-tuned in this project, so there are no answers before tuning "
            "to compare with.",
            "Connect a merged model or an adapter to compare before and after.",
            "info",
        )
    model = _loaded(context, value, "Loading the tuned model" if before else "Loading the model")
    return before, ask(
        model,
        "Generating answers with the tuned model"
        if before
        else "Generating answers with the model",
    )


def _loaded(context: StepContext, value: ModelValue, title: str) -> Any:
    """The loaded model, on the CPU if the GPU is too small for it."""
    device = roomy_device(value)
    if device != pick_device():
        context.notice(
            "The model does not fit into GPU memory: answers are generated on the CPU, which is "
            "slow.",
            "Evaluate the adapter on its quantized base instead, or use fewer rows.",
        )
    return load_base(context, value, title, device)


def _with_adapter(
    context: StepContext, value: AdapterValue, ask: Ask
) -> tuple[list[Answer], list[Answer]]:
    base = value.model.model
    model = _loaded(context, base, "Loading the base model")
    before = ask(model, "Generating answers with the base model")
    model = attach(model, value.path)
    mergeable = not method_of(context, value.model).cannot_merge
    if (
        mergeable and base.quantization == "none"
    ):  # a quantized weight would lose the adapter to rounding
        model = model.merge_and_unload()
    return before, ask(model, "Generating answers with the tuned model")


def _warn_if_trained_on(
    context: StepContext, dataset: DatasetValue, value: ModelValue | AdapterValue
) -> None:
    trained = _trained_on(value)
    if trained is None or trained.sha256 != dataset.sha256:
        return
    if dataset.validation_rows and dataset.path == trained.path:
        return
    context.notice(
        f"The evaluated rows come from {file_names(dataset)}, on which the model was "
        "trained: the result shows memorization, not learning.",
        "Connect rows from another file.",
    )


def _limit_of(
    context: StepContext, value: ModelValue | AdapterValue, questions: Sequence[Question]
) -> int | None:
    """The number of learned positions; a notice reports longer questions."""
    model = value.model.model if isinstance(value, AdapterValue) else value
    limit = learned_positions(Path(model.path))
    long = sum(len(q.ids) >= limit for q in questions) if limit else 0
    if long:
        context.notice(
            f"{long} of {len(questions)} questions exceed the context length of the model "
            f"({limit} tokens): they are skipped and count as wrong.",
            "Use rows with shorter questions.",
        )
    return limit


def _bos_rule(value: ModelValue | AdapterValue) -> str:
    """The setting for BOS before raw text with which the model was tuned."""
    adapter = value.model_dump() if isinstance(value, AdapterValue) else {}
    if isinstance(value, ModelValue) and value.merged_from:
        adapter = value.merged_from[-1].get("adapter", {})
    return str(adapter.get("train", {}).get("bos", "auto"))


def _trained_on(value: ModelValue | AdapterValue) -> DatasetValue | None:
    if isinstance(value, AdapterValue):
        return value.dataset
    if not value.merged_from:
        return None
    return AdapterValue.model_validate(value.merged_from[-1]["adapter"]).dataset


def _tell_cut(context: StepContext, answers: Sequence[Answer], longest: int) -> None:
    cut = sum(answer.cut for answer in answers)
    if cut:
        context.notice(
            f"{cut} of {len(answers)} answers were cut after {longest} tokens; they are marked, and "
            "count by what was generated.",
            "Raise Max new tokens if the answers are right so far; a model that never ends its "
            "answers has not learned the end token.",
        )


def _reported(
    context: StepContext,
    questions: Sequence[Question],
    before: list[Answer] | None,
    after: list[Answer],
    settings: dict[str, Any],
) -> ReportValue:
    measured = {"after": exact_match([a.text for a in after], questions)}
    if before is not None:
        measured = {"before": exact_match([a.text for a in before], questions), **measured}
    measures = {"exact_match": measured}
    rows = [_example(i, q, before, after) for i, q in enumerate(questions)]
    count = min(_EXAMPLES, len(rows))
    examples = [rows[i * len(rows) // count] for i in range(count)]
    path = context.folder / "report.json"
    report = {"measures": measures, "rows": len(rows), "settings": settings, "answers": rows}
    with disk.explain_errors("the report", path.parent):
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    context.emit("Evaluation", measures=measures, rows=len(rows), examples=examples)
    context.artifact("report", path, measures=measures, rows=len(rows))
    return ReportValue(path=str(path), rows=len(rows), measures=measures)


def _example(
    number: int, question: Question, before: list[Answer] | None, after: list[Answer]
) -> dict[str, Any]:
    """A row of the report: ``right`` and ``cut`` name those of the answers that are so."""
    answers = {"after": after[number]}
    if before is not None:
        answers = {"before": before[number], **answers}
    return {
        "prompt": question.shown[:_SHOWN],
        "expected": question.expected[:_SHOWN],
        "before": "",
        **{name: answer.text.strip() for name, answer in answers.items()},
        "right": [n for n, answer in answers.items() if question.is_answered_by(answer.text)],
        "cut": [n for n, answer in answers.items() if answer.cut],
    }

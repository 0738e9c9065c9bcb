"""The Evaluate step: held-out questions to the model before and after tuning, exact answers counted.

Both models are asked the same rows in the same way, one model in memory at a time. An adapter is
merged in memory first, because an unmerged one generates at half the speed.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel

from studio import disk
from studio.errors import StudioError
from studio.runs.context import StepContext
from studio.training.arrow import open_rows
from studio.training.chat import TemplateRefused, load_tokenizer, render, starts_with_bos
from studio.training.generate import greedy_answers
from studio.training.load import load_base
from studio.training.quiet import quiet_libraries
from studio.values import AdapterValue, DatasetValue, ModelValue, ReportValue

if TYPE_CHECKING:
    from studio.nodes.evaluate import EvaluateSettings

_EXAMPLES = 8
_SHOWN = 2000


@dataclass(frozen=True)
class Question:
    """A row to be asked: what a person reads, the prompt's token ids, and the right answer."""

    shown: str
    ids: list[int]
    expected: str


def evaluate(
    context: StepContext,
    dataset_json: Mapping[str, Any],
    value_json: Mapping[str, Any],
    settings: EvaluateSettings,
) -> ReportValue:
    """Ask both models, emit ``Evaluation`` and write ``report.json``."""
    dataset = DatasetValue.model_validate(dataset_json)
    adapter = value_json.get("kind") == "adapter"
    value = (AdapterValue if adapter else ModelValue).model_validate(value_json)
    quiet_libraries()
    if context.threads:
        torch.set_num_threads(context.threads)
    tokenizer = load_tokenizer(value.path)
    questions = _questions(context, dataset, tokenizer, settings.rows)
    _warn_if_trained_on(context, dataset, value)

    def ask(model: Any, title: str) -> list[str]:
        context.phase("generate", title)
        return greedy_answers(
            model, tokenizer, [q.ids for q in questions], max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size, check=context.check,
            progress=lambda done: context.progress("generate", done, len(questions), "rows"),
        )  # fmt: skip

    before, after = _both(context, value, ask)
    return _reported(context, questions, before, after, settings.model_dump(mode="json"))


Ask = Callable[[Any, str], list[str]]


def _both(
    context: StepContext, value: ModelValue | AdapterValue, ask: Ask
) -> tuple[list[str] | None, list[str]]:
    """Answers before (``None`` when the model was not tuned here) and after tuning."""
    if isinstance(value, AdapterValue):
        return _with_adapter(context, value, ask)
    before = None
    if value.base is not None:
        model = load_base(context, value.base, "Loading the base model")
        before = ask(model, "Asking the base model")
        del model
        gc.collect()
    else:
        context.notice(
            "This model was not tuned here, so there is nothing to compare it with: only one figure "
            "is measured.", "Wire a merged model or an adapter to see before and after.", "info",
        )  # fmt: skip
    model = load_base(context, value, "Loading the tuned model" if before else "Loading the model")
    return before, ask(model, "Asking the tuned model" if before else "Asking the model")


def _with_adapter(
    context: StepContext, value: AdapterValue, ask: Ask
) -> tuple[list[str], list[str]]:
    base = value.model.model
    model = load_base(context, base, "Loading the base model")
    before = ask(model, "Asking the base model")
    model = PeftModel.from_pretrained(model, value.path)
    if base.quantization == "none":  # merging into a quantized model would round the adapter away
        model = model.merge_and_unload()
    return before, ask(model, "Asking the tuned model")


def _questions(
    context: StepContext, dataset: DatasetValue, tokenizer: Any, wanted: int
) -> list[Question]:
    """Rows spread evenly over the held-out split, or over all rows where there is none."""
    rows = open_rows(Path(dataset.path) / ("validation" if dataset.validation_rows else "train"))
    count = min(wanted or len(rows), len(rows))
    picked = (rows[i * len(rows) // count] for i in range(count))
    questions = [q for q in (_question(context, row, tokenizer) for row in picked) if q is not None]
    if not questions:
        raise StudioError(
            f"{context.title}: the rows of {_names(dataset)} have no question with an answer.",
            title="Nothing to ask", hint="Use rows with a question and an answer, not plain text.",
            field="dataset", code="nothing_to_ask", file=dataset.sources[0] if dataset.sources else None,
        )  # fmt: skip
    if len(questions) < count:
        context.notice(f"{count - len(questions)} rows have no question with an answer and were left out.")  # fmt: skip
    return questions


def _names(dataset: DatasetValue) -> str:
    return ", ".join(Path(s).name for s in dataset.sources)


def _question(context: StepContext, row: dict[str, Any], tokenizer: Any) -> Question | None:
    """The row up to its last answer, or ``None`` when it holds no question with an answer."""
    if row["prompt"] is not None:
        ids = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *ids] if starts_with_bos(tokenizer) else ids
        return Question(row["prompt"], ids, row["completion"])
    messages = row["messages"] or []
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)
    if last == 0:
        return None
    try:
        text = render(tokenizer, messages[:last], ask=True)
    except TemplateRefused as error:
        raise StudioError(
            f"{context.title}: the model's chat template does not take line {row['line']} of "
            f"{Path(row['source']).name}: {error}.",
            code="template_refused", file=row["source"], line=row["line"],
        ) from error  # fmt: skip
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return Question(messages[last - 1]["content"], ids, messages[last]["content"])


def _warn_if_trained_on(
    context: StepContext, dataset: DatasetValue, value: ModelValue | AdapterValue
) -> None:
    trained = _trained_on(value)
    if trained is None or trained.sha256 != dataset.sha256:
        return
    if dataset.validation_rows and dataset.path == trained.path:
        return
    context.notice(
        f"The test rows come from {_names(dataset)}, which the model was trained on: the figure shows "
        "how well it remembers, not how well it learned.", "Wire rows from another file.",
    )  # fmt: skip


def _trained_on(value: ModelValue | AdapterValue) -> DatasetValue | None:
    if isinstance(value, AdapterValue):
        return value.dataset
    if not value.merged_from:
        return None
    return AdapterValue.model_validate(value.merged_from[-1]["adapter"]).dataset


def exact_match(answers: Sequence[str], questions: Sequence[Question]) -> float:
    """Share of answers that equal the expected one, blanks around it and case aside."""
    right = [_plain(a) == _plain(q.expected) for a, q in zip(answers, questions, strict=True)]
    return sum(right) / len(right)


def _plain(text: str) -> str:
    return text.strip().casefold()


def _reported(
    context: StepContext,
    questions: Sequence[Question],
    before: list[str] | None,
    after: list[str],
    settings: dict[str, Any],
) -> ReportValue:
    measured = {"after": exact_match(after, questions)}
    if before is not None:
        measured = {"before": exact_match(before, questions), **measured}
    measures = {"exact_match": measured}
    rows = [_example(i, q, before, after) for i, q in enumerate(questions)]
    count = min(_EXAMPLES, len(rows))
    examples = [rows[i * len(rows) // count] for i in range(count)]
    path = context.folder / "report.json"
    report = {"measures": measures, "rows": len(rows), "settings": settings, "answers": rows}
    with disk.told(context.title, "the report", path.parent):
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    context.emit("Evaluation", measures=measures, rows=len(rows), examples=examples)
    context.artifact("report", path, measures=measures, rows=len(rows))
    return ReportValue(path=str(path), rows=len(rows), measures=measures)


def _example(
    number: int, question: Question, before: list[str] | None, after: list[str]
) -> dict[str, str]:
    return {
        "prompt": question.shown[:_SHOWN],
        "expected": question.expected[:_SHOWN],
        "before": before[number].strip() if before is not None else "",
        "after": after[number].strip(),
    }

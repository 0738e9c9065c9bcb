"""The Train node: supervised fine-tuning of an adapter, a new one or one that is trained further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import chat_templates
from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTED_MODEL, ADAPTER, DATASET, MODEL, input_, output
from studio.node_settings.lora import LoraSettings
from studio.node_settings.train import TrainSettings
from studio.system import torch_report
from studio.system.device import AUTO, CPU, choose, names, wanted_device, why_unused
from studio.variants.lora_method import rate_text, settings_after

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """Settings that contradict each other or the connected nodes; data without trained tokens."""
    from studio.preview.report_cache import kept_problems

    yield from check_full_fine_tuning(settings, context)
    yield from check_rate(settings, context)
    yield from check_continued(settings, context)
    yield from kept_problems(settings, context)
    yield from check_data(settings, context)
    yield from check_device(settings, context)
    from studio.data.sources import holds_out
    from studio.preview import template_check

    yield from template_check.kept_problems(settings, context)

    data = [s for t, s in context.upstream.values() if t == "dataset" and s]
    if data and not any(holds_out(s, context.project_dir) for s in data):
        yield from _without_validation(settings, context)
    if settings.early_stopping and settings.keep == "last":
        yield context.problem(
            f"early stopping ends the training {settings.early_stopping} evaluations after the best "
            "one, but the result has the weights of the last step.",
            "keep",
            hint="Set Result to Best evaluation.",
            code="early_stopping_keeps_last",
            severity="warning",
        )
    if settings.max_steps and settings.save_steps > settings.max_steps:
        yield context.problem(
            f"a checkpoint every {settings.save_steps} steps is never saved in "
            f"{settings.max_steps} steps.",
            "save_steps",
            hint="Lower it, or set 0 to save ten times per run.",
            code="cadence_beyond_end",
            severity="warning",
        )


_NEED_VALIDATION = (
    ("eval_steps", 0, "evaluation needs validation rows"),
    ("early_stopping", 0, "early stopping needs validation rows"),
    ("keep", "last", "keeping the best evaluation needs validation rows"),
    ("sample_rows", 0, "validation prompts need validation rows"),
)


def _without_validation(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    for name, unused, what in _NEED_VALIDATION:
        if getattr(settings, name) != unused:
            yield context.problem(
                f"{what}, but the Dataset node holds out none.",
                name,
                hint="Select a validation split in the Dataset node.",
                code="no_validation_rows",
                severity="warning",
            )


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> Mapping[str, Any]:
    """Train, verify the saved adapter on a freshly loaded model, and describe it."""
    context.starts_libraries()
    from studio.training.loop.train import train_adapter, train_model

    if inputs["model"]["kind"] == "model":
        return {"adapter": None, "model": train_model(context, inputs, settings).to_json()}
    return {"adapter": train_adapter(context, inputs, settings).to_json(), "model": None}


def _summary(settings: TrainSettings) -> str:
    """A short summary: the canvas enlarges it when zoomed out."""
    count, unit = (settings.max_steps, "step") if settings.max_steps else (settings.epochs, "epoch")
    rate = f"{settings.learning_rate:.2g}"
    if settings.learning_rate < 1e-3:  # 2e-4, as the inspector writes it
        rate = f"{settings.learning_rate:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{count:g} {unit}{'' if count == 1 else 's'} · lr {rate}"


USUAL_RATE = 1e-4


def is_full_fine_tuning(context: CheckContext) -> bool:
    """Whether a model without a LoRA node is wired in."""
    return context.input_types.get("model") == MODEL.id


def check_full_fine_tuning(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """Full fine-tuning produces a model instead of an adapter, does not support quantization, and
    needs a lower learning rate."""
    full = is_full_fine_tuning(context)
    wrong, right = ("adapter", "Tuned model") if full else ("model", "Adapter")
    if "model" in context.inputs and wrong in context.used_outputs:
        what = (
            "Train is connected to a base model without LoRA, so it produces no adapter"
            if full
            else (
                "Train is connected to a model with LoRA, so it produces an adapter, not a tuned "
                "model"
            )
        )
        yield context.problem(
            f"{what}.",
            wrong,
            code="no_such_result",
            hint=f"Connect “{right}” instead"
            + (", or put a LoRA node before Train." if full else ", or add a Merge node."),
        )
    if not full:
        return
    base = next((s for t, s in context.upstream.values() if t == "base_model" and s), None)
    if getattr(base, "quantization", "none") != "none":
        yield context.problem(
            "a quantized model does not support full fine-tuning.",
            "model",
            code="whole_quantized",
            hint="Set Quantization to None in the Base model node, or insert a LoRA node.",
        )
    if settings.learning_rate > USUAL_RATE:
        yield context.problem(
            f"a learning rate of {settings.learning_rate:g} is high for full fine-tuning and may "
            "destroy what the model has learned.",
            "learning_rate",
            severity="warning",
            code="high_rate",
            hint="Typical values are 1e-5 to 5e-5.",
        )


def goes_on(context: CheckContext) -> bool:
    """Whether an adapter is connected, which is trained further."""
    return context.input_types.get("model") == ADAPTER.id


def lora_before(context: CheckContext) -> LoraSettings | None:
    """The LoRA node of this training, or the one whose adapter it goes on with; ``None`` if there are several or none,
    or if an adapter is loaded."""
    kind, wired = context.inputs.get("model", ("", None))
    if isinstance(wired, LoraSettings):
        return wired
    kinds = [t for t, _ in context.upstream.values()]
    if kind not in ("train", "resize") or not goes_on(context) or "load_adapter" in kinds:
        return None
    found = [s for t, s in context.upstream.values() if isinstance(s, LoraSettings)]
    variants = context.variants.get("adapter", {})
    if len(found) != 1 or found[0].method not in variants:
        return None
    return settings_after(found[0], variants[found[0].method].payload)


def check_continued(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """What the adapter that is trained further determines, and adapters that cannot be."""
    if not goes_on(context):
        return
    for kind, earlier in context.upstream.values():
        variant = context.variants.get("adapter", {}).get(getattr(earlier, "method", ""))
        if kind == "lora" and variant is not None and variant.payload.cannot_continue:
            yield context.problem(
                f"adapters of the method {variant.title} cannot be trained further: "
                f"{variant.payload.cannot_continue}.",
                "model",
                hint="Insert a Merge and a LoRA node before this training, or choose another method.",
                code="cannot_continue",
            )
            return
    lora = lora_before(context)
    ranked = "r" in getattr(_payload(context, lora), "uses", ()) if lora is not None else False
    facts = f" (rank {lora.r}, alpha {lora.alpha})" if lora is not None and ranked else ""
    yield context.problem(
        f"the training goes on from the connected adapter. Its method, rank, alpha and layers{facts} stay as they are.",
        "model",
        hint="To choose others, insert a Merge and a LoRA node before this training.",
        code="goes_on",
        severity="info",
    )
    yield from _other_template_before(settings, context)


def _payload(context: CheckContext, lora: LoraSettings) -> Any:
    variant = context.variants.get("adapter", {}).get(lora.method)
    return variant.payload if variant is not None else None


def _other_template_before(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """The chat template of the earlier training, if both train on chats."""
    _, earlier = context.inputs.get("model", ("", None))
    if not isinstance(earlier, TrainSettings):
        return
    data = [s for t, s in context.upstream.values() if t == "dataset" and s is not None]
    if any(_format_of(s, context) == "text" for s in data):
        return
    same = ("chat_template", "custom_template")
    if any(getattr(earlier, n) != getattr(settings, n) for n in same):
        first, second = (_template_title(s) for s in (earlier, settings))
        yield context.problem(
            f"the earlier training formats its rows with {first}, and this one with {second}.",
            "chat_template",
            hint="Choose the same one in both, unless the model should learn another template.",
            code="other_template",
            severity="warning",
        )


def _template_title(settings: TrainSettings) -> str:
    if settings.chat_template == "model":
        return "the model's own chat template"
    if settings.chat_template == "custom":
        return "a custom chat template"
    return f"the chat template {chat_templates.template(settings.chat_template).title}"


_FAR = 2.0
"""A learning rate is far outside a range if it is lower or higher by more than this factor."""


def check_rate(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """A learning rate far outside the range that the wired LoRA method declares."""
    lora = lora_before(context)
    if lora is None:
        return
    variant = context.variants.get("adapter", {}).get(getattr(lora, "method", ""))
    rates = getattr(variant.payload, "learning_rates", None) if variant else None
    if variant is None or rates is None:
        return
    low, usual, high = rates
    if low / _FAR <= settings.learning_rate <= high * _FAR:
        return
    effect = "hardly learns" if settings.learning_rate < low else "may diverge"
    yield context.problem(
        f"{variant.title} {effect} at a learning rate of {rate_text(settings.learning_rate)}; "
        f"{rate_text(low)} to {rate_text(high)} is usual for it.",
        "learning_rate",
        severity="warning",
        code="rate_for_method",
        hint=f"Set it to about {rate_text(usual)}, or take the recipe's value.",
    )


def check_device(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """A device that cannot be used, two devices in one project, and a GPU that is not used."""
    report = torch_report.known()
    try:
        if report is not None:
            choose(report, settings.device)
    except StudioError as error:
        yield context.problem(error.sentence, "device", hint=error.hint, code=error.code)
        return
    wanted = device_of(context)
    if settings.device not in (AUTO, wanted):
        yield context.problem(
            f"the device is “{settings.device}”, and that of another Train node is “{wanted}”. A run "
            "uses one device.",
            "device",
            hint="Select the same device in both, or Auto in one of them.",
            code="two_devices",
        )
    why = why_unused(wanted)
    if why is not None:
        yield context.problem(
            why.sentence, "device", hint=why.hint, code=why.code, severity="warning"
        )


def device_of(context: CheckContext) -> str:
    """The device that the Train nodes of the project name."""
    nodes = context.project.values()
    trains = [values for kind, values in nodes if kind == "train" and values is not None]
    return wanted_device(("train", vars(values)) for values in trains)


def choices(settings: TrainSettings, project_dir: Path, field: str) -> Sequence[str]:
    """The devices that the setting can name."""
    del settings, project_dir
    report = torch_report.known()
    if field != "device" or report is None:
        return (AUTO, CPU) if field == "device" else ()
    return (AUTO, *(name for name, gpu in names(report).items() if gpu.kernels), CPU)


_WAITING = {
    "preference": "preferences (chosen and rejected)",
    "kto": "labels for good and bad answers",
}
"Formats whose rows supervised fine-tuning cannot use."


def check_data(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """Invalid or unusual chat templates, and data for another objective."""
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
                f"the rows contain {waiting}, which supervised fine-tuning does not use.",
                "objective",
                hint="Choose another format in the Dataset node, or other data.",
                code="wrong_shape",
            )


def _format_of(dataset: Any, context: CheckContext) -> str:
    from studio.data.check import detected_format

    variants = context.variants.get("format", {})
    return detected_format(dataset, context.project_dir, variants)


def _custom_problems(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    if not settings.custom_template.strip():
        yield context.problem(
            "the custom chat template is empty.",
            "custom_template",
            hint="Enter a template, or choose another chat template.",
            code="no_template",
        )
        return
    mistake = chat_templates.mistake_in(settings.custom_template)
    if mistake:
        yield context.problem(
            f"the custom chat template {mistake}.",
            "custom_template",
            hint="Correct it, or choose another chat template.",
            code="bad_template",
        )


def _other_template(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    from studio.model.facts import model_facts

    models = (s for t, s in context.upstream.values() if t == "base_model" and s is not None)
    facts = next((model_facts(getattr(s, "model", ""), context.project_dir) for s in models), None)
    if facts is not None and facts.chat_template:
        title = chat_templates.template(settings.chat_template).title
        yield context.problem(
            (
                "the model has its own chat template, but the rows are formatted with that of "
                f"{title}."
            ),
            "chat_template",
            hint="Choose “Model's own”, unless the model should learn another template.",
            code="other_template",
            severity="warning",
        )


NODE = NodeType(
    id="train",
    title="Train",
    version=2,
    category="Training",
    purpose="train",
    icon="play",
    help="Supervised fine-tuning: the model learns to write the answers in your rows.",
    stages=(
        "prepare",
        "load",
        "train",
        "save",
        "verify",
    ),
    settings=TrainSettings,
    run=run,
    check=check,
    choices=choices,
    inputs=(
        input_("dataset", DATASET, "Dataset"),
        input_(
            "model",
            (ADAPTED_MODEL, MODEL, ADAPTER),
            "Model",
            "A model with LoRA trains a new adapter. An adapter is trained further. A model without LoRA is fully "
            "fine-tuned.",
        ),
    ),
    outputs=(
        output("adapter", ADAPTER, "Adapter", "The adapter, if the model has LoRA."),
        output(
            "model", MODEL, "Tuned model", ("The fully fine-tuned model, if the model has no LoRA.")
        ),
    ),
    summary=_summary,
)

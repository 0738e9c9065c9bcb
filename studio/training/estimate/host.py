"""The process that runs a dry run or a probe for an estimate.

``python -m studio.training.estimate.host`` reads one JSON object from standard input
(``studio.estimate.ask.request``) and answers in JSON lines: ``progress``, then ``found`` or
``error``. It is cancelled by ending the process, and writes no files.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio.errors import StudioError, errors_of
from studio.estimate.activations import Mode
from studio.estimate.memory import Batch
from studio.graph.context import StepContext
from studio.graph.registry import load_registry
from studio.runs.failures import as_studio_error
from studio.system import device
from studio.values import AdaptedModelValue, ModelValue

_OWN_STATES = ("adamw", "adamw_fused", "adafactor", "muon", "sgd")
"""Optimizers of torch, which a dry run supports."""


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    asked = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    try:
        if asked["kind"] == "probe":
            device.use(asked["device"])
        found = _probe(asked) if asked["kind"] == "probe" else _dry(asked)
    except KeyboardInterrupt:
        return 3
    except Exception as error:
        expected = as_studio_error(error, "Estimate", Path(tempfile.gettempdir()))
        if expected is None and isinstance(error, (ValueError, KeyError, RuntimeError)):
            expected = StudioError(f"This training cannot be estimated: {error}.", code="estimate")
        if expected is None:
            raise
        tell(error=expected.problem().to_json())
        return 1
    tell(found=found)
    return 0


def tell(**message: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(message), flush=True)


def _settings(asked: Mapping[str, Any]) -> Any:
    return load_registry().nodes["train"].settings.model_validate(asked["train"])


def _dry(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Peak and parameters of a dry run.

    States of bitsandbytes optimizers are added from the table, because they have no fake
    implementation.
    """
    from studio.training.model.quiet import quiet_libraries

    quiet_libraries()
    tell(progress={"title": "Tracing a step without computing it"})
    from peft import get_peft_model

    from studio.estimate.optimizers import states
    from studio.training.adapter.attach import fit_base
    from studio.training.adapter.experts import name_experts
    from studio.training.adapter.full_fine_tuning import mark_trained
    from studio.training.estimate.dry_run import dry_run
    from studio.training.loop.optim import build_optimizer

    mode, batch, settings = Mode(**asked["mode"]), Batch(**asked["batch"]), _settings(asked)
    adapted = asked["adapted"] and AdaptedModelValue.model_validate(asked["adapted"])

    def adapt(model: Any) -> Any:
        if not adapted:
            mark_trained(model, settings.trained_layers, settings.train_embeddings)
            return model
        method = load_registry().variants["adapter"][adapted.method]
        config = method.payload.build(adapted)
        if hasattr(config, "init_lora_weights"):  # some initializations need real weights
            config.init_lora_weights = True
        fit_base(model, config)
        return get_peft_model(model, name_experts(model, config))

    own = settings.optimizer in _OWN_STATES
    named = settings if own else settings.model_copy(update={"optimizer": "sgd"})
    try:
        run = dry_run(asked["config"], mode, batch, adapt, lambda m: build_optimizer(m, named))
    except RuntimeError as error:  # NotImplementedError is one
        if not adapted or not _needs_numbers(error):
            raise
        raise _not_followed(adapted.method) from error
    more = states(settings.optimizer, mode.device, run.trainable, run.small)
    return {**asdict(run), "peak": round(run.peak + (0 if own else more or 0))}


def _needs_numbers(error: RuntimeError) -> bool:
    """Whether a step failed because the data of a fake tensor was requested."""
    from torch._subclasses import fake_tensor as fake

    dynamic = (fake.DataDependentOutputException, fake.DynamicOutputShapeException)
    words = str(error).lower()
    return isinstance(error, dynamic) or "meta" in words or "couldn't swap" in words


def _not_followed(method: str) -> StudioError:
    title = load_registry().variants["adapter"][method].title
    return StudioError(
        f"A dry run does not support {title}: PEFT reads values of the weights, which a dry "
        "run does not have.",
        hint="Use a probe, which runs two real steps.",
        code="estimate",
    )


def _probe(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run two real steps."""
    tell(progress={"title": "Loading the model"})
    from studio.training.estimate.probe import Peak, run_probe
    from studio.training.model.load import load_base, pick_device

    mode, batch = Mode(**asked["mode"]), Batch(**asked["batch"])
    adapted = asked["adapted"] and AdaptedModelValue.model_validate(asked["adapted"])
    peak = Peak(pick_device())
    temporary = tempfile.TemporaryDirectory(prefix="lora-studio-", ignore_cleanup_errors=True)
    with errors_of("Estimate"), temporary as work:
        context = StepContext(
            node=asked["node"],
            title="Estimate",
            folder=Path(work),
            checkpoints=Path(work),
            project_dir=Path(work),
            registry=load_registry(),
            emit_event=lambda event: None,
        )
        value = ModelValue.model_validate(asked["model"])
        if adapted:
            from studio.training.adapter.build import build_adapter

            model = build_adapter(context, load_base(context, value), adapted).model
        else:
            from studio.training.adapter.full_fine_tuning import load_for_training, mark_trained

            model, train = load_for_training(context, value), asked["train"]
            mark_trained(model, train["trained_layers"], train["train_embeddings"])
        if value.quantization != "none":  # resident pages of the file can be reclaimed
            peak.reset()
        return asdict(run_probe(model, mode, batch, _settings(asked), _step, peak))


def _step(number: int) -> None:
    tell(progress={"title": f"Step {number + 1} of 2"})


if __name__ == "__main__":
    sys.exit(main())

"""The state of a training: model, optimizer, scheduler, metrics and the step it has reached.

The training loop changes it; evaluation, samples and checkpoints read it. Everything that a checkpoint
holds is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from studio.training.adapter.tuning import Tuning
from studio.training.batch.batches import Batch
from studio.training.loop.metrics import Metrics
from studio.training.model.load import is_emulated, pick_device
from studio.training.model.wide_products import computes_in_float32
from studio.training.saved.checkpoint import Checkpoint
from studio.training.saved.snapshot import (
    read_method,
    read_metrics,
    read_random,
    restore_optimizer,
    restore_random,
)
from studio.variants.objective import Objective

_MIXED_PRECISION = {"bfloat16": "bf16", "float16": "fp16"}


@dataclass
class TrainingState:
    """``step`` is the number of completed optimizer steps, ``random_state`` the state of the random
    number generators after the last one.

    ``optimizer`` and ``scheduler`` are torch's own; ``accelerator`` (device, mixed precision, loss
    scaling) and ``head`` (how logits are computed) are set while training.
    """

    tuning: Tuning
    objective: Objective
    metrics: Metrics = field(default_factory=Metrics)
    step: int = 0
    optimizer: Any = None
    scheduler: Any = None
    accelerator: Any = None
    head: Any = None
    random_state: dict[str, Any] = field(default_factory=dict)
    _suspended: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, tuning: Tuning, objective: Objective, resumed: Checkpoint | None) -> TrainingState:
        """The state before the first step, or that of a checkpoint. ``restore`` completes it."""
        if resumed is None:
            return cls(tuning, objective)
        metrics = Metrics.from_json(read_metrics(resumed.path))
        return cls(tuning, objective, metrics, resumed.step)

    def choose_head(self, batch: Batch) -> Any:
        """Choose how the objective computes logits with this model; tested once on ``batch``."""
        if self.head is None:
            self.head = self.objective.choose_head(self.tuning.model, batch)
        return self.head

    def scaler_state(self) -> dict[str, Any]:
        """The state of float16's loss scaling, for a checkpoint; empty without loss scaling."""
        scaler = self.accelerator.scaler
        return {"scaler": scaler.state_dict()} if scaler is not None else {}

    def restore(self, resumed: Checkpoint | None) -> None:
        """Restore optimizer, scheduler, loss scaling and random number generators at the start of a
        pass, from the previous pass or from the checkpoint that the run resumes.
        """
        if self.random_state:
            self._restore_suspended()
            return
        if resumed is not None:
            restore_optimizer(resumed.path, self.optimizer, self.scheduler)
            self._restore_scaler(read_metrics(resumed.path))
            self.tuning.restore(*read_method(resumed.path))
        self.random_state = read_random()

    def suspend(self) -> None:
        """Keep what a new pass needs and release the memory of the failed one."""
        self._suspended = {"optimizer": dict(self.optimizer.state), **self.scaler_state()}
        self.optimizer.state.clear()  # accelerate would copy it
        self.tuning.model.zero_grad(set_to_none=True)
        self.accelerator = self.head = None

    def _restore_suspended(self) -> None:
        self.optimizer.state.update(self._suspended.pop("optimizer"))
        self._restore_scaler(self._suspended)
        restore_random(self.random_state)
        self._suspended = {}

    def _restore_scaler(self, values: dict[str, Any]) -> None:
        if "scaler" in values and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])

    @property
    def is_loss_scale_reducible(self) -> bool:
        """Whether float16's loss scaling can still handle a non-finite gradient, by skipping the
        step and halving its factor.

        At a factor of 1 the gradient itself overflows, and so would all later ones.
        """
        scaler = self.accelerator.scaler
        return scaler is not None and scaler.get_scale() > 1.0


def make_accelerator(dtype: str, model: Any) -> Accelerator:
    """Device, autocast and loss scaling for a model in ``dtype``, on one device. A CPU that emulates bfloat16 has
    no autocast where it computes in float32 (``studio.training.model.wide_products``)."""
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # it keeps the precision of the previous run
    device = pick_device()
    single = is_emulated(dtype, device) and computes_in_float32(model)
    precision = "no" if single else _MIXED_PRECISION.get(dtype, "no")
    return Accelerator(mixed_precision=precision, cpu=device.type == "cpu")


def can_checkpoint(model: Any) -> bool:
    """Whether the model supports gradient checkpointing."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of keeping them."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def release(accelerator: Accelerator, model: torch.nn.Module) -> None:
    """Undo what ``prepare`` did to ``model``, so that another pass can prepare it again."""
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()

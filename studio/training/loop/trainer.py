"""The transformers Trainer with our batches, our loss and our bookkeeping.

Why a subclass: the Trainer brings devices, autocast, accumulation and clipping. Everything that it
would do by default with files, logs, random numbers and resume is replaced, because those defaults
lose runs. It must not write a file or print a line by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from studio.objectives.objective import PLAIN_LOSS, LossOptions, Objective
from studio.training.batch.batches import Batch, tokens_in
from studio.training.loop.noise import noisy_embeddings
from studio.training.loop.sft import total_weight


class StudioTrainer(Trainer):
    """Trains on ``batches``; ``step_loss`` and ``step_tokens`` add up over an optimizer step.

    ``micro_losses`` are its parts, ``grad_norm`` the length of its gradient before clipping.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        batches: Any,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        watch: TrainerCallback,
        penalty: Callable[[], torch.Tensor | None] = lambda: None,
        options: LossOptions = PLAIN_LOSS,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=batches.dataset,
            optimizers=(optimizer, schedule),
            callbacks=[watch],
        )
        self.remove_callback(PrinterCallback)
        self.batches = batches
        self.objective = objective
        self.watch = watch
        self.penalty = penalty
        self.options = options
        self.penalty_share = 0.0
        self.head: Any = None
        self.model_accepts_loss_kwargs = True  # count label tokens over the whole step
        self.loss_is_scaled_for_ga = True  # compute_loss divides by that count
        self.step_loss = torch.zeros((), device=args.device)
        self.step_tokens = 0
        self.micro_losses: list[torch.Tensor] = []
        self.grad_norm: Any = 0.0

    def get_train_dataloader(self) -> Any:
        """Our batches, in our order."""
        return self.batches

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it would walk over all weights at every batch."""
        del inputs
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> Any:
        """Label tokens of the optimizer step; the sum of their weights where a batch has weights."""
        if not any("weights" in batch for batch in batch_samples):
            return super()._get_num_items_in_batch(batch_samples, device)
        total = sum((total_weight(b).double() for b in batch_samples), torch.zeros(()).double())
        return total.clamp(min=torch.finfo(torch.float32).tiny).float().to(device)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass; a stop point before it."""
        self.watch.before_batch()
        self.step_tokens += tokens_in(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.micro_losses.append(loss)
        self.step_loss += loss - self.penalty_share  # shown is the loss of the rows alone
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Keep the norm: it is looked at before the weights are moved."""
        self.grad_norm = super()._get_grad_norm(model, grad_norm)
        return self.grad_norm

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's loss over the label tokens of the whole optimizer step."""
        del return_outputs
        if self.head is None:
            self.head = self.objective.choose_head(self.model, inputs)
        with noisy_embeddings(self.model, inputs, self.options.neftune_alpha):
            summed = self.objective.summed_loss(model, inputs, self.head, self.options)
        loss = summed / num_items_in_batch
        penalty = self.penalty()
        if penalty is None:
            return loss
        share = penalty / self.current_gradient_accumulation_steps
        self.penalty_share = float(share.detach())
        return loss + share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the figures of a step to the watch; no history is kept in memory."""
        del start_time
        self.control: Any = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def take_step(self) -> tuple[float, int]:
        """Loss and tokens since the last call."""
        taken = float(self.step_loss), self.step_tokens
        self.step_loss.zero_()
        self.step_tokens = 0
        self.micro_losses = []
        return taken


def training_arguments(
    settings: Any, dtype: str, steps: int, device: torch.device, scratch: Path
) -> TrainingArguments:
    """The arguments for a run of ``steps`` optimizer steps from where the batches start."""
    args = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **_checkpointing(settings.gradient_checkpointing),
    )
    _ = args.device  # set up now: the next line would otherwise be overwritten
    args._n_gpu = min(1, args.n_gpu)  # several GPUs would wrap the model in DataParallel
    return args


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """Gradient checkpointing under the name that this version of transformers uses."""
    if not wanted:
        return {}
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    word = "activation" if "activation_checkpointing" in names else "gradient"
    return {f"{word}_checkpointing": True, f"{word}_checkpointing_kwargs": {"use_reentrant": False}}

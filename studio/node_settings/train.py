"""The settings of the Train node.

A form shows fields in order of declaration, grouped by ``group``. What the settings do to a run is in
``studio.training``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import field_validator

from studio import chat_templates
from studio.graph.schema import Settings, setting
from studio.node_settings.layer_range import HINT, layer_numbers

_TITLES = {t.id: t.title for t in chat_templates.library()}

OptimizerName = Literal[
    "adamw",
    "adamw_fused",
    "adamw_8bit",
    "paged_adamw",
    "paged_adamw_8bit",
    "adafactor",
    "lion",
    "lion_8bit",
    "ademamix",
    "ademamix_8bit",
    "muon",
    "sgd",
]

ScheduleName = Literal[
    "linear",
    "cosine",
    "constant",
    "cosine_with_min_lr",
    "cosine_with_restarts",
    "wsd",
    "inverse_sqrt",
    "polynomial",
]

_ADAMS = ["adamw", "adamw_fused", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]

_MIXES = ["ademamix", "ademamix_8bit"]

_WITH_BETAS = [*_ADAMS, *_MIXES, "lion", "lion_8bit", "muon"]


class TrainSettings(Settings):
    """How long, how fast and on what the adapter, or the model itself, is trained."""

    # Objective, length and batches

    objective: str = setting(
        "sft",
        "Objective",
        "What the model learns from each row.",
        variant="objective",
        advanced=True,
    )
    objective_settings: dict[str, Any] = setting(
        {}, "Objective settings", "Settings of the selected objective.", advanced=True
    )
    epochs: float = setting(
        1.0,
        "Epochs",
        "Number of passes over the training data. Typical values are 1 to 3; more may overfit.",
        group="Length",
        gt=0.0,
        le=1000.0,
        step=0.5,
        shown_if={"max_steps": 0},
    )
    max_steps: int = setting(
        0,
        "Max steps",
        "Number of optimizer steps. 0 trains for the number of epochs above.",
        unit="steps",
        group="Length",
        ge=0,
        special={0: "by epochs"},
    )
    batch_size: int = setting(
        4,
        "Batch size",
        "Rows per forward pass. Larger batches are faster per row and need more memory.",
        unit="rows",
        group="Batch",
        ge=1,
        le=4096,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Gradient accumulation",
        "Number of batches accumulated before each optimizer step. Increases the effective batch "
        "size without more memory.",
        unit="batches",
        group="Batch",
        ge=1,
        le=4096,
    )
    max_length: int = setting(
        512,
        "Max length",
        "Maximum length in tokens. Longer rows are truncated; plain text is split into several rows. "
        "Memory grows with it.",
        unit="tokens",
        group="Batch",
        ge=8,
        le=1_048_576,
        log_scale=True,
    )
    long_text: Literal["split", "cut"] = setting(
        "split",
        "Long plain text",
        "How plain text longer than the maximum length is handled. Split turns it into several "
        "rows, so that each token is trained on once, as in continued pretraining. Truncate drops "
        "the rest. Conversations and prompts are always truncated.",
        group="Batch",
        choice_labels={"split": "Split", "cut": "Truncate"},
    )
    batching: Literal["padding_free", "padded", "packed"] = setting(
        "padding_free",
        "Batching",
        "Padding-free concatenates the rows of a batch into one sequence without attention between "
        "rows. Padded fills rows up to the longest row of their batch; the results are the same, but "
        "padding takes time and memory when lengths differ. Packed combines short rows into sequences "
        "of the pack length. The batch size then counts these sequences, so an optimizer step holds "
        "more rows, and their number varies. Models that do not support separate rows in one "
        "sequence use padding, and a notice says so.",
        group="Batch",
        choice_labels={"padding_free": "Padding-free", "padded": "Padded", "packed": "Packed"},
    )
    group_by_length: bool = setting(
        False,
        "Group by length",
        "Put rows of similar length into the same batch to reduce padding. The order stays "
        "random, but less so.",
        group="Batch",
        shown_if={"batching": "padded"},
    )
    pack_length: int = setting(
        0,
        "Pack length",
        "Maximum number of tokens in a packed sequence. Memory grows with it. 0 uses the maximum "
        "length. Always at least the length of the longest row.",
        unit="tokens",
        group="Batch",
        ge=0,
        le=1_048_576,
        special={0: "max length"},
        shown_if={"batching": "packed"},
    )

    # Trained tokens and chat template

    train_on: Literal["answers", "last_answer", "weights", "all"] = setting(
        "answers",
        "Train on",
        "Which tokens contribute to the loss. Answers only trains on all answers. Last answer "
        "only uses earlier answers as context. Message weights multiplies the loss of each "
        "message by its “weight” field. All tokens also trains on the prompts.",
        group="Data",
        choice_labels={
            "answers": "Answers only",
            "last_answer": "Last answer only",
            "weights": "Message weights",
            "all": "All tokens",
        },
    )
    chat_template: Literal[
        "model",
        "chatml",
        "llama-3",
        "llama-2",
        "mistral",
        "mistral-tekken",
        "gemma",
        "phi-3",
        "phi-4",
        "qwen-2.5",
        "qwen-3",
        "deepseek-r1",
        "deepseek",
        "zephyr",
        "alpaca",
        "vicuna",
        "plain",
        "custom",
    ] = setting(
        "model",
        "Chat template",
        "How conversations are formatted. The model's own template is nearly always the right "
        "choice; a model must first learn any other template. The template is saved with the "
        "adapter and used when the tuned model is evaluated.",
        group="Data",
        advanced=True,
        choice_labels={"model": "Model's own", **_TITLES, "custom": "Custom"},
    )
    custom_template: str = setting(
        "",
        "Custom template",
        "A Jinja chat template in the format of transformers: it loops over “messages” and ends "
        "with the start of an answer if “add_generation_prompt” is true.",
        group="Data",
        widget="multiline",
        advanced=True,
        shown_if={"chat_template": "custom"},
        max_length=100_000,
    )
    chat_template_kwargs: str = setting(
        "",
        "Template arguments",
        'Further variables of the chat template, as a JSON object: {"enable_thinking": false} asks '
        'Qwen 3 for answers without thoughts, {"reasoning_effort": "high"} is for GPT-OSS. They are '
        "saved with the chat template, so that the tuned model is asked in the same way. A row may "
        "have its own in the key “chat_template_kwargs”.",
        group="Data",
        advanced=True,
        placeholder='{"enable_thinking": false}',
        max_length=10_000,
    )

    @field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _json_object(cls, given: Any) -> str:
        try:
            found = chat_templates.template_kwargs(given)
        except ValueError as error:
            raise ValueError(f"The template arguments {error}.") from error
        return json.dumps(found, ensure_ascii=False) if found else ""

    end_token: Literal["auto", "always", "never"] = setting(
        "auto",
        "End token",
        "When to append the end-of-sequence token, which teaches the model to stop. Where needed "
        "appends it if the chat template does not end answers with an end token, and after plain "
        "text. Always appends it to every row. With Never, the model may not learn to stop.",
        group="Data",
        advanced=True,
        choice_labels={"auto": "Where needed", "always": "Always", "never": "Never"},
    )
    bos: Literal["auto", "always", "never"] = setting(
        "auto",
        "BOS before plain text",
        "Whether plain text starts with the beginning-of-sequence token. The tokenizer's default "
        "is nearly always the right choice. Chat templates add their own; the token is never "
        "added twice.",
        group="Data",
        advanced=True,
        choice_labels={"auto": "Tokenizer default", "always": "Always", "never": "Never"},
    )

    # Additions to the loss

    label_smoothing: float = setting(
        0.0,
        "Label smoothing",
        "Fraction of each target's probability spread evenly over the vocabulary, which makes the "
        "model less confident. Typical values are 0 to 0.1. The reported training loss includes "
        "it.",
        group="Loss",
        ge=0.0,
        lt=1.0,
        step=0.01,
        special={0.0: "off"},
        advanced=True,
    )
    z_loss: float = setting(
        0.0,
        "Z-loss",
        "Weight of the z-loss, log(Z)² with Z the sum of the exponentiated logits. It keeps "
        "logits from growing and stabilizes training in half precision (PaLM). A typical value is "
        "1e-4. The reported training loss includes it.",
        group="Loss",
        ge=0.0,
        le=1.0,
        special={0.0: "off"},
        advanced=True,
    )
    neftune_alpha: float = setting(
        0.0,
        "NEFTune noise",
        "Noise added to the input embeddings during training (Jain et al. 2023). Typical values "
        "are 5 to 15. On small datasets, answers become longer and less repetitive of the "
        "training data. No noise is saved with the adapter.",
        group="Loss",
        ge=0.0,
        le=1000.0,
        special={0.0: "off"},
        advanced=True,
    )

    # Optimizer and learning rate

    learning_rate: float = setting(
        2e-4,
        "Learning rate",
        "Step size of the optimizer. Typical values for LoRA are 1e-4 to 5e-4. If it is too high, "
        "the loss becomes unstable; if too low, the loss hardly decreases.",
        group="Optimizer",
        gt=0.0,
        le=1.0,
        log_scale=True,
    )
    lr_scheduler: ScheduleName = setting(
        "cosine",
        "Scheduler",
        "How the learning rate changes during training. Cosine is a good default.",
        group="Optimizer",
        widget="schedule",
        choice_labels={
            "linear": "Linear",
            "cosine": "Cosine",
            "constant": "Constant",
            "cosine_with_min_lr": "Cosine with minimum",
            "cosine_with_restarts": "Cosine with restarts",
            "wsd": "Warmup-stable-decay",
            "inverse_sqrt": "Inverse square root",
            "polynomial": "Polynomial",
        },
    )
    warmup_ratio: float = setting(
        0.03,
        "Warmup ratio",
        "Fraction of the steps in which the learning rate rises from 0.",
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.01,
        shown_if={"warmup_steps": 0},
    )
    warmup_steps: int = setting(
        0,
        "Warmup steps",
        "Number of steps in which the learning rate rises from 0. 0 uses the warmup ratio.",
        unit="steps",
        group="Optimizer",
        ge=0,
        special={0: "by ratio"},
        advanced=True,
    )
    min_lr_ratio: float = setting(
        0.1,
        "Minimum learning rate",
        (
            "Learning rate at the end of the schedule, as a fraction of the learning rate. "
            "Typical values are 0 to 0.1."
        ),
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.01,
        advanced=True,
        shown_if={"lr_scheduler": ["cosine_with_min_lr", "wsd", "polynomial"]},
    )
    lr_cycles: int = setting(
        3,
        "Cycles",
        "Number of times the learning rate falls to 0 and restarts.",
        group="Optimizer",
        ge=1,
        le=1000,
        advanced=True,
        shown_if={"lr_scheduler": "cosine_with_restarts"},
    )
    decay_ratio: float = setting(
        0.2,
        "Decay ratio",
        (
            "Fraction of the steps at the end in which the learning rate decays. Typical values "
            "are 0.1 to 0.2."
        ),
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.05,
        advanced=True,
        shown_if={"lr_scheduler": "wsd"},
    )
    lr_power: float = setting(
        1.0,
        "Power",
        "Power of the polynomial: 1 is linear, 2 falls faster at first.",
        group="Optimizer",
        gt=0.0,
        le=10.0,
        step=0.5,
        advanced=True,
        shown_if={"lr_scheduler": "polynomial"},
    )
    optimizer: OptimizerName = setting(
        "adamw",
        "Optimizer",
        "AdamW is a good default. The 8-bit optimizers keep 2 instead of 8 bytes of state per "
        "trained weight; the paged ones move their state to CPU memory when the GPU is full; "
        "Adafactor and SGD keep almost no state. Lion needs 3 to 10 times smaller learning rates "
        "than AdamW, SGD about 100 times larger ones.",
        group="Optimizer",
        advanced=True,
        choice_labels={
            "adamw": "AdamW",
            "adamw_fused": "AdamW, fused",
            "adamw_8bit": "AdamW 8-bit",
            "paged_adamw": "AdamW, paged",
            "paged_adamw_8bit": "AdamW 8-bit, paged",
            "adafactor": "Adafactor",
            "lion": "Lion",
            "lion_8bit": "Lion 8-bit",
            "ademamix": "AdEMAMix",
            "ademamix_8bit": "AdEMAMix 8-bit",
            "muon": "Muon",
            "sgd": "SGD",
        },
    )
    beta1: float = setting(
        0.9,
        "Beta 1",
        "Decay rate of the running average of gradients. A typical value is 0.9.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.01,
        advanced=True,
        shown_if={"optimizer": _WITH_BETAS},
    )
    beta2: float = setting(
        0.0,
        "Beta 2",
        "Decay rate of the running average of squared gradients. 0 uses the optimizer's default: "
        "0.999, or 0.99 for Lion.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.001,
        advanced=True,
        special={0.0: "optimizer default"},
        shown_if={"optimizer": _WITH_BETAS},
    )
    beta3: float = setting(
        0.9999,
        "Beta 3",
        (
            "Decay rate of AdEMAMix's slow running average. Lower it for runs of fewer than "
            "10,000 steps."
        ),
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.0001,
        advanced=True,
        shown_if={"optimizer": _MIXES},
    )
    ademamix_alpha: float = setting(
        5.0,
        "AdEMAMix alpha",
        "Weight of AdEMAMix's slow running average. Typical values are 5 to 8.",
        group="Optimizer",
        ge=0.0,
        le=100.0,
        step=1.0,
        advanced=True,
        shown_if={"optimizer": _MIXES},
    )
    epsilon: float = setting(
        1e-8,
        "Epsilon",
        (
            "Small constant that keeps the division by small gradients stable. Raise it to 1e-6 "
            "if the loss is unstable."
        ),
        group="Optimizer",
        gt=0.0,
        le=1.0,
        log_scale=True,
        advanced=True,
        shown_if={"optimizer": [*_ADAMS, *_MIXES, "muon"]},
    )
    momentum: float = setting(
        0.0,
        "Momentum",
        "Momentum of SGD. A typical value is 0.9; any value above 0 needs 4 more bytes per "
        "trained weight.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.05,
        advanced=True,
        shown_if={"optimizer": "sgd"},
    )
    muon_momentum: float = setting(
        0.95,
        "Muon momentum",
        "Momentum of Muon. A typical value is 0.95.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.01,
        advanced=True,
        shown_if={"optimizer": "muon"},
    )
    weight_decay: float = setting(
        0.0,
        "Weight decay",
        "Shrinks the trained weights towards zero at each step. Typical values are 0 to 0.1.",
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.01,
        advanced=True,
    )
    max_grad_norm: float = setting(
        1.0,
        "Gradient clipping",
        (
            "Maximum norm of the gradients; larger gradients are scaled down to it. 0 disables "
            "clipping."
        ),
        group="Optimizer",
        ge=0.0,
        le=1000.0,
        special={0.0: "off"},
        advanced=True,
    )

    # Evaluations, checkpoints, early stopping and samples

    eval_by: Literal["steps", "epoch", "run"] = setting(
        "steps",
        "Evaluate by",
        (
            "Unit of the evaluation interval: optimizer steps, a fraction of an epoch, or a "
            "fraction of the run."
        ),
        group="Evaluation and checkpoints",
        advanced=True,
        choice_labels={
            "steps": "Steps",
            "epoch": "Fraction of an epoch",
            "run": "Fraction of the run",
        },
    )
    eval_steps: int = setting(
        0,
        "Evaluate every",
        "Compute the validation loss every N steps. 0 evaluates ten times per run.",
        unit="steps",
        group="Evaluation and checkpoints",
        ge=0,
        special={0: "ten times per run"},
        shown_if={"eval_by": "steps"},
    )
    eval_share: float = setting(
        0.25,
        "Evaluation interval",
        "Compute the validation loss after each such fraction: 0.25 of an epoch evaluates four "
        "times per epoch.",
        group="Evaluation and checkpoints",
        gt=0.0,
        le=1.0,
        step=0.05,
        advanced=True,
        shown_if={"eval_by": ["epoch", "run"]},
    )
    eval_at_start: bool = setting(
        False,
        "Evaluate at the start",
        "Also evaluate before the first step, which gives the validation loss of the base model.",
        group="Evaluation and checkpoints",
        advanced=True,
    )
    save_steps: int = setting(
        0,
        "Save every",
        (
            "Save a checkpoint every N steps, from which training can be resumed. 0 saves ten "
            "times per run."
        ),
        unit="steps",
        group="Evaluation and checkpoints",
        ge=0,
        special={0: "ten times per run"},
    )
    keep_checkpoints: int = setting(
        2,
        "Checkpoints to keep",
        "Number of most recent checkpoints to keep.",
        unit="checkpoints",
        group="Evaluation and checkpoints",
        ge=1,
        le=1000,
        advanced=True,
    )
    keep: Literal["last", "best"] = setting(
        "last",
        "Result",
        "Which weights are saved as the result: those of the last step, or those of the "
        "evaluation with the lowest validation loss.",
        group="Stopping",
        choice_labels={"last": "Last step", "best": "Best evaluation"},
    )
    early_stopping: int = setting(
        0,
        "Early stopping",
        "Stop when the validation loss has not improved for N evaluations. A typical value is 3; "
        "0 disables early stopping.",
        unit="evaluations",
        group="Stopping",
        ge=0,
        le=1000,
        special={0: "off"},
    )
    min_delta: float = setting(
        0.0,
        "Minimum improvement",
        "The validation loss must fall by more than this to count as an improvement.",
        group="Stopping",
        ge=0.0,
        le=10.0,
        step=0.001,
        advanced=True,
    )
    sample_prompts: str = setting(
        "",
        "Prompts",
        "Prompts to answer at the start, at every evaluation and at the end, one per line. The "
        "answers show what the model learns. They take time and do not affect training.",
        group="Samples",
        widget="multiline",
        max_length=20_000,
    )
    sample_rows: int = setting(
        0,
        "Validation prompts",
        "Also answer the prompts of N validation rows.",
        unit="rows",
        group="Samples",
        ge=0,
        le=64,
        special={0: "none"},
        advanced=True,
    )
    sample_max_tokens: int = setting(
        64,
        "Max new tokens",
        "Maximum number of generated tokens per answer.",
        unit="tokens",
        group="Samples",
        ge=1,
        le=4096,
        advanced=True,
    )
    sample_temperature: float = setting(
        0.0,
        "Temperature",
        "Sampling temperature. 0 always selects the most likely token. A typical value for "
        "sampling is 0.7; the same seed gives the same answers.",
        group="Samples",
        ge=0.0,
        le=2.0,
        step=0.1,
        special={0.0: "most likely token"},
        advanced=True,
    )

    # Full fine-tuning: a Base model wired straight into Train

    trained_layers: str = setting(
        "all",
        "Trained layers",
        "Layers trained in full fine-tuning (a Base model connected directly to Train): “all”, "
        "“last 4”, or layer numbers starting at 0, such as 0-11,20. The other layers stay frozen, "
        "which saves memory.",
        group="Full fine-tuning",
        advanced=True,
        min_length=1,
        max_length=200,
    )
    train_embeddings: bool = setting(
        True,
        "Train embeddings",
        "Whether full fine-tuning also trains the input embedding and the output head. Turning it "
        "off saves much memory for models with a large vocabulary.",
        group="Full fine-tuning",
        advanced=True,
    )

    @field_validator("trained_layers")
    @classmethod
    def _readable(cls, words: str) -> str:
        try:
            layer_numbers(words, 1)
        except ValueError as error:
            raise ValueError(f"{error} {HINT}") from error
        return words

    # Device, memory and repeatability

    device: str = setting(
        "auto",
        "Device",
        "The device of the run: “auto” is the first GPU that can be used, or the CPU if there is none. "
        "“cpu”, or the name of a GPU, such as “NVIDIA L4”; “NVIDIA L4 #2” is a second one of the same "
        "kind. All Train nodes of a project use the same device.",
        group="Memory",
        widget="names",
        placeholder="auto",
        max_length=200,
        advanced=True,
        changes_result=False,
    )

    @field_validator("device", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        named = given.strip() or "auto"
        return named.lower() if named.lower() in ("auto", "cpu") else named

    gradient_checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Recompute activations in the backward pass instead of storing them. Needs much less "
        "memory and is about a third slower.",
        group="Memory",
    )
    fused: bool = setting(
        True,
        "Fused functions",
        "Compute the layers of the model with functions that save less for the backward pass: the same loss and "
        "gradients up to rounding, in less time and memory. For LoRA, rsLoRA and LoRA+ without dropout and without "
        "quantization; other layers are computed as usual. Before the first step both ways are compared on rows of "
        "the training; if they differ, the fused functions are not used, and a notice says so.",
        group="Memory",
        advanced=True,
    )
    seed: int = setting(
        0,
        "Seed",
        "Random seed. On a CPU the same seed gives the same run on the same machine; on a GPU the losses differ in "
        "the last digits unless “Repeatable on a GPU” is on.",
        group="Reproducibility",
        ge=0,
        le=2**31 - 1,
    )
    repeatable: bool = setting(
        False,
        "Repeatable on a GPU",
        "Use only deterministic kernels, so that the same seed gives the same run on the same GPU with the same "
        "versions. Slower, mostly in the backward pass of attention; an operation without such a kernel ends "
        "the run. Kernels of quantized models are not checked. No effect on a CPU, where runs can be repeated "
        "anyway.",
        group="Reproducibility",
        advanced=True,
    )

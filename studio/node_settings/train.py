"""The settings of the Train node.

A form shows fields in order of declaration, grouped by ``group``. What the settings do to a run is in
``studio.training``.
"""

from __future__ import annotations

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
        "sft", "Objective", "What the model learns from a row.", variant="objective", advanced=True
    )
    objective_settings: dict[str, Any] = setting(
        {}, "Objective settings", "Settings of the chosen objective.", advanced=True
    )
    epochs: float = setting(
        1.0,
        "Epochs",
        "How often every row is seen. 1 to 3 is usual; more can overfit.",
        group="Length",
        gt=0.0,
        le=1000.0,
        step=0.5,
        shown_if={"max_steps": 0},
    )
    max_steps: int = setting(
        0,
        "Steps",
        "Number of optimizer steps. 0 goes by epochs.",
        unit="steps",
        group="Length",
        ge=0,
        special={0: "by epochs"},
    )
    batch_size: int = setting(
        4,
        "Batch size",
        "Rows computed at once. More is faster per row and needs more memory.",
        unit="rows",
        group="Batch",
        ge=1,
        le=4096,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Accumulation",
        "Batches added up before each optimizer step: a larger effective batch without "
        "more memory.",
        unit="batches",
        group="Batch",
        ge=1,
        le=4096,
    )
    max_length: int = setting(
        512,
        "Max length",
        "Longer rows are cut to this many tokens. Memory grows with it.",
        unit="tokens",
        group="Batch",
        ge=8,
        le=1_048_576,
        log_scale=True,
    )
    long_text: Literal["cut", "split"] = setting(
        "cut",
        "Longer plain text",
        "What becomes of plain text that is longer than the max length. Cut: what "
        "is behind it is not trained. Split into pieces: it becomes several rows, and each of its tokens is "
        "trained once; right for continued pretraining. Conversations and prompts are always cut.",
        group="Batch",
        choice_labels={"cut": "Cut", "split": "Split into pieces"},
    )
    batching: Literal["padded", "padding_free", "packed"] = setting(
        "padded",
        "Batching",
        "Padded: rows are filled up to the longest of their batch. Without padding: the "
        "rows of a batch lie in one sequence, and none sees another; the same result, faster when lengths "
        "differ. Packed: short rows are collected into sequences of the pack length first, and the batch "
        "size counts those, so that optimizer steps hold more and a varying number of rows. Models that "
        "cannot keep rows apart are trained padded, and that is told.",
        group="Batch",
        choice_labels={"padded": "Padded", "padding_free": "Without padding", "packed": "Packed"},
    )
    group_by_length: bool = setting(
        False,
        "Group by length",
        "Rows of like length come in one batch, so that little is padded. The order "
        "is still random, but less so.",
        group="Batch",
        shown_if={"batching": "padded"},
    )
    pack_length: int = setting(
        0,
        "Pack length",
        "Tokens that one packed sequence holds at most. Memory grows with it. 0: the max "
        "length; never less than the longest row.",
        unit="tokens",
        group="Batch",
        ge=0,
        le=1_048_576,
        special={0: "max length"},
        shown_if={"batching": "packed"},
    )

    # What is trained, and how a conversation is written

    train_on: Literal["answers", "last_answer", "weights", "all"] = setting(
        "answers",
        "Train on",
        "Answers only: the model learns to answer. Last answer only: earlier ones are "
        "context. Weights in the data: each message counts as much as its “weight” says. Everything: it also "
        "learns to write the questions.",
        group="Data",
        choice_labels={
            "answers": "Answers only",
            "last_answer": "Last answer only",
            "weights": "Weights in the data",
            "all": "Everything",
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
        "deepseek",
        "zephyr",
        "alpaca",
        "vicuna",
        "plain",
        "custom",
    ] = setting(
        "model",
        "Chat template",
        "How a conversation is written. The model's own suits nearly always; another "
        "one must be learned first. It is saved with the adapter, and the tuned model is asked with it.",
        group="Data",
        advanced=True,
        choice_labels={"model": "The model's own", **_TITLES, "custom": "Custom"},
    )
    custom_template: str = setting(
        "",
        "Custom template",
        "A Jinja chat template as transformers takes it: it loops over “messages” and "
        "ends with the start of an answer when “add_generation_prompt” is true.",
        group="Data",
        widget="multiline",
        advanced=True,
        shown_if={"chat_template": "custom"},
        max_length=100_000,
    )
    end_token: Literal["auto", "always", "never"] = setting(
        "auto",
        "End token",
        "What teaches the model to stop. Where needed: the end token is added where the "
        "chat template ends answers with nothing, and after raw text. Always: after every row. Never: a model "
        "may not learn to stop.",
        group="Data",
        advanced=True,
        choice_labels={"auto": "Where needed", "always": "Always", "never": "Never"},
    )
    bos: Literal["auto", "always", "never"] = setting(
        "auto",
        "BOS before raw text",
        "The token that begins a text. As the tokenizer does suits nearly "
        "always. Chat templates write their own; it never stands twice.",
        group="Data",
        advanced=True,
        choice_labels={"auto": "As the tokenizer does", "always": "Always", "never": "Never"},
    )

    # What is added to the loss

    label_smoothing: float = setting(
        0.0,
        "Label smoothing",
        "Share of each target that is spread over the whole vocabulary, so that the model "
        "becomes less sure of itself. 0 to 0.1. The training loss shown includes it.",
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
        "Factor of log(Z)², Z being the sum under the softmax: keeps logits from growing, which "
        "steadies trainings in half precision (PaLM). 1e-4 is usual. The training loss shown includes it.",
        group="Loss",
        ge=0.0,
        le=1.0,
        special={0.0: "off"},
        advanced=True,
    )
    neftune_alpha: float = setting(
        0.0,
        "NEFTune noise",
        "Noise on the input embeddings while training (Jain et al. 2023): answers become "
        "longer and less copied on small data sets. 5 to 15. Nothing of it is saved.",
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
        "Size of each step. 1e-4 to 5e-4 is usual for LoRA. Too high: the loss jumps; "
        "too low: it hardly moves.",
        group="Optimizer",
        gt=0.0,
        le=1.0,
        log_scale=True,
    )
    lr_scheduler: ScheduleName = setting(
        "cosine",
        "Schedule",
        "How the learning rate falls over the run. Cosine suits nearly always.",
        group="Optimizer",
        choice_labels={
            "linear": "Linear",
            "cosine": "Cosine",
            "constant": "Constant",
            "cosine_with_min_lr": "Cosine to a lowest rate",
            "cosine_with_restarts": "Cosine with restarts",
            "wsd": "Warm-up, stable, decay",
            "inverse_sqrt": "Inverse square root",
            "polynomial": "Polynomial",
        },
    )
    warmup_ratio: float = setting(
        0.03,
        "Warm-up",
        "Share of the steps in which the learning rate rises from 0.",
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.01,
        shown_if={"warmup_steps": 0},
    )
    warmup_steps: int = setting(
        0,
        "Warm-up steps",
        "Number of steps in which the learning rate rises from 0. 0: by the share above.",
        unit="steps",
        group="Optimizer",
        ge=0,
        special={0: "by share"},
        advanced=True,
    )
    min_lr_ratio: float = setting(
        0.1,
        "Lowest rate",
        "Where the schedule ends, as a share of the learning rate. 0 to 0.1 is usual.",
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
        "How often the learning rate falls to 0 and starts again.",
        group="Optimizer",
        ge=1,
        le=1000,
        advanced=True,
        shown_if={"lr_scheduler": "cosine_with_restarts"},
    )
    decay_ratio: float = setting(
        0.2,
        "Decay",
        "Share of the steps, at the end, in which the learning rate falls. 0.1 to 0.2 is usual.",
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
        "Shape of the polynomial: 1 is a straight line, 2 falls faster at first.",
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
        "AdamW suits nearly always. The 8-bit ones keep 2 instead of 8 bytes for each "
        "trained weight; the paged ones move them to main memory when the GPU is full; Adafactor and SGD keep "
        "next to nothing. Lion wants a third to a tenth of AdamW's learning rate, SGD a hundred times more.",
        group="Optimizer",
        advanced=True,
        choice_labels={
            "adamw": "AdamW",
            "adamw_fused": "AdamW, fused on the GPU",
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
        "How much of the earlier gradients each step keeps. 0.9 is usual.",
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
        "How slowly the size of the gradients is followed. 0: the optimizer's own, which is "
        "0.999, and 0.99 for Lion.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.001,
        advanced=True,
        special={0.0: "its own"},
        shown_if={"optimizer": _WITH_BETAS},
    )
    beta3: float = setting(
        0.9999,
        "Beta 3",
        "How much AdEMAMix's slow memory keeps. Lower it for runs of less than 10,000 steps.",
        group="Optimizer",
        ge=0.0,
        lt=1.0,
        step=0.0001,
        advanced=True,
        shown_if={"optimizer": _MIXES},
    )
    ademamix_alpha: float = setting(
        5.0,
        "Slow share",
        "How strongly AdEMAMix's slow memory counts. 5 to 8 is usual.",
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
        "Keeps the division by small gradients in bounds. Raise it to 1e-6 if the loss jumps.",
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
        "How much of the step before SGD keeps. 0.9 is usual and needs 4 bytes more for each "
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
        "How much of the steps before Muon keeps. 0.95 is usual.",
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
        "Pulls the adapter towards zero. 0 to 0.1.",
        group="Optimizer",
        ge=0.0,
        le=1.0,
        step=0.01,
        advanced=True,
    )
    max_grad_norm: float = setting(
        1.0,
        "Gradient clipping",
        "Longer gradients are cut to this norm. 0 switches it off.",
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
        "Whether evaluations go by a number of steps, or by a share of an epoch or of the run.",
        group="Cadence",
        advanced=True,
        choice_labels={"steps": "Steps", "epoch": "Share of an epoch", "run": "Share of the run"},
    )
    eval_steps: int = setting(
        0,
        "Evaluate every",
        "Measure the validation loss every so many steps. 0: ten times a run.",
        unit="steps",
        group="Cadence",
        ge=0,
        special={0: "ten times a run"},
        shown_if={"eval_by": "steps"},
    )
    eval_share: float = setting(
        0.25,
        "Evaluate each",
        "Measure the validation loss after each such share: 0.25 of an epoch is four "
        "times an epoch.",
        group="Cadence",
        gt=0.0,
        le=1.0,
        step=0.05,
        advanced=True,
        shown_if={"eval_by": ["epoch", "run"]},
    )
    eval_at_start: bool = setting(
        False,
        "Evaluate at the start",
        "Also measure before the first step: shows what the base model can do.",
        group="Cadence",
        advanced=True,
    )
    save_steps: int = setting(
        0,
        "Checkpoint every",
        "Write a checkpoint to resume from every so many steps. 0: ten times a run.",
        unit="steps",
        group="Cadence",
        ge=0,
        special={0: "ten times a run"},
    )
    keep_checkpoints: int = setting(
        2,
        "Checkpoints kept",
        "How many of the newest checkpoints are kept.",
        unit="checkpoints",
        group="Cadence",
        ge=1,
        le=1000,
        advanced=True,
    )
    keep: Literal["last", "best"] = setting(
        "last",
        "Result",
        "Which weights are the result: those of the last step, or those of the "
        "evaluation with the lowest validation loss.",
        group="Stopping",
        choice_labels={"last": "Last step", "best": "Best evaluation"},
    )
    early_stopping: int = setting(
        0,
        "Early stopping",
        "End when the validation loss has not fallen for so many evaluations. 3 is usual; "
        "0 trains to the end.",
        unit="evaluations",
        group="Stopping",
        ge=0,
        le=1000,
        special={0: "off"},
    )
    min_delta: float = setting(
        0.0,
        "Least change",
        "A validation loss counts as fallen only when it fell by more than this.",
        group="Stopping",
        ge=0.0,
        le=10.0,
        step=0.001,
        advanced=True,
    )
    sample_prompts: str = setting(
        "",
        "Prompts",
        "What the model is asked at the start, at every evaluation and at the end: one question "
        "a line. The answers show what it learns; they cost time, not quality.",
        group="Samples",
        widget="multiline",
        max_length=20_000,
    )
    sample_rows: int = setting(
        0,
        "Rows of validation",
        "Also ask the questions of so many validation rows.",
        unit="rows",
        group="Samples",
        ge=0,
        le=64,
        special={0: "none"},
        advanced=True,
    )
    sample_max_tokens: int = setting(
        64,
        "Longest answer",
        "Answers are cut after this many tokens.",
        unit="tokens",
        group="Samples",
        ge=1,
        le=4096,
        advanced=True,
    )
    sample_temperature: float = setting(
        0.0,
        "Temperature",
        "0 takes the likeliest token each time. Higher draws: 0.7 is usual; the same seed "
        "draws the same.",
        group="Samples",
        ge=0.0,
        le=2.0,
        step=0.1,
        special={0.0: "likeliest"},
        advanced=True,
    )

    # Full fine-tuning: a Base model wired straight into Train

    trained_layers: str = setting(
        "all",
        "Trained layers",
        "For full fine-tuning (a Base model wired straight into Train): “all”, "
        "“last 4”, or numbers from 0 such as 0-11,20. The others stay frozen: less memory, less change.",
        group="Full fine-tuning",
        advanced=True,
        min_length=1,
        max_length=200,
    )
    train_embeddings: bool = setting(
        True,
        "Train embeddings",
        "For full fine-tuning: whether the embedding and the head are trained too. "
        "Off saves much memory with large vocabularies.",
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

    # Memory and repeatability

    gradient_checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Computes activations twice instead of keeping them: much less memory, "
        "about a third slower.",
        group="Memory",
    )
    seed: int = setting(
        0,
        "Seed",
        "The same seed on the same machine gives the same run.",
        group="Repeatability",
        ge=0,
        le=2**31 - 1,
    )

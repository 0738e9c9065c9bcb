"""The studio trains what plain PEFT and the plain Trainer train: the loss series are equal.

The reference below is written from the public docs and uses nothing of the studio.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.values import DatasetValue
from tests.studio.training.steps import TARGETS, Recorder, make_context, make_inputs, settings_of
from tests.tiny import write_rows

ROOT = Path(__file__).parents[3]
STORED = Path(__file__).with_name("reference_losses.json")
FLOAT32_LIMIT = 5e-5


def plain_losses(
    model_dir: Path,
    rows: list[dict[str, list[int]]],
    *,
    steps: int,
    batch: int,
    accumulation: int,
    learning_rate: float,
    scratch: Path,
    adapter: Path | None = None,
) -> list[float]:
    """Losses of a plain Trainer with a plain PEFT LoRA: pad, full logits, built-in loss. With ``adapter``, it is
    trained further instead."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, set_seed

    set_seed(0)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model.config.use_cache = False
    set_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    if adapter is None:
        model = get_peft_model(model, config)
    else:
        model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)

    def collate(picked: list[dict[str, list[int]]]) -> dict[str, Any]:
        width = max(len(r["input_ids"]) for r in picked)
        fill = [width - len(r["input_ids"]) for r in picked]
        return {
            "input_ids": torch.tensor(
                [r["input_ids"] + [0] * n for r, n in zip(picked, fill, strict=True)]
            ),
            "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for n in fill]),
            "labels": torch.tensor(
                [r["labels"] + [-100] * n for r, n in zip(picked, fill, strict=True)]
            ),
        }

    arguments = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=batch,
        max_steps=steps,
        gradient_accumulation_steps=accumulation,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        use_cpu=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def in_order(rows: list[Any], count: int, seed: int = 0) -> list[Any]:
    """The rows as the reference script orders them, epoch after epoch."""
    picked: list[Any] = []
    epoch = 0
    while len(picked) < count:
        order = list(range(len(rows)))
        random.Random(seed * 1000003 + epoch).shuffle(order)
        picked += [rows[i] for i in order]
        epoch += 1
    return picked[:count]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_losses_equal_plain_peft(
    tmp_path: Path, accumulation: int, quiet_transformers: None
) -> None:
    """Twelve steps over more than one epoch agree with the plain script and the stored series."""
    from studio.training.loop.train import train_adapter
    from studio.training.tokens.encoder import load_tokenizer, tokenize_dataset

    inputs = make_inputs(tmp_path, train=14)
    recorder = Recorder()
    context = make_context(tmp_path, recorder)
    train_adapter(
        context, inputs, settings_of(max_steps=12, gradient_accumulation_steps=accumulation)
    )
    tokens = tokenize_dataset(
        context,
        DatasetValue(**inputs["dataset"]),
        load_tokenizer(tmp_path / "model"),
        max_length=64,
        train_on="answers",
        folder=tmp_path / "tokens",
    )
    rows = [{k: list(row[k]) for k in ("input_ids", "labels")} for row in tokens.train]
    plain = plain_losses(
        tmp_path / "model",
        in_order(rows, 12 * 2 * accumulation),
        steps=12,
        batch=2,
        accumulation=accumulation,
        learning_rate=5e-3,
        scratch=tmp_path / "plain",
    )
    studio = recorder.losses()
    assert studio == pytest.approx(plain, abs=FLOAT32_LIMIT)
    assert studio[-1] < studio[0]
    stored = json.loads(STORED.read_text(encoding="utf-8"))[f"accumulation {accumulation}"]
    assert studio == pytest.approx(stored, abs=2e-3)  # another processor may round otherwise


@pytest.mark.slow(seconds=40)
def test_losses_equal_plain_peft_on_the_real_starter(tmp_path: Path) -> None:
    """The benchmark's own gate, in the run host, in float32: same tokens, same losses."""
    rows = write_rows(tmp_path / "rows.jsonl", 24)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "train.py"),
            "--data",
            str(rows),
            "--json",
            "--steps",
            "3",
            "--warmup-steps",
            "1",
            "--rounds",
            "1",
            "--dtype",
            "fp32",
        ],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if "could not be downloaded" in done.stderr:
        pytest.skip("no package index here")
    result = json.loads(done.stdout)
    assert result["same_tokens"]
    assert result["loss_gap"] <= FLOAT32_LIMIT

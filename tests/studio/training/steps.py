"""What tests of training steps share: a context that records, and the values on the wires.

It must not hide what a test is about: each helper makes exactly one thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.events import Event
from studio.graph.context import StepContext
from studio.graph.registry import load_registry
from studio.node_settings.train import TrainSettings
from studio.values import AdaptedModelValue, DatasetValue, ModelValue
from tests.tiny import make_tiny_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Recorder:
    """The events of a step, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        """The events of one name."""
        return [e for e in self.events if e.name == name]

    def losses(self) -> list[float]:
        """The training loss of every optimizer step."""
        return [e.get("loss") for e in self.named("Metric") if e.get("loss") is not None]


def make_context(
    root: Path,
    recorder: Recorder,
    stop: Callable[[], bool] = lambda: False,
    take_command: Callable[[str], dict[str, Any] | None] = lambda name: None,
) -> StepContext:
    """A context whose folders lie below ``root``; checkpoints are kept between contexts."""
    folder = root / "step"
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(
        node="train",
        title="Train",
        folder=folder,
        checkpoints=root / "checkpoints",
        project_dir=root,
        registry=load_registry(),
        emit_event=recorder,
        stop_requested=stop,
        take_command=take_command,
        threads=1,
    )


def model_value(folder: Path, **changes: Any) -> ModelValue:
    """The description of a model folder."""
    values: dict[str, Any] = {
        "path": str(folder),
        "source": str(folder),
        "dtype": "float32",
        "weights_sha256": "0" * 64,
        "parameters": 0,
    }
    return ModelValue(**{**values, **changes})


def adapted_value(model: ModelValue, **changes: Any) -> AdaptedModelValue:
    """A model with a small LoRA on all linear layers."""
    values: dict[str, Any] = {
        "model": model,
        "method": "lora",
        "r": 4,
        "alpha": 8,
        "dropout": 0.0,
        "bias": "none",
        "target_modules": TARGETS,
    }
    return AdaptedModelValue(**{**values, **changes})


def rows_of(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Short, ragged rows in the canonical shape."""
    things = ("cat", "oak", "bread", "hammer", "river", "nurse")
    kinds = ("animal", "plant", "food", "artifact", "location", "person")
    return [
        {
            "messages": [
                {"role": "user", "content": f"{'very ' * (i % 4)}{things[i % 6]}?"},
                {"role": "assistant", "content": kinds[i % 6]},
            ],
            "prompt": None,
            "completion": None,
            "text": None,
            "line": i + 1,
            "source": "rows.jsonl",
        }
        for i in range(start, start + count)
    ]


def dataset_value(folder: Path, train: int = 20, validation: int = 0) -> DatasetValue:
    """A prepared data set of short chat rows."""
    from datasets import Dataset, Features, List, Value

    features = Features(
        {
            "messages": List({"role": Value("string"), "content": Value("string")}),
            "prompt": Value("string"),
            "completion": Value("string"),
            "text": Value("string"),
            "line": Value("int64"),
            "source": Value("string"),
        }
    )
    for name, count, start in (("train", train, 0), ("validation", validation, train)):
        if count:
            rows = Dataset.from_list(rows_of(count, start), features=features)
            rows.save_to_disk(str(folder / name))
    return DatasetValue(
        path=str(folder),
        format="messages",
        train_rows=train,
        validation_rows=validation,
        sha256="1" * 64,
        sources=[str(folder / "rows.jsonl")],
    )


def make_inputs(root: Path, train: int = 20, validation: int = 0, **adapter: Any) -> dict[str, Any]:
    """Everything a Train step takes, on the tiny model; made once per ``root``."""
    model = root / "model"
    if not model.exists():
        make_tiny_model(model)
    data = root / f"data-{train}-{validation}"
    note = data / "value.json"
    if not note.exists():
        value = dataset_value(data, train, validation)
        note.write_text(json.dumps(value.to_json()), encoding="utf-8")
    return {
        "dataset": json.loads(note.read_text(encoding="utf-8")),
        "model": adapted_value(model_value(model), **adapter).to_json(),
    }


def settings_of(**changes: Any) -> TrainSettings:
    """Short, quick train settings."""
    values: dict[str, Any] = {
        "max_steps": 6,
        "batch_size": 2,
        "learning_rate": 5e-3,
        "max_length": 64,
        "warmup_ratio": 0.0,
        "lr_scheduler": "constant",
    }
    return TrainSettings(**{**values, **changes})

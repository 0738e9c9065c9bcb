"""Events: frozen records of things that happened in a run, one JSON line each.

``{"event": NAME, "time": SECONDS, "node": ID, ...}``: ``time`` is Unix time in seconds. Names and
fields are listed in ``EVENTS`` and are part of the run folder's protocol: fields may be added, never
renamed. Readers ignore names they do not know.
"""

from __future__ import annotations

import json
import math
import time as _time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

EVENTS: dict[str, str] = {
    "RunStarted": "run, name, resumed (bool), nodes: [{id, type, title, stages}], device, pid, threads",
    "Forecast": "phases: {node that runs: [[phase, seconds in an earlier run or null], ...]}",
    "StepStarted": "node, title, index, count",
    "Phase": "node, phase: load|import|download|read|tokenize|train|evaluate|sample|save|verify|merge|"
    "combine|export|generate|prepare, title",
    "Progress": "node, phase, done, total (or null), unit, eta_s (or null)",
    "Metric": "node, step, steps, epoch, loss | eval_loss, learning_rate, grad_norm, tokens_per_s, "
    "ram_process_gib, ram_system_gib, vram_allocated_gib, vram_reserved_gib, vram_device_gib, eta_s",
    "Memory": "node, the same memory fields as Metric (GiB), once a second in every phase",
    "TrainResumed": "node, step: metrics after this step are void and will come again",
    "CheckpointSaved": "node, step, path, reason: cadence|stop|save|end|best (weights only, with "
    "eval_loss)|finite (the step before a loss that is not a number)",
    "EarlyStopped": "node, step, steps, reason (a sentence), best_step (or null), best_eval_loss",
    "Sample": "node, step, index, prompt, text, tokens, seconds, expected (of a validation row), cut (bool)",
    "MemoryRecovered": "node, step (that is done again), batch_size, accumulation, checkpointing (bool), attempt",
    "NonFinite": "node, step, what: loss|gradient|weights, value, rows: [{file, line, text}], kept (step or null)",
    "Insight": "node, step, modules: [[name, norm of the change, relative norm or null, directions used, r]]",
    "Evaluation": "node, measures: {name: {before, after}}, rows, examples: [{prompt, expected, before, after, ...}]",
    "ExportChecked": "node, readable (path in the export), title, reader, verdict: green|amber|red|not_proven, cause, "
    "hint, code, kl_mean, kl_p99 (nats), top1_agreement, gain_kept (shares), more: the fields of "
    "studio.export_folder.parity.Check; each number may be null; rules: what other programs make of it (program, "
    "loads, why, hint)",
    "ArtifactSaved": "node, kind: dataset|base_model|adapter|merged_model|tuned_model|report|..., path, cached, more",
    "Notice": "node, level: info|warning, sentence, hint",
    "StepFinished": "node, seconds, cached, outputs",
    "StepFailed": "node, title, sentence, hint, field, code, file, line, trace (only for bugs)",
    "RunFinished": "status: completed|stopped|suspended|failed, seconds",
}

STATUSES = ("completed", "stopped", "suspended", "failed")


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``data`` holds the fields beyond name, time and node."""

    name: str
    time: float
    node: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        """A field of ``data``."""
        return self.data.get(key, default)

    def to_json(self) -> dict[str, Any]:
        """The event as it stands in ``events.jsonl``; numbers that JSON lacks become strings."""
        head: dict[str, Any] = {"event": self.name, "time": round(self.time, 4)}
        if self.node is not None:
            head["node"] = self.node
        return {**head, **{k: _plain(v) for k, v in self.data.items()}}

    def to_line(self) -> str:
        """One line of JSON, with its newline. It is pure ASCII: no letter of a user's data can
        break the line or be refused by a terminal's encoding."""
        return json.dumps(self.to_json(), allow_nan=False) + "\n"


def event(name: str, node: str | None = None, /, **data: Any) -> Event:
    """A new event, timed now. The name must be known."""
    if name not in EVENTS:
        raise ValueError(f"unknown event {name!r}")
    return Event(name, _time.time(), node, data)


def from_line(line: bytes) -> Event | None:
    """The event in a line, or ``None`` when the line is not one (torn write, foreign text). A field
    of ``EVENTS`` with a value of another type is dropped, so that readers can rely on the types."""
    try:
        data = _parsed(line)
        name, when = str(data.pop("event")), float(data.pop("time"))
        node = data.pop("node", None)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if not 0 <= when < LATEST or not (node is None or isinstance(node, str)):
        return None
    wrong = []
    for key, value in data.items():
        kind = type(value)
        if kind is float or kind is int:
            if key in _NUMBERS and -LARGEST < value < LARGEST:
                continue
        elif kind is str and key in _WORDS:
            continue
        if key in _VALID and value is not None and not _VALID[key](value):
            wrong.append(key)
    for key in wrong:
        del data[key]
    if name == "NonFinite" and not isinstance(data.get("rows"), list):
        data.pop("rows", None)
    return Event(name, when, node, data)


LATEST = 253_402_300_800.0  # the year 10,000, the end of Python's calendar
LARGEST = 1e15


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and -LARGEST < value < LARGEST


def _is_metric(value: Any) -> bool:
    """A number, or the text of one that JSON lacks: ``nan``, ``inf``."""
    return isinstance(value, str | float) or _is_count(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


def _is_examples(value: Any) -> bool:
    """Rows of an evaluation, in which ``right`` and ``cut`` list names of answers."""
    return _is_list(value) and all(
        isinstance(row.get(key, []), list) for row in value for key in ("right", "cut")
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_pair(v) for v in value.values())


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or _is_metric(v) for v in value.values())


def _is_nodes(value: Any) -> bool:
    return _is_list(value) and all(_is_text(v.get("id")) for v in value)


_TEXTS = (
    *("run", "name", "device", "phase", "title", "unit", "path", "reason", "prompt", "text"),
    *(
        "readable",
        "reader",
        "verdict",
        "cause",
        "expected",
        "kind",
        "level",
        "sentence",
        "hint",
        "field",
        "code",
        "file",
        "trace",
        "status",
    ),
)
_COUNTS = (
    *("pid", "threads", "index", "count", "done", "total", "eta_s", "step", "steps", "epoch"),
    *("tokens", "seconds", "batch_size", "accumulation", "attempt", "most", "best_step", "kept"),
    *("line", "kl_mean", "kl_p99", "top1_agreement", "gain_kept", "bytes"),
)
_METRICS = (
    *("loss", "eval_loss", "best_eval_loss", "learning_rate", "grad_norm", "tokens_per_s"),
    *("ram_process_gib", "ram_system_gib"),
    *("vram_allocated_gib", "vram_reserved_gib", "vram_device_gib"),
)
_VALID: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(_COUNTS, _is_count),
    **dict.fromkeys(_METRICS, _is_metric),
    "nodes": _is_nodes,
    "measures": _is_table,
    "examples": _is_examples,
    "rows": lambda value: _is_count(value) or _is_list(value),
    "modules": lambda value: isinstance(value, list),
}
"""Field -> whether a value has the type that ``EVENTS`` describes."""

_NUMBERS, _WORDS = frozenset((*_COUNTS, *_METRICS)), frozenset((*_TEXTS, *_METRICS))
"""The usual fields, checked without a call: a run may have a million events."""


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # half a surrogate pair, from the name of a file, is no Unicode
        return json.loads(line.decode("utf-8", "replace"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)

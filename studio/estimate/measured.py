"""The measurements of probes, cached with their conditions, and the correction that they give.

A measured peak corrects an estimate only under the same conditions: the formula it is the ratio to,
the model's config, method, precision, batch, machine and libraries. If something differs, the
measurement is not used and the difference is reported. A file that cannot be read costs only the
correction.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.estimate.activations import Mode
from studio.estimate.job import Facts, Job, method_of
from studio.estimate.machine import machine_key
from studio.estimate.memory import Batch
from studio.estimate.pace import day_of
from studio.estimate.trainable import Counted
from studio.runs.environment import versions
from studio.system import busy_files, paths
from studio.system.stored_json import parse, read_regular
from studio.values import FULL_FINE_TUNING

LARGEST_CORRECTION = 3.0
NEARLY = 0.1
(
    "Fraction by which lengths, label counts and trainable parameters may differ from those of "
    "the probe."
)
MOST_KEPT = 200
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
_FORMULA = {
    "estimate": ("activations", "formulas", "kept", "memory", "optimizers", "trainable"),
    "model": ("families", "family_shape", "shapes"),
}
_MODE_WORDS = {
    "weights": "precision",
    "stored": "precision",
    "adapter": "precision",
    "autocast": "precision",
    "quantization": "quantization",
    "double_quant": "double quantization",
    "dropout": "dropout",
    "checkpointing": "gradient checkpointing",
    "device": "device",
    "head": "loss",
    "full": "method",
    "repeats_keys": "attention",
    "masked": "batching",
    "joined": "batching",
    "fused": "fused functions",
}
MOST_DIFFERENCES = 2
"""Maximum number of differences that are named."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement. ``config`` identifies the model's config.json."""

    model: str
    config: str
    method: str
    optimizer: str
    trained: int
    mode: Mapping[str, Any]
    rows: int
    length: int
    labels: int
    accumulated: bool
    machine: str
    threads: int
    formula: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """``ratio`` is measured peak by formula; ``operations`` are those per token of the probe's
    batch, ``weights`` the model's in its linear layers, ``batching`` the batching mode."""

    of: Conditions
    ratio: float
    peak: int
    tokens_per_s: float
    operations: float
    weights: int
    batching: str = ""
    when: float = 0.0


@lru_cache(maxsize=1)
def formula_version() -> str:
    """Identifies the formula of the memory: a hash of its source files."""
    studio = Path(__file__).parents[1]
    content = b"".join(
        (studio / room / f"{name}.py").read_bytes()
        for room, names in _FORMULA.items()
        for name in names
    )
    return hashlib.sha256(content).hexdigest()[:12]


@lru_cache(maxsize=1)
def libraries() -> dict[str, str | None]:
    """The versions of the libraries that compute a step."""
    found = versions()
    return {name: found[name] for name in _LIBRARIES}


def differences(now: Conditions, then: Conditions) -> list[str]:
    """What has changed since a measurement, in words for the user; empty if it still applies."""
    found = []
    if then.machine != now.machine:
        found.append("on another machine")
    if then.formula != now.formula:
        found.append("with another version of the estimate")
    found += _libraries_changed(now.versions, then.versions)
    if then.config != now.config:
        found.append("with other model files")
    if then.method != now.method:
        full = then.method == FULL_FINE_TUNING
        found.append("with full fine-tuning" if full else f"with the method {then.method}")
    changed = (word for k, word in _MODE_WORDS.items() if now.mode[k] != then.mode.get(k, False))
    found += [f"with different {word}" for word in dict.fromkeys(changed)]
    if then.optimizer != now.optimizer:
        found.append(f"with the optimizer {then.optimizer}")
    if then.threads != now.threads:
        found.append(f"with {then.threads} thread{'s' if then.threads != 1 else ''}")
    if then.method == now.method and not _nearly(then.trained, now.trained):
        found.append("with a different number of trainable parameters")
    return found + _batch_changed(now, then)


def _batch_changed(now: Conditions, then: Conditions) -> list[str]:
    if then.rows != now.rows or not _nearly(then.length, now.length):
        return [f"of {then.rows} × {then.length:,} tokens, not {now.rows} × {now.length:,}"]
    if not _nearly(then.labels, now.labels):
        return ["with a different fraction of trained tokens"]
    return [] if then.accumulated == now.accumulated else ["with different gradient accumulation"]


def _libraries_changed(now: Mapping[str, str | None], then: Mapping[str, str | None]) -> list[str]:
    changed = [name for name in now if now[name] != then.get(name)]
    return [f"with {name} {then.get(name) or 'not installed'}" for name in changed]


def _nearly(a: float, b: float) -> bool:
    return abs(a - b) <= NEARLY * max(abs(a), abs(b))


def find_measured(now: Conditions) -> tuple[Measured | None, Measured | None]:
    """The newest measurement that applies under these conditions; else, as the second value, the
    one of the same model with the fewest differences."""
    same = [m for m in all_measured() if m.of.model == now.model]
    for measured in same:
        if not differences(now, measured.of):
            return measured, None
    nearest = min(same, key=lambda m: len(differences(now, m.of)), default=None)
    return None, nearest


def all_measured() -> tuple[Measured, ...]:
    """All measurements, newest first; read again when one was added."""
    try:
        return _read(_folder(), _folder().stat().st_mtime_ns)
    except OSError:
        return ()


def store_measured(measured: Measured) -> None:
    """Store a measurement; one with the same conditions is replaced, and the oldest are removed
    when there are many."""
    from studio.system.atomic import write_atomic

    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(asdict(measured.of), sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:24]
    kept = {**asdict(measured), "when": time.time()}
    write_atomic(folder / f"{name}.json", json.dumps(kept))
    files = sorted(folder.glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in files[MOST_KEPT:]:
        busy_files.remove(old)


def _folder() -> Path:
    return paths.cache_dir() / "measured"


@lru_cache(maxsize=2)
def _read(folder: Path, stamp: int) -> tuple[Measured, ...]:
    del stamp
    found = [m for file in folder.glob("*.json") if (m := _one(file)) is not None]
    return tuple(sorted(found, key=lambda m: -m.when))


def _one(file: Path) -> Measured | None:
    try:
        data = parse(read_regular(file))
        found = Measured(**{**data, "of": Conditions(**data["of"])})
        sane = 1 / LARGEST_CORRECTION < found.ratio < LARGEST_CORRECTION
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError):
        return None  # from another version of the program, or damaged
    return found if sane else None


def names(words: Sequence[str]) -> str:
    """The differences as one phrase."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def conditions_of(job: Job, facts: Facts, counted: Counted, mode: Mode, batch: Batch) -> Conditions:
    """The conditions under which this training would be measured."""
    return Conditions(
        model=str(job.base.model).strip(),
        config=job.config,
        method=method_of(job),
        optimizer=job.train.optimizer,
        trained=counted.trainable or 0,
        mode=asdict(mode),
        rows=batch.rows,
        length=batch.length,
        labels=batch.labels,
        accumulated=batch.accumulated,
        machine=machine_key(facts.machine.name),
        threads=facts.threads if mode.device == "cpu" else 0,
        formula=formula_version(),
        versions=libraries(),
    )


def correction(now: Conditions) -> tuple[Measured | None, str]:
    """The measurement that corrects the peak, or a sentence about a probe that does not apply."""
    measured, other = find_measured(now)
    if other is None:
        return measured, ""
    changed = names(differences(now, other.of)[:MOST_DIFFERENCES])
    return None, (
        f"The probe {day_of(other.when)} does not apply: it was made {changed}. Run the probe "
        "again to measure this training."
    )

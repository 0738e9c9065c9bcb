"""Run a dry run or a probe in the helper process, and update the estimate with its result.

Only the helper imports torch. ``ask`` yields the titles of its phases and returns the new estimate;
closing the generator ends the helper, which is how the window cancels it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from studio.errors import StudioError
from studio.estimate.graph import Estimate, estimate_job, with_training
from studio.estimate.job import (
    STARTER_CONFIGS,
    Facts,
    Job,
    counted_of,
    longest_batch,
    mode_of,
)
from studio.estimate.measured import Measured, conditions_of, store_measured
from studio.estimate.memory import memory
from studio.estimate.rows import rows_of
from studio.estimate.work import operations_per_token, probed_paces
from studio.model.folder_files import read_json
from studio.model.models import ends_of, local_folder, names_an_end, starter_of
from studio.model.targets import choose, listed
from studio.model.weight_files import weight_files
from studio.system.children import end_child, is_closed_pipe, module_command, start_child
from studio.system.torch_environment import torch_variables

Kind = Literal["dry run", "probe"]
MODULE = "studio.training.estimate.host"
GRACE_S = 3.0


def ask(
    kind: Kind, job: Job, facts: Facts, started: Callable[[Callable[[], None]], None] | None = None
) -> Generator[str, None, Estimate]:
    """The titles of the phases; returns the updated estimate. Raises ``StudioError``. ``started``
    receives a function that ends the helper from another thread."""
    asked = request(kind, job, facts)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = start_child(
            module_command(MODULE), errors, asked=True, environment=_environment(facts.threads)
        )
        if started is not None:
            started(process.terminate)
        try:
            found = yield from _follow(process, asked)
        finally:
            end_child(process, GRACE_S)
        if found is None:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no output"])[-1]
            raise StudioError(f"The helper process exited without a result: {last}", code="helper")
    return _with_dry(job, facts, found) if kind == "dry run" else _with_probe(job, facts, found)


def request(kind: Kind, job: Job, facts: Facts) -> dict[str, Any]:
    """The request to the helper, as JSON data. Raises ``StudioError`` if something is missing."""
    if job.train is None or job.base is None or not job.base.model.strip():
        raise StudioError("Connect a Base model node first.", node=job.node, code="no_base_model")
    folder = local_folder(job.base.model.strip(), job.project_dir)
    starter = starter_of(job.base.model.strip())
    if folder is None and (starter is None or kind == "probe"):
        raise StudioError(
            f"{job.base.model} is not on this machine yet.",
            node=job.node,
            code="no_model",
            hint="Run the Base model node first.",
        )
    if kind == "dry run" and job.lora and listed(job.lora.trained_tokens) and _tied(job):
        raise StudioError(
            "A dry run cannot trace trainable tokens of an embedding that is tied to the output "
            "head; the formula covers them.",
            node=job.node,
            code="tied_tokens",
            hint="A probe measures them.",
        )
    if kind == "dry run" and job.lora and names_an_end(job.lora) and _tied(job):
        raise StudioError(
            "A dry run cannot trace adapters of an embedding that is tied to the output head; the "
            "formula covers them.",
            node=job.node,
            code="tied_ends",
            hint="A probe measures them.",
        )
    if kind == "probe" and folder is not None:
        _refuse_probe(job, folder, facts)
    if job.fault:
        raise StudioError(
            f"The model cannot be used: {job.fault}",
            node=job.node,
            code="bad_model",
            hint="Choose another model, or check the project to see what to do.",
        )
    if folder is not None:
        config = read_json(folder, "config.json")
    else:
        assert starter is not None
        config = STARTER_CONFIGS[starter.id]
    mode = mode_of(job, facts.machine)
    data, _ = rows_of(job, facts)
    model = _model(job, folder, facts.machine.auto_dtype)
    return {
        "kind": kind,
        "node": job.node,
        "config": config,
        "mode": asdict(mode),
        "batch": asdict(longest_batch(job, data, mode)),
        "model": model,
        "train": job.train.model_dump(mode="json"),
        "device": facts.machine.wanted,
        "adapted": _adapted(job, model),
    }


def _tied(job: Job) -> bool:
    return job.shape is not None and job.shape.tied


def _refuse_probe(job: Job, folder: Path, facts: Facts) -> None:
    """Raise if a probe is not possible, before torch is loaded. On a CPU a training that is too
    large can affect other programs; on a GPU it only fails."""
    if not weight_files(folder):
        raise StudioError(
            f"{folder} contains no weights, which a probe requires.",
            node=job.node,
            hint="Add the model's .safetensors files next to its config.json.",
            code="no_weights",
        )
    found = estimate_job(job, facts)
    if facts.machine.device == "cpu" and found.peaks.get("training", 0) > found.available:
        raise StudioError(
            (
                "This training needs more memory than is available. A probe could cause other "
                "programs to fail."
            ),
            hint="Make it fit first.",
            node=job.node,
            code="too_large",
        )


def _model(job: Job, folder: Path | None, auto: str) -> dict[str, Any]:
    dtype = job.base.dtype if job.base.dtype != "auto" else auto
    return {
        "path": str(folder or ""),
        "source": job.base.model,
        "dtype": dtype,
        "quantization": job.base.quantization,
        "double_quant": job.base.double_quant,
        "weights_sha256": "",
        "parameters": job.shape.parameters if job.shape else 0,
    }


def _adapted(job: Job, model: Mapping[str, Any]) -> dict[str, Any] | None:
    if job.lora is None or job.shape is None:
        return None
    lora = job.lora
    ends = ends_of(job.base.model, job.project_dir, lora)
    chosen = choose(job.shape.modules(), lora, job.base.model, ends)
    return {
        "model": dict(model),
        "method": lora.method,
        "r": lora.r,
        "alpha": lora.alpha,
        "dropout": lora.dropout,
        "bias": lora.bias,
        "target_modules": chosen.names,
        "method_settings": dict(lora.method_settings),
        "rank_pattern": chosen.ranks,
        "alpha_pattern": chosen.alphas,
        "modules_to_save": listed(lora.modules_to_save),
        "trained_tokens": list(range(len(set(listed(lora.trained_tokens))))),  # any tokens will do
    }


def _follow(
    process: subprocess.Popen[str], asked: Mapping[str, Any]
) -> Generator[str, None, Mapping[str, Any] | None]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        json.dump(asked, process.stdin)
        process.stdin.close()
    except OSError as error:
        if not is_closed_pipe(error):  # its exit status gives the reason
            raise
    for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # output of a library
        if "progress" in message:
            yield message["progress"]["title"]
        elif "error" in message:
            problem = message["error"]
            raise StudioError(
                problem["sentence"], hint=problem.get("hint", ""), code=problem["code"]
            )
        elif "found" in message:
            return dict(message["found"])
    return None


def _with_dry(job: Job, facts: Facts, found: Mapping[str, Any]) -> Estimate:
    before = estimate_job(job, facts)
    lost = before.phases["training"].allocator if before.phases else 0
    peak = int(found["peak"]) + facts.machine.framework + lost
    return replace(
        with_training(before, peak),
        basis="dry run",
        trainable=int(found["trainable"]),
        total=int(found["total"]),
    )


def _with_probe(job: Job, facts: Facts, found: Mapping[str, Any]) -> Estimate:
    """Store the measured peak and speed, and update the estimate."""
    assert job.shape is not None
    mode = mode_of(job, facts.machine)
    data, _ = rows_of(job, facts)
    batch = longest_batch(job, data, mode)
    counted, _ = counted_of(job, job.shape)
    machine = facts.machine
    parts = memory(
        job.shape, counted, mode, batch, job.train.optimizer, machine.framework, machine.fragments
    )
    each = operations_per_token(
        job.shape,
        counted.adapter or 0,
        batch.length,
        batch.labels / batch.tokens,
        checkpointing=mode.checkpointing,
        full=mode.full,
    )
    speed = found["tokens"] / max(1e-9, found["seconds"])
    ratio = found["peak"] / parts.peak if parts is not None else 1.0
    conditions = conditions_of(job, facts, counted, mode, batch)
    store_measured(
        Measured(
            conditions,
            ratio,
            int(found["peak"]),
            speed,
            each,
            job.shape.linear_weights,
            job.train.batching,
        )
    )
    probed = probed_paces(facts.machine, facts.threads)
    facts = replace(facts, paces=(*(p for p in facts.paces if p.origin == "run"), *probed))
    return estimate_job(job, facts)


def _environment(threads: int) -> dict[str, str]:
    """The thread count of a run, with threads that do not spin while they wait, and its GPU allocator."""
    count = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {"OMP_WAIT_POLICY": "PASSIVE", **count, **torch_variables(os.environ)}

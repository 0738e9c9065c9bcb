"""The training state as files: adapter, optimizer, scheduler, random number generators, metrics.

A restored state continues the run bit for bit. Tensors are stored as safetensors and everything
else as JSON: a checkpoint contains no pickle and cannot run code.
"""

from __future__ import annotations

import json
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from studio.errors import StudioError
from studio.system.disk import is_severe
from studio.system.memory import out_of_memory_in
from studio.system.stored_json import parse, read_regular
from studio.training.saved.paged import is_paged, load_paged
from studio.training.saved.tensor_files import read_tensors, write_tensors

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
METHOD = "method.safetensors"
_RANDOM = "random"

_DELETE = "Delete {} and resume the run: it continues without this checkpoint."
_DAMAGED = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
"""What reading and restoring raise for a snapshot that this program did not write so."""


def read_random() -> dict[str, Any]:
    """The state of every random number generator used in training (of one GPU at most)."""
    state: dict[str, Any] = {"python": random.getstate(), "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = [torch.cuda.get_rng_state()]  # of the current device
    return state


def restore_random(state: dict[str, Any]) -> None:
    """Restore the generators to the state returned by ``read_random``."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])


def write_snapshot(
    folder: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    random_state: dict[str, Any],
    metrics: dict[str, Any],
    method: tuple[dict[str, Any], dict[str, Any]] | None = None,
) -> None:
    """Write the complete training state into ``folder``.

    ``metrics`` are JSON numbers; ``method`` is the additional state of the LoRA method: tensors and
    JSON values.
    """
    values = _write_model(folder, model, method)
    if is_paged(optimizer):
        torch.cuda.synchronize()  # on Windows a CPU may not read paged memory while the GPU computes
    tensors, rest = _split(optimizer.state_dict()["state"])
    for name, value in _random_tensors(random_state).items():
        tensors[f"{_RANDOM}.{name}"] = value
    write_tensors(_on_cpu(tensors), folder / OPTIMIZER)
    state = {
        "optimizer": {"rest": rest, "groups": optimizer.state_dict()["param_groups"]},
        "scheduler": _plain(scheduler.state_dict()),
        "python_random": random_state["python"],
        "figures": metrics,  # the key of the checkpoint format
        "method": values,
    }
    (folder / STATE).write_text(json.dumps(state), encoding="utf-8")


def write_weights(
    folder: Path, model: Any, method: tuple[dict[str, Any], dict[str, Any]] | None = None
) -> None:
    """Write only what ``load_adapter`` and ``read_method`` need, without the optimizer."""
    values = _write_model(folder, model, method)
    (folder / STATE).write_text(json.dumps({"figures": {}, "method": values}), encoding="utf-8")


def _write_model(
    folder: Path, model: Any, method: tuple[dict[str, Any], dict[str, Any]] | None
) -> dict[str, Any]:
    save_adapter(model, folder, all_ranks=True)
    kept, values = method or ({}, {})
    if kept:
        write_tensors(_on_cpu(kept), folder / METHOD)
    return values


def save_adapter(model: Any, folder: Path, all_ranks: bool = False) -> None:
    """Save the adapter's weights and config in the format of PEFT.

    ``all_ranks`` includes the ranks that AdaLoRA has pruned, because a resumed run may restore
    them.
    """
    if not hasattr(model, "peft_config"):  # full fine-tuning
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        write_tensors(_on_cpu(trained), folder / ADAPTER)
        return
    config = model.peft_config["default"]
    with _every_rank(config, all_ranks):
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
    write_tensors(_on_cpu(state), folder / ADAPTER)
    was, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.inference_mode = was
    same_mode(folder, CONFIG)


@contextmanager
def _every_rank(config: Any, wanted: bool = True) -> Iterator[None]:
    """Within the block PEFT uses all ranks of AdaLoRA's layers instead of the pruned ones."""
    cut = wanted and config.peft_type == "ADALORA"
    pattern = getattr(config, "rank_pattern", None)
    if cut:
        config.rank_pattern = None
    try:
        yield
    finally:
        if cut:
            config.rank_pattern = pattern


def same_mode(folder: Path, like: str) -> None:
    """Give weight files the permissions of ``like``: safetensors creates files that only their
    owner can read.
    """
    mode = stat.S_IMODE((folder / like).stat().st_mode)
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


def trained_is_finite(model: Any) -> bool:
    """Whether all trainable parameters are finite."""
    return all(bool(p.isfinite().all()) for p in model.parameters() if p.requires_grad)


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a snapshot."""
    return dict(_state(folder)["figures"])


def _state(folder: Path) -> dict[str, Any]:
    return dict(parse(read_regular(folder / STATE)))


def content_problem(folder: Path) -> str:
    """What prevents a training from continuing with this snapshot, as far as its files show; empty if
    nothing does. A snapshot that this program wrote has no such problem, whatever its age."""
    try:
        state = _state(folder)
        tensors = read_tensors(folder / OPTIMIZER)
        _try_random(_random_state(tensors, state["python_random"]))
        _join(tensors, dict(state["optimizer"]["rest"]))
        if not all(isinstance(g, dict) for g in list(state["optimizer"]["groups"])):
            return f"its {STATE} has no groups of parameters"
        dict(state["scheduler"]), dict(state["figures"])
        _method(folder, state)
        with safe_open(folder / ADAPTER, "pt", backend="pread") as file:
            file.keys()
    except (OSError, *_DAMAGED) as error:
        return f"its content is damaged ({type(error).__name__}: {error})"
    return ""


def _try_random(state: dict[str, Any]) -> None:
    """Set generators that are not in use; raises an error for a state that is not one."""
    version, numbers, gauss = state["python"]
    random.Random().setstate((version, tuple(numbers), gauss))
    torch.Generator().set_state(state["cpu"])


def read_method(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and values of the LoRA method in a snapshot."""
    with fits(folder):
        return _method(folder, _state(folder))


def _method(folder: Path, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    kept = read_tensors(folder / METHOD) if (folder / METHOD).is_file() else {}
    return kept, dict(state.get("method") or {})


def _trained_names(model: Any) -> list[list[str]]:
    """The names of each trainable parameter; a parameter shared between layers has several
    (VB-LoRA, TinyLoRA).
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def load_adapter(folder: Path, model: Any) -> None:
    """Load the trained weights into ``model``; raises ``StudioError`` if they do not fit it."""
    with fits(folder):
        if not hasattr(model, "peft_config"):
            _load_model(folder, model)
            return
        with _every_rank(model.peft_config["default"]):
            result = set_peft_model_state_dict(model, read_tensors(folder / ADAPTER))
    lost = set(result.missing_keys)
    missing = sorted(n[0] for n in _trained_names(model) if lost.issuperset(n))
    _refuse_missing(folder, missing + sorted(result.unexpected_keys))


@torch.no_grad()
def _load_model(folder: Path, model: Any) -> None:
    kept = read_tensors(folder / ADAPTER)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    _refuse_missing(folder, sorted(trained.keys() ^ kept.keys()))
    for name, parameter in trained.items():
        parameter.copy_(kept[name])


def _refuse_missing(folder: Path, missing: list[str]) -> None:
    if missing:
        raise StudioError(
            f"the checkpoint {folder.name} does not fit the model: {missing[0]} and "
            f"{len(missing) - 1} more weights differ.",
            title="The checkpoint cannot be used",
            hint=_DELETE.format(folder),
            code="checkpoint_mismatch",
            file=str(folder),
        )


def restore_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
    """Restore optimizer, scheduler and random number generators; ``optimizer`` is the unwrapped
    one. Raises ``StudioError`` if the snapshot does not fit them.
    """
    with fits(folder):
        tensors, state = read_tensors(folder / OPTIMIZER), _state(folder)
        found = _random_state(tensors, state["python_random"])
        values = {
            "state": _join(tensors, state["optimizer"]["rest"]),
            "param_groups": state["optimizer"]["groups"],
        }
        if is_paged(optimizer):
            load_paged(optimizer, values)
        else:
            optimizer.load_state_dict(values)
        scheduler.load_state_dict(state["scheduler"])
        restore_random(found)


@contextmanager
def fits(folder: Path) -> Iterator[None]:
    """Within the block, errors over the content of a snapshot are a ``StudioError`` that names it."""
    try:
        yield
    except _DAMAGED as error:
        if out_of_memory_in(error) or is_severe(error):  # the checkpoint is not the cause
            raise
        raise StudioError(
            f"the checkpoint {folder.name} does not fit this training ({type(error).__name__}: {error}).",
            title="The checkpoint cannot be used",
            hint=_DELETE.format(folder),
            code="checkpoint_mismatch",
            file=str(folder),
        ) from error


def _split(state: dict[int, dict[str, Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by ``"index.name"``, and the other values under the same names.

    Some optimizers nest their state (bitsandbytes); each level adds a part to the name.
    """
    tensors: dict[str, torch.Tensor] = {}
    rest: dict[str, Any] = {}

    def walk(prefix: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(f"{prefix}.{name}", value)
            elif isinstance(value, torch.Tensor):
                tensors[f"{prefix}.{name}"] = value
            else:
                rest[f"{prefix}.{name}"] = value

    for index, values in state.items():
        walk(str(index), values)
    return tensors, rest


def _join(tensors: dict[str, torch.Tensor], rest: dict[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest}.items():
        index, *inner, name = key.split(".")
        if index == _RANDOM:
            continue
        values = state.setdefault(int(index), {})
        for part in inner:
            values = values.setdefault(part, {})
        values[name] = value
    return state


def _random_tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    devices = {f"cuda{i}": value for i, value in enumerate(state.get("cuda", []))}
    return {"cpu": state["cpu"], **devices}


def _random_state(tensors: dict[str, torch.Tensor], python: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"python": python, "cpu": tensors[f"{_RANDOM}.cpu"]}
    names = sorted(
        (k for k in tensors if k.startswith(f"{_RANDOM}.cuda")), key=lambda k: int(k[11:])
    )
    return {**state, "cuda": [tensors[k] for k in names]} if names else state


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as safetensors requires them: on the CPU, contiguous, without shared memory."""
    seen: set[int] = set()
    ready = {}
    for name, value in tensors.items():
        plain = value.detach().cpu().contiguous()
        if plain.numel() and plain.data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.data_ptr())
        ready[name] = plain
    return ready


def _plain(value: Any) -> Any:
    """The parts of a state that JSON can represent; the functions of a scheduler are rebuilt, not
    stored.
    """
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k != "lr_lambdas"} | (
            {"lr_lambdas": [None] * len(value["lr_lambdas"])} if "lr_lambdas" in value else {}
        )
    return value

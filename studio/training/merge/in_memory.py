"""Merging a model that is loaded completely, for weights that cannot be merged tensor by tensor.

transformers renames and joins weights while it loads some models (mixtures of experts, vision models),
so that a stored tensor does not belong to one layer. Such a model is loaded, merged by PEFT, and saved
with the names of its files. This needs memory for all weights; all other models use ``layers``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import GenerationConfig

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.weight_files import weight_files
from studio.training.merge.layers import CannotMerge
from studio.training.model.configs import save_loaded
from studio.training.model.load import free_bytes, free_memory, load_base
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.saved.checkpoint import sha256_of
from studio.training.saved.snapshot import same_mode
from studio.values import AdapterValue

_CPU = torch.device("cpu")
_GIB = 2**30


def merge_in_memory(
    context: StepContext, adapter: AdapterValue, dtype: str, folder: Path, shard_bytes: int
) -> str:
    """Write the merged weights into ``folder`` and return their hash.

    Raises ``CannotMerge``, or ``StudioError`` when the memory is too small.
    """
    base = adapter.model.model.model_copy(update={"dtype": dtype, "quantization": "none"})
    _refuse_too_large(context, adapter, dtype)
    model = load_base(context, base, "Loading the model to merge into", _CPU)
    context.phase("merge", "Adding the adapter to the model")
    try:
        adapted = PeftModel.from_pretrained(model, adapter.path, torch_device="cpu")
        merged = adapted.merge_and_unload(progressbar=False)
    except (ValueError, RuntimeError, KeyError, NotImplementedError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise CannotMerge(str(error).strip().splitlines()[0]) from error
    context.check()
    merged.generation_config = GenerationConfig()  # the base's own file is copied, checked or not
    save_loaded(merged, folder, shard_bytes)
    same_mode(folder, "config.json")
    del model, adapted, merged
    free_memory()
    digest = hashlib.sha256()
    for file in weight_files(folder):
        context.check()
        digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def _refuse_too_large(context: StepContext, adapter: AdapterValue, dtype: str) -> None:
    needed = adapter.model.model.parameters * getattr(torch, dtype).itemsize
    room = free_bytes(_CPU)
    if needed > room:
        raise StudioError(
            f"merging this model in memory needs {needed / _GIB:.1f} GiB, and "
            f"{room / _GIB:.1f} GiB are free.",
            title="Not enough memory to merge",
            hint="Export the adapter itself; PEFT loads it on top of the base model.",
            code="out_of_memory",
        )

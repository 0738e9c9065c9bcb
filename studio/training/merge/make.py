"""The Merge step: adds the adapter to the base model's stored weights.

Weights are read, merged in float32 and written one tensor at a time, by default in the precision in
which the base is stored; a quantized base is merged into its unquantized weights. The result is then compared with
base and adapter, because a merge can be wrong without raising an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system import busy_files, disk
from studio.training.adapter.build import method_of
from studio.training.merge.check import (
    dequantized_difference,
    merge_difference,
    quantized_difference,
)
from studio.training.merge.dequantized import dequantizer
from studio.training.merge.in_memory import merge_in_memory
from studio.training.merge.layers import (
    CannotMerge,
    MergePlan,
    OtherNames,
    plan_merge,
)
from studio.training.model.configs import write_surroundings
from studio.training.model.out_of_memory import explain_out_of_memory, is_out_of_memory
from studio.training.model.quiet import quiet_libraries
from studio.training.model.weights_file import StoredWeights, write_weights
from studio.training.tokens.chat import load_tokenizer
from studio.values import AdapterValue, DType, ModelValue

if TYPE_CHECKING:
    from studio.node_settings.merge import MergeSettings


def merge_adapter(
    context: StepContext,
    adapter_json: Mapping[str, Any],
    settings: MergeSettings,
    shard_bytes: int | None = None,
) -> ModelValue:
    """Write the merged model, verify that it equals base plus adapter, and return its description. ``shard_bytes``
    replaces the maximum file size of the settings."""
    shard_bytes = shard_bytes or round(settings.max_shard_size * 10**9)
    adapter = AdapterValue.model_validate(adapter_json)
    base = adapter.model.model
    quiet_libraries()
    same = settings.dtype == "base"
    dtype: DType = _stored_dtype(base) if same else settings.dtype  # type: ignore[assignment]
    folder = context.folder / "model"
    context.phase("merge", "Adding the adapter to the model")
    plan = _planned(context, adapter, dtype)
    dequantized = _dequantizes(context, base, settings, plan)
    needed = _size(plan, base, dtype)
    untied = plan is not None and plan.untied
    try:
        with _explain_errors(context, folder, needed):
            folder.mkdir(parents=True, exist_ok=True)
            disk.refuse_full("the merged model", folder, needed)
            if plan is None:
                digest = _write_in_memory(context, adapter, dtype, folder, shard_bytes)
            else:
                digest = _write(context, plan, folder, needed, shard_bytes)
            tokenizer = load_tokenizer(adapter.path)
            write_surroundings(Path(base.path), folder, dtype, tokenizer, untied)
            loaded_in = base.dtype if same else dtype
            merged = _described(context, adapter, dtype, loaded_in, folder, digest, dequantized)
    except BaseException:
        busy_files.tidy(folder)
        raise
    if untied:
        context.notice(
            "The model shares one matrix between its embedding and its head, which the adapter "
            "changed differently: the merged model contains both.",
            level="info",
        )
    return merged


def _dequantizes(
    context: StepContext, base: ModelValue, settings: MergeSettings, plan: MergePlan | None
) -> bool:
    """Whether the adapter is merged into the dequantized weights; makes the plan do so. Raises ``StudioError`` if it
    is chosen and not possible."""
    if settings.base_weights == "original":
        return False
    if base.quantization == "none":
        context.notice(
            "The base model was not quantized in the training: the adapter is merged into its original weights.",
            level="info",
        )
        return False
    if plan is None:
        raise StudioError(
            "this model is merged in memory, and only into its original weights.",
            title="The adapter cannot be merged",
            hint="Set Base weights to Original.",
            field="base_weights",
            code="cannot_merge",
        )
    plan.weight = dequantizer(base)
    return True


def _stored_dtype(base: ModelValue) -> DType:
    """The precision of most of the base's stored weights; that of the training for other formats."""
    try:
        stored = StoredWeights(Path(base.path))
        sizes: Counter[torch.dtype] = Counter()
        for entry in stored.entries():
            sizes[entry.dtype] += entry.size
        stored.close()
    except (OSError, KeyError, ValueError, SafetensorError):
        return base.dtype
    names: dict[torch.dtype, DType] = {getattr(torch, name): name for name in get_args(DType)}
    return names.get(sizes.most_common(1)[0][0], base.dtype) if sizes else base.dtype


def _planned(context: StepContext, adapter: AdapterValue, dtype: str) -> MergePlan | None:
    """The plan to merge tensor by tensor; ``None`` when the model has to be merged in memory."""
    method = method_of(context, adapter.model)
    if method.cannot_merge:
        raise _refused(context, method.cannot_merge)
    if method.merge_in_memory:
        context.notice("Adapters of this method are merged with the model in memory.", level="info")
        return None
    try:
        return plan_merge(Path(adapter.model.model.path), Path(adapter.path), getattr(torch, dtype))
    except OtherNames:
        context.notice(
            "The weights in the files of this model are named or joined differently than in the "
            "loaded model, so the model is merged in memory.",
            level="info",
        )
        return None
    except CannotMerge as error:
        raise _refused(context, str(error)) from error


def _refused(context: StepContext, reason: str) -> StudioError:
    return StudioError(
        f"this adapter cannot be merged: {reason}.",
        title="The adapter cannot be merged",
        hint="Export the adapter itself; PEFT loads it on top of the base model.",
        code="cannot_merge",
    )


@contextmanager
def _explain_errors(context: StepContext, folder: Path, needed: int) -> Iterator[None]:
    """Turn a full disk and running out of memory into a ``StudioError``."""
    hint = "Close other programs, or export the adapter itself: PEFT loads it on top of the base model."
    with (
        disk.explain_errors("the merged model", folder, needed=needed),
        explain_out_of_memory("merge", hint),
    ):
        yield


def _size(plan: MergePlan | None, base: ModelValue, dtype: str) -> int:
    """The size of the merged weights in bytes."""
    if plan is None:
        return int(base.parameters * getattr(torch, dtype).itemsize)
    return sum(e.size for e in plan.entries)


def _write_in_memory(
    context: StepContext, adapter: AdapterValue, dtype: str, folder: Path, shard_bytes: int
) -> str:
    try:
        return merge_in_memory(context, adapter, dtype, folder, shard_bytes)
    except CannotMerge as error:
        raise _refused(context, str(error)) from error


def _write(
    context: StepContext, plan: MergePlan, folder: Path, needed: int, shard_bytes: int
) -> str:
    try:
        digest = write_weights(
            folder, plan.entries, plan.tensor, _tick(context, needed), shard_bytes
        )
    except (CannotMerge, ValueError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        raise _refused(context, str(error)) from error
    finally:
        plan.stored.close()
    missed = plan.unmerged()
    if missed:
        raise _refused(context, f"no stored weight was found for {missed[0]}")
    return digest


def _tick(context: StepContext, needed: int) -> Callable[[int], None]:
    total = round(needed / 1e6, 1)

    def tick(done: int) -> None:
        context.progress("merge", min(round(done / 1e6, 1), total), total, "MB")

    return tick


def _described(
    context: StepContext,
    adapter: AdapterValue,
    dtype: DType,
    loaded_in: DType,
    folder: Path,
    digest: str,
    dequantized: bool,
) -> ModelValue:
    """The merged model's description, with the measured difference. ``dtype`` is that of its files,
    ``loaded_in`` the one in which later steps load it.
    """
    base = adapter.model.model
    value = ModelValue(
        path=str(folder),
        source=base.source,
        revision=base.revision,
        dtype=loaded_in,
        stored_dtype=dtype if dtype != loaded_in else None,
        weights_sha256=digest,
        parameters=base.parameters,
        base=base,
    )
    record: dict[str, Any] = {"adapter": adapter.model_dump(mode="json")}
    if dequantized:
        difference = dequantized_difference(context, adapter, value)
        record["base_weights"] = "dequantized"
        record["quantized_logit_difference"] = difference
        context.notice(
            f"The adapter was merged into the dequantized weights of its {base.quantization} base ({dtype}); the "
            f"logits differ from those of the quantized model by at most {difference:.2g}.",
            level="info",
        )
    else:
        difference = merge_difference(context, adapter, value)
        _tell_agreement(context, base, dtype, loaded_in, difference)
    record["max_logit_difference"] = difference
    if base.quantization != "none" and not dequantized:
        record["quantized_logit_difference"] = quantized_difference(context, adapter, value)
        context.notice(
            f"The adapter was trained on a base in {base.quantization} and merged into its unquantized "
            "weights; the logits differ from those of the quantized model by at most "
            f"{record['quantized_logit_difference']:.2g}.",
            "Set Base weights to Dequantized in the Merge node to keep what was trained.",
            level="info",
        )
    context.artifact("merged_model", folder, max_logit_difference=difference)
    return value.model_copy(update={"merged_from": [*base.merged_from, record]})


def _tell_agreement(
    context: StepContext, base: ModelValue, dtype: DType, loaded_in: DType, difference: float
) -> None:
    context.notice(
        f"The merged model ({dtype}) agrees with the adapter: their logits differ by at "
        f"most {difference:.2g}.",
        "The merged weights are rounded to the precision of the base model's files. Set Precision to "
        "float32 in the Merge node to keep them as trained."
        if dtype != "float32" and base.dtype == "float32" and dtype != loaded_in
        else "",
        level="info",
    )

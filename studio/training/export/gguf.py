"""Writes a model or an adapter as GGUF files, which llama.cpp and the programs built on it load.

An adapter is written from its portable form: its alpha is equal to its rank, so that llama.cpp multiplies B·A by 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoConfig

from studio.errors import StudioError
from studio.export_folder.ggml_library import open_library
from studio.export_folder.gguf_architectures import (
    ARCHITECTURES,
    Architecture,
    refusal,
    window_note,
)
from studio.export_folder.gguf_mixtures import TYPES
from studio.export_folder.gguf_names import file_name
from studio.export_folder.model_card import base_name, licence_of
from studio.graph.context import StepContext
from studio.model.adapter_files import PREFIX
from studio.model.damaged import reading
from studio.model.folder_files import json_or_empty, shown
from studio.model.models import starter_of
from studio.node_settings.export import GgufSettings
from studio.system import disk
from studio.training.export.gguf_blocks import Blocks
from studio.training.export.gguf_config import add_hyperparameters
from studio.training.export.gguf_file import data_size, write_files
from studio.training.export.gguf_importance import Importance, importance_of, kinds_with_matrix
from studio.training.export.gguf_tokenizer import (
    Vocabulary,
    add_tokenizer,
    end_ids,
    load_plain,
    special_ids,
    vocabulary,
)
from studio.training.export.gguf_weights import Names, Tensor, model_tensors, rows_of
from studio.training.export.portable import (
    NotPlain,
    Plain,
    pair_bytes,
    plain_form,
    stored_shapes,
)
from studio.values import AdapterValue, ModelValue
from studio.variants.exporter import Exportable, Readable, Written

_FLOATS = ("F32", "F16", "BF16")
_ADAPTER_KEYS = 2048
"""The bytes of the keys of an adapter."""
_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def needed_bytes(value: Exportable, settings: GgufSettings) -> int:
    """The size of the files at their peak. Raises ``StudioError`` for what cannot be written.

    Of an adapter whose A and B have to be computed, it is that of the keys; the rest is compared with the free space
    once it is known, before anything is written.
    """
    if isinstance(value, AdapterValue):
        _architecture(Path(value.model.model.path))
        pairs = stored_shapes(value)
        sizes = {"F32": 4, "F16": 2, "BF16": 2}
        return sum(
            pair_bytes(pairs, sizes[q]) + _ADAPTER_KEYS
            for q in adapter_types(settings.quantizations)
        )
    folder = Path(value.path)
    found, config = _architecture(folder)
    tensors = model_tensors(folder, found, config)
    keys = _key_bytes(folder, tensors)
    matrix = kinds_with_matrix([q for q in settings.quantizations if q in TYPES], settings)
    # Without the rows of the training there is no matrix.
    return sum(
        max(data_size(tensors, q), data_size(tensors, q, q in matrix)) + keys
        for q in settings.quantizations
    )


def _key_bytes(folder: Path, tensors: Sequence[Tensor]) -> int:
    """An upper bound of the size of keys and tensor names: tokens and merges take less than in tokenizer.json, apart
    from the numbers beside each."""
    listed = sum(p.stat().st_size for p in folder.glob("tokenizer.json"))
    rows = max(t.shape[0] for t in tensors)
    return listed + 16 * rows + 128 * len(tensors) + 16_384


def adapter_types(quantizations: Sequence[str]) -> list[str]:
    """The types in which an adapter is written: the chosen ones that are not quantized, else F32."""
    return [q for q in quantizations if q in _FLOATS] or ["F32"]


def write_gguf(
    context: StepContext, value: Exportable, settings: GgufSettings, folder: Path, more: int = 0
) -> Written:
    """Write one file for each quantization into ``folder``. ``more`` bytes are written there afterwards."""
    if isinstance(value, AdapterValue):
        return _write_adapter(context, value, settings, folder, more)
    return _write_model(context, value, settings, folder)


def _architecture(folder: Path) -> tuple[Architecture, dict[str, Any]]:
    """How a model is written, and its complete config. Raises ``StudioError`` if it cannot be written."""
    with reading(folder, "config"):
        config: dict[str, Any] = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        ).to_dict()
    reason = refusal(config)
    if reason:
        raise StudioError(
            f"the model cannot be written as GGUF: {reason}.",
            title="The model cannot be written as GGUF",
            hint="Choose the format Safetensors folder.",
            code="gguf_unsupported",
            field="format",
        )
    return ARCHITECTURES[config["model_type"]], config


# ------------------------------------------------------------------ models


def _write_model(
    context: StepContext, value: ModelValue, settings: GgufSettings, folder: Path
) -> Written:
    quantizations = settings.quantizations
    chosen = [q for q in quantizations if q in TYPES]
    blocks = Blocks(open_library(chosen), context.threads or 1) if chosen else None
    source = Path(value.path)
    found, config = _architecture(source)
    tensors = model_tensors(source, found, config)
    rows = next(t.shape[0] for t in tensors if t.name == "token_embd.weight")
    tokenizer = load_plain(source)
    words = vocabulary(tokenizer, rows, _kept_pre(_base(value)))
    ends = end_ids(source)
    _, lost = special_ids(tokenizer, words, ends)

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MODEL)
        count = sum(_elements(t) for t in tensors if t.name not in _FACTORS)
        _add_general(writer, context.project_name, value, count)
        add_hyperparameters(writer, found, {**config, "vocab_size": rows})
        add_tokenizer(writer, tokenizer, words, ends)

    files: dict[str, Path] = {q: folder / file_name(context.project_name, q) for q in quantizations}
    wanted, matrix = kinds_with_matrix(chosen, settings), None
    if wanted:
        matrix = importance_of(context, value, settings, Names(found, config), folder, wanted)
        context.phase("export", "Writing the files")
    _write(context, files, found.name, describe, tensors, blocks, matrix)
    _tell_model(context, config, tensors, words, files)
    _tell_types(context, chosen, tensors, matrix)
    if lost:
        listed = ", ".join(shown(token) for token in lost)
        context.notice(
            f"GGUF has no place for more than three end tokens: llama.cpp will not end an answer at {listed}.",
            "Set it as a stop word in the program that runs the model.",
        )
    return Written(
        (("pre-tokenizer", words.pre), *_sizes(files)),
        {"quantizations": list(quantizations)},
        f"llama-server -m {next(iter(files.values())).name}",
        _readable(files),
    )


def _elements(tensor: Tensor) -> int:
    return int(torch.Size(tensor.shape).numel())


def _write(
    context: StepContext,
    files: dict[str, Path],
    architecture: str,
    describe: Callable[[gguf.GGUFWriter], None],
    tensors: Sequence[Tensor],
    blocks: Blocks | None = None,
    matrix: Importance | None = None,
) -> None:
    kinds = matrix.kinds if matrix is not None else frozenset()
    total = sum(data_size(tensors, q, q in kinds) for q in files)

    def tick(done: int) -> None:
        context.progress("export", round(done / 1e6, 2), round(total / 1e6, 2), "MB")

    write_files(files, architecture, describe, tensors, tick, blocks, matrix)


def _readable(files: dict[str, Path]) -> tuple[Readable, ...]:
    return tuple(Readable("llama.cpp", path.name, kind) for kind, path in files.items())


def _sizes(files: dict[str, Path]) -> list[tuple[str, str]]:
    return [(p.name, f"{p.stat().st_size / 1e6:,.1f} MB") for p in files.values()]


def _tell_model(
    context: StepContext,
    config: dict[str, Any],
    tensors: Sequence[Tensor],
    words: Vocabulary,
    files: dict[str, Path],
) -> None:
    """Say in the log what was written and what is different in llama.cpp."""
    listed = ", ".join(f"{name} ({size})" for name, size in _sizes(files))
    context.notice(f"Written: {listed}.", level="info")
    for quantization in (q for q in files if q not in TYPES):
        half = [t for t in tensors if _falls_back(t, quantization)]
        if half:
            context.notice(
                f"{quantization}: {len(half)} of {len(tensors)} tensors, such as {half[0].name}, are stored in F16, "
                "because the length of their rows is no multiple of 32.",
                level="info",
            )
    if words.dropped:
        context.notice(
            f"{words.dropped} tokens of the tokenizer were left out, because the model has no embedding for them.",
            level="info",
        )
    note = window_note(config)
    if note:
        context.notice(f"{note}.")


def _tell_types(
    context: StepContext,
    kinds: Sequence[str],
    tensors: Sequence[Tensor],
    matrix: Importance | None,
) -> None:
    """Say which matrices of K- and I-quants have another type than most."""
    matrices = [t for t in tensors if len(t.shape) > 1]
    for kind in kinds:
        used = matrix is not None and kind in matrix.kinds
        types = Counter(t.type_for(kind, used).name for t in matrices)
        usual = types.pop(TYPES[kind], 0)
        listed = ", ".join(f"{count} in {name}" for name, count in sorted(types.items()))
        context.notice(
            f"{kind}: {len(matrices) - usual} of {len(matrices)} matrices are stored in another type than {TYPES[kind]}"
            f"{f' ({listed})' if listed else ''}.{' An importance matrix was used.' if used else ''}",
            level="info",
        )


def _falls_back(tensor: Tensor, quantization: str) -> bool:
    return quantization not in _FLOATS and tensor.type_for(quantization).name == "F16"


def _base(value: Exportable) -> ModelValue:
    """The model that was trained, or the model itself."""
    if isinstance(value, AdapterValue):
        return value.model.model
    if not value.merged_from:
        return value
    last = AdapterValue.model_validate(value.merged_from[-1]["adapter"])
    return value.base or last.model.model


def _kept_pre(base: ModelValue) -> str:
    """The pre-tokenizer in the GGUF file that the base was imported from; empty if it was not."""
    starter = starter_of(base.source)
    if starter is not None:
        return starter.pre_tokenizer
    return str(json_or_empty(Path(base.path), "source.json").get("pre_tokenizer") or "")


def _add_general(writer: gguf.GGUFWriter, name: str, value: Exportable, count: int = 0) -> None:
    """Add name, size, licence and base model."""
    base = _base(value)
    writer.add_name(name or "model")
    if count:
        writer.add_size_label(gguf.size_label(count, 0, 0, 0))
    licence, hub = licence_of(base), base_name(base)
    if licence:
        writer.add_license(licence)
    if hub:
        owner, _, model = hub.rpartition("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, model)
        if owner:
            writer.add_base_model_organization(0, owner)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{hub}")


# ------------------------------------------------------------------ adapters


def _write_adapter(
    context: StepContext, value: AdapterValue, settings: GgufSettings, folder: Path, more: int
) -> Written:
    found, config = _architecture(Path(value.model.model.path))
    try:
        plain = plain_form(context, value, settings.max_rank)
        tensors = _adapter_tensors(plain, found, config)
    except NotPlain as error:
        hint = "Merge the adapter and export the model."
        raise StudioError(
            f"the adapter cannot be written as GGUF: {error}.",
            title="The adapter cannot be written as GGUF",
            hint=f"Raise Maximum rank. {hint}" if error.rank_helps else hint,
            code="gguf_adapter",
            field="format",
        ) from error

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(plain.rank))
        _add_general(writer, context.project_name, value)

    types = adapter_types(settings.quantizations)
    files = {q: folder / file_name(context.project_name, q, adapter=True) for q in types}
    needed = sum(data_size(tensors, q) + 128 * len(tensors) + _ADAPTER_KEYS for q in types)
    disk.refuse_full("the export", folder, needed + more, "folder")
    context.phase("export", "Writing the adapter")
    _write(context, files, found.name, describe, tensors)
    _tell_adapter(context, plain, settings.quantizations, files)
    rows = [("rank", str(plain.rank)), ("share of the change that is kept", f"{plain.kept:.2%}")]
    return Written(
        (*rows, *_sizes(files)),
        {"quantizations": types},
        f"llama-server -m BASE_MODEL.gguf --lora {next(iter(files.values())).name}",
        _readable(files),
    )


def _adapter_tensors(plain: Plain, found: Architecture, config: dict[str, Any]) -> list[Tensor]:
    """A and B of every layer by their names in GGUF. Raises ``NotPlain`` for what llama.cpp cannot load."""
    if plain.left:
        name = next(iter(plain.left)).removeprefix(PREFIX)
        raise NotPlain(f"llama.cpp has no adapters that change {name}")
    names = Names(found, config)
    tensors = []
    for path, pair in plain.pairs.items():
        name = names.of(f"{path}.weight")
        if config.get("tie_word_embeddings") and name in ("token_embd.weight", "output.weight"):
            raise NotPlain(
                "llama.cpp has no adapters of an embedding that the head shares, and this one changes it"
            )
        a, b = pair.padded(plain.rank)
        b = rows_of(found, config, path, b)
        if pair.embedding:  # llama.cpp takes rows of A by the token
            a = a.T
        for end, part in (("lora_a", a), ("lora_b", b)):
            data = part.contiguous()
            tensors.append(Tensor(f"{name}.{end}", tuple(data.shape), partial(_same, data)))
    return tensors


def _same(data: torch.Tensor) -> torch.Tensor:
    return data


def _tell_adapter(
    context: StepContext, plain: Plain, chosen: Sequence[str], files: dict[str, Path]
) -> None:
    listed = ", ".join(f"{name} ({size})" for name, size in _sizes(files))
    context.notice(f"Written: {listed}.", level="info")
    if plain.computed:
        context.notice(
            f"{len(plain.computed)} of {len(plain.pairs)} layers were converted to a LoRA, which keeps "
            f"{100 * plain.kept:.2f} % of their change.",
            level="info",
        )
    quantized = [q for q in chosen if q not in _FLOATS]
    if quantized:
        context.notice(
            f"Adapters are not quantized, so that the adapter was written in {' and '.join(files)} instead of "
            f"{', '.join(quantized)}.",
            "Merge the adapter to export a quantized model.",
            "info",
        )
    context.notice(
        "An adapter in GGUF contains neither tokenizer nor chat template: llama.cpp uses those of the base model.",
        level="info",
    )

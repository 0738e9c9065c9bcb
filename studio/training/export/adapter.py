"""Writes an adapter, in the portable form or as it was trained, and says which programs load it.

The portable form is compared with the adapter on its base before the export is finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import safe_open

from studio.errors import StudioError
from studio.export_folder.copy_files import copy_files, folder_size, refuse_stray, weights_size
from studio.export_folder.model_card import base_name
from studio.export_folder.readers import TITLES, Reading, readings, vllm_rank
from studio.graph.context import StepContext
from studio.model.folder_files import json_or_empty
from studio.node_settings.export import SafetensorsSettings
from studio.system import disk
from studio.system.atomic import write_atomic
from studio.training.adapter.build import method_of
from studio.training.adapter.verify import tolerance
from studio.training.export.portable import (
    NotPlain,
    Plain,
    pair_bytes,
    plain_bytes,
    plain_form,
    stored_shapes,
    write_plain,
)
from studio.training.merge.check import adapter_difference
from studio.training.model.configs import write_stop_token
from studio.training.saved.snapshot import ADAPTER, CONFIG
from studio.training.tokens.chat import load_tokenizer
from studio.values import AdapterValue
from studio.variants.exporter import Readable, Rule, Written

_GENERATION = "generation_config.json"


def needed_bytes(value: AdapterValue, settings: SafetensorsSettings) -> int:
    """The size of the files that will be written. Where A and B have to be computed, it is that of the files beside
    them; the rest is compared with the free space once it is known, before anything is written."""
    if settings.form != "as_trained":
        return _beside(value) + pair_bytes(stored_shapes(value))
    return _beside(value) + weights_size(Path(value.path))


def _beside(value: AdapterValue) -> int:
    generation = Path(value.model.model.path) / _GENERATION
    more = generation.stat().st_size if generation.is_file() else 0
    return folder_size(Path(value.path)) - weights_size(Path(value.path)) + more


def write_adapter(
    context: StepContext, value: AdapterValue, settings: SafetensorsSettings, folder: Path
) -> Written:
    """Write the adapter into ``folder``. Raises ``StudioError`` if the portable form has another effect."""
    plain, refused = None, None
    if settings.form == "portable":
        try:
            plain = plain_form(context, value, settings.max_rank)
        except NotPlain as error:
            refused = error
    weights = weights_size(Path(value.path)) if plain is None else plain_bytes(plain)
    if plain is not None or refused is not None:
        disk.refuse_full("the export", folder, _beside(value) + weights, "folder")
    if plain is None:
        _copy(context, value, folder)
    else:
        write_plain(context, plain, value, folder, base_name(value.model.model))
    _write_end_tokens(value, folder)
    found = _readings(value, folder)
    rows = _tell(context, value, plain, refused, found)
    if plain is not None:
        rows.append(_compared(context, value, plain, folder))
    form = "as_trained" if plain is None else "portable"
    manifest = {"form": form, "loads": {name: reading.loads for name, reading in found.items()}}
    chosen = plain is None and refused is None  # the form As trained was chosen
    hint = "Choose the adapter form Portable." if chosen else _merge_hint(context, value)
    return Written(
        tuple(rows),
        manifest,
        readable=(Readable("peft", title="Adapter"),),
        rules=tuple(_rules(found, hint)),
    )


def _copy(context: StepContext, value: AdapterValue, folder: Path) -> None:
    """Copy the adapter as it was trained, and refer to its base by the Hub ID, if it has one."""
    in_run = any(folder.is_relative_to(p) for p in (context.folder, context.checkpoints))
    copy_files(context, Path(value.path), folder, link_weights=in_run)
    name_base(folder / CONFIG, value)
    if base_name(value.model.model) is None:
        context.notice(
            f"{CONFIG} contains the path of the base model on this machine.",
            "Replace it with the Hub ID of the base model before you share the adapter.",
            "info",
        )


def name_base(path: Path, value: AdapterValue) -> None:
    """Refer to the base in an adapter's config by its Hub ID, if it has one, so that other machines find it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    base = value.model.model
    config["base_model_name_or_path"] = base_name(base) or base.path
    if base_name(base) is None:
        config["revision"] = None
    # PEFT reads it in the encoding of the locale: only ASCII is the same in all of them.
    write_atomic(path, json.dumps(config, indent=2) + "\n")


def _write_end_tokens(value: AdapterValue, folder: Path) -> None:
    """The generation config of the base, with the token that ends an answer in the adapter's chat template."""
    base = Path(value.model.model.path)
    refuse_stray(base, base / _GENERATION)
    with suppress(FileNotFoundError):
        shutil.copyfile(base / _GENERATION, folder / _GENERATION)
    known = json_or_empty(base, "config.json").get("eos_token_id")
    generation = json_or_empty(folder, _GENERATION)
    if known is not None and "eos_token_id" not in generation:
        text = json.dumps({**generation, "eos_token_id": known}, indent=2) + "\n"
        write_atomic(folder / _GENERATION, text)
    write_stop_token(folder, load_tokenizer(str(folder)))


def _readings(value: AdapterValue, folder: Path) -> dict[str, Reading]:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    with safe_open(folder / ADAPTER, framework="pt", backend="pread") as file:
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    base = json_or_empty(Path(value.model.model.path), "config.json")
    return readings(config, shapes, bool(base.get("tie_word_embeddings")))


def _tell(
    context: StepContext,
    value: AdapterValue,
    plain: Plain | None,
    refused: NotPlain | None,
    found: Mapping[str, Reading],
) -> list[tuple[str, str]]:
    """Say in the log what was written and who loads it; returns the same for the model card."""
    rows = [("form", _form(plain))]
    merge = _merge_hint(context, value)
    if refused is not None:
        hint = f"Raise Maximum rank. {merge}" if refused.rank_helps else merge
        context.notice(f"The adapter was exported as it was trained: {refused}.", hint)
    elif plain is not None:
        context.notice(f"The adapter was exported as a {rows[0][1]}.", level="info")
    for why, titles in _refusals(found).items():
        chosen = plain is None and refused is None  # the form As trained was chosen
        context.notice(
            f"Not loaded as it was trained by {' and '.join(titles)}: {why}.",
            "Choose the adapter form Portable." if chosen else merge,
            "warning" if chosen else "info",
        )
    rows += [(f"loads in {TITLES[name]}", _answer(reading)) for name, reading in found.items()]
    if plain is not None and found["vllm"].loads is not False:
        rows.append(("option for vLLM", f"--max-lora-rank {vllm_rank(plain.rank)}"))
    return rows


def _rules(found: Mapping[str, Reading], hint: str) -> Iterator[Rule]:
    """What the rules of vLLM and llama.cpp make of the adapter; PEFT itself reads it back."""
    for name, reading in found.items():
        if name != "peft":
            yield Rule(
                TITLES[name], reading.loads, reading.why, hint if reading.loads is False else ""
            )


def _merge_hint(context: StepContext, value: AdapterValue) -> str:
    if method_of(context, value.model).mergeable:
        return "For programs other than PEFT, merge the adapter and export the model."
    return "It is loaded by PEFT only."


def _refusals(found: Mapping[str, Reading]) -> dict[str, list[str]]:
    """The programs that do not load it, by the reason."""
    refusals: dict[str, list[str]] = {}
    for name, reading in found.items():
        if reading.loads is False:
            refusals.setdefault(reading.why, []).append(TITLES[name])
    return refusals


def _form(plain: Plain | None) -> str:
    if plain is None:
        return "as trained"
    converted = ""
    if plain.computed:
        kept = f"{100 * plain.kept:.2f}".removesuffix(".00")
        layers = f"{len(plain.computed)} of {len(plain.pairs)} layers"
        converted = f"; {layers} were converted, which keeps {kept} % of their change"
    return f"plain LoRA of rank {plain.rank} with scale 1{converted}"


def _answer(reading: Reading) -> str:
    if reading.loads is None:
        return reading.why
    return "yes" if reading.loads else f"no: {reading.why}"


def _compared(
    context: StepContext, value: AdapterValue, plain: Plain, folder: Path
) -> tuple[str, str]:
    """The measured difference from the adapter. Raises ``StudioError`` if a form that should be exact differs."""
    difference = adapter_difference(context, value, folder)
    dtype = value.model.model.dtype
    exact = all(pair.lost == 0 for pair in plain.pairs.values())
    allowed = tolerance(dtype, difference.logit, rewritten=True)
    if value.model.model.quantization != "none":
        allowed = max(allowed, tolerance("bfloat16", difference.logit, rewritten=True))
    if exact and not difference.largest <= allowed:  # also refuses NaN
        raise StudioError(
            f"the portable form differs from the adapter: their logits differ by {difference.largest:.3g}, and "
            f"rounding explains at most {allowed:.3g}.",
            title="The portable form differs from the adapter",
            hint="Choose the adapter form As trained, or merge the adapter and export the model.",
            code="export_mismatch",
            field="format_settings.form",
        )
    return ("largest logit difference from the trained adapter", f"{difference.largest:.3g}")

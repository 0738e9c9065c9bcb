"""The model card: a README with the origin of a model and how it was trained.

All values are taken from the descriptions on the wires. It contains no local folders: only file
names and hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from studio.export_folder.mixture import tables
from studio.export_folder.parity import COLUMNS, Check, rows_of, sentence_of
from studio.model.facts import licence_in
from studio.model.models import classify, starter_of
from studio.values import FULL_FINE_TUNING, AdapterValue, DatasetValue, ModelValue

_PACKAGES = ("lora-studio", "torch", "transformers", "peft", "datasets", "bitsandbytes")


def base_name(base: ModelValue) -> str | None:
    """The hub id of the base, if it has one.

    A local folder can look like an id, but only models from the hub are pinned to a commit.
    """
    if base.source.startswith("starter:"):
        starter = starter_of(base.source)
        return starter.repo if starter else None
    return base.source if base.revision and classify(base.source) == "hub" else None


def licence_of(base: ModelValue) -> str | None:
    """The base's licence identifier on the hub, if known."""
    starter = starter_of(base.source)
    if starter is not None:
        return starter.licence.lower()
    return licence_in(Path(base.path))


Rows = Sequence[tuple[str, str]]


def model_card(
    value: ModelValue | AdapterValue,
    title: str,
    exported: Rows = (),
    command: str = "",
    checks: Sequence[Check] = (),
    place: str = "",
) -> str:
    """The text of ``README.md`` for an exported model or adapter; ``exported`` are facts about its form, and
    ``command`` runs it, if it is for other programs than transformers and PEFT, ``checks`` compare it with the trained
    model, and ``place`` is what it is loaded by, if that is not a folder."""
    form = [_table("This export", ("fact", "value"), exported), _checked(checks)]
    if isinstance(value, AdapterValue):
        return _adapter_card(
            value, title, [*form, _usage(command, place, base=value.model.model)], command
        )
    form.append(_usage(command, place))
    if value.merged_from:
        return _merged_card(value, title, form, command)
    return _text(
        _front_matter(
            value, _library("transformers", command), "quantized" if command else None, lora=False
        ),
        [f"# {title or 'Exported model'}", "An unchanged copy of its base model.", _base(value)],
        form,
    )


def _library(usual: str, command: str) -> str:
    """The library that loads it; a command runs a GGUF file, or mlx-lm."""
    return ("mlx" if command.startswith("mlx_lm") else "gguf") if command else usual


def _adapter_card(value: AdapterValue, title: str, form: Sequence[str], command: str) -> str:
    base = value.model.model
    checks = [("largest logit difference after reloading", f"{value.reload_difference:.3g}")]
    if value.source or value.mixture:
        checks = []
    origin = f"from {_shown_source(value)}" if value.source else "trained with LoRA Studio"
    if value.mixture:
        origin = f"combined from {len(value.mixture.sources)} with LoRA Studio"
    first = _stages(value)[0]
    if first is not value and first.source:
        origin = f"from {_shown_source(first)}, trained further with LoRA Studio"
    return _text(
        _front_matter(base, _library("peft", command), "adapter"),
        [
            f"# {title or 'LoRA adapter'}",
            f"A {value.model.method} adapter for {_shown_base(base)}, {origin}.",
        ],
        [
            _base(base),
            *_mixture(value),
            *_training(value),
            _table("Checks", ("check", "value"), checks),
        ],
        form,
    )


def _mixture(adapter: AdapterValue, level: int = 0) -> list[str]:
    """What the adapter was combined from: method, tables, and the origin of each source."""
    mixture = adapter.mixture
    if mixture is None:
        return []
    found = [
        _table(
            "Combination",
            ("fact", "value"),
            [
                ("method", mixture.method),
                ("share of the change that is kept", f"{mixture.kept:.2%}"),
            ],
        )
    ]
    found += [_wide_table(t.title, t.head, t.rows) for t in tables(mixture)]
    origins = []
    for source in mixture.sources:
        value = AdapterValue.model_validate(source.adapter)
        origins.append((source.title, _origin_of(value)))
        found += _mixture(value, level + 1) if level < 3 else []
    return [*found, _table("Origin of the adapters", ("adapter", "origin"), origins)]


def _origin_of(value: AdapterValue) -> str:
    """The rows that an adapter was trained on, or where it was loaded from."""
    parts = [f"{value.model.method}, r {value.model.r}"]
    if value.source:
        parts.append(f"from {_shown_source(value)}")
    if value.mixture:
        parts.append("combined from " + ", ".join(s.title for s in value.mixture.sources))
    if value.dataset:
        files = ", ".join(Path(s).name for s in value.dataset.sources)
        parts.append(f"trained on {files} (sha256 {value.dataset.sha256[:12]})")
    return "; ".join(parts)


def _wide_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + " --- |" * len(head))
    return "\n".join([f"## {title}", "", *lines])


def _merged_card(value: ModelValue, title: str, form: Sequence[str], command: str) -> str:
    record = value.merged_from[-1]
    adapter = AdapterValue.model_validate(record["adapter"])
    if adapter.model.method == FULL_FINE_TUNING:
        return _tuned_card(value, adapter, title, form, command)
    base = value.base or adapter.model.model
    checks = [
        (
            "largest logit difference of the adapter after reloading",
            f"{adapter.reload_difference:.3g}"
            if not (adapter.source or adapter.mixture)
            else "not measured",
        ),
    ]
    dequantized = record.get("base_weights") == "dequantized"
    if not dequantized:
        checks.append(
            (
                "largest logit difference, merged against base with adapter",
                f"{record['max_logit_difference']:.3g}",
            )
        )
    if "quantized_logit_difference" in record:
        difference = f"{record['quantized_logit_difference']:.3g}"
        name = "largest logit difference, merged" if dequantized else "the same"
        checks.append((f"{name} against the quantized base it was trained on", difference))
    into = f"dequantized {base.quantization} weights" if dequantized else "weights"
    return _text(
        _front_matter(base, _library("transformers", command), "finetune"),
        [
            f"# {title or 'Merged model'}",
            f"{_shown_base(base)} with a {adapter.model.method} adapter merged into its "
            f"{into} ({value.stored_dtype or value.dtype}), created with LoRA Studio.",
        ],
        [
            _base(base),
            *_mixture(adapter),
            *_training(adapter),
            _table("Checks", ("check", "value"), checks),
        ],
        form,
    )


def _shown_source(adapter: AdapterValue) -> str:
    """Where a loaded adapter comes from: its Hub ID with the commit, or the name of its folder."""
    if adapter.revision:
        return f"{adapter.source} at {adapter.revision[:12]}"
    return Path(adapter.source).name


def _tuned_card(
    value: ModelValue, trained: AdapterValue, title: str, form: Sequence[str], command: str
) -> str:
    base = value.base or trained.model.model
    checks = [("largest logit difference after reloading", f"{trained.reload_difference:.3g}")]
    return _text(
        _front_matter(base, _library("transformers", command), "finetune", lora=False),
        [
            f"# {title or 'Tuned model'}",
            f"{_shown_base(base)} after full fine-tuning ({value.dtype}), created with LoRA "
            "Studio.",
        ],
        [_base(base), *_training(trained), _table("Checks", ("check", "value"), checks)],
        form,
    )


def _text(*parts: str | Sequence[str]) -> str:
    blocks = [b for part in parts for b in ([part] if isinstance(part, str) else part) if b]
    return "\n\n".join(blocks) + "\n"


def _front_matter(base: ModelValue, library: str, relation: str | None, lora: bool = True) -> str:
    lines = ["---"]
    name, licence = base_name(base), licence_of(base)
    if name:
        lines.append(f"base_model: {name}")
        lines += [f"base_model_relation: {relation}"] if relation else []
    if licence:
        lines.append(f"license: {licence}")
    lines += [f"library_name: {library}", "pipeline_tag: text-generation", "tags:", "- lora-studio"]
    lines += ["- lora"] if relation and lora else []
    return "\n".join([*lines, "---"])


def _shown_base(base: ModelValue) -> str:
    return base_name(base) or Path(base.source).name


def _base(base: ModelValue) -> str:
    starter = starter_of(base.source)
    rows: list[tuple[str, Any]] = [
        ("model", _shown_base(base)),
        ("revision", base.revision or "not known"),
        ("precision in training", base.dtype),
        ("quantization in training", base.quantization),
        ("parameters", f"{base.parameters:,}"),
        ("sha256 of the weights", base.weights_sha256),
        ("licence", licence_of(base) or "unknown; see the base model for its source"),
    ]
    table = _table("Base model", ("fact", "value"), rows)
    if starter is None:
        return table
    return (
        f"{table}\n\nThe base model is the copy of {starter.repo} in the Python package "
        f"{starter.requirement}: its weights were once rounded to 4 bits."
    )


def _stages(adapter: AdapterValue) -> list[AdapterValue]:
    """The adapters that were trained further, one after the other, and this one."""
    stages = [adapter]
    while stages[0].model.continues is not None:
        stages.insert(0, stages[0].model.continues)
    return stages


def _training(adapter: AdapterValue) -> list[str]:
    """Data, adapter and settings; of an adapter that was trained further those of each training, oldest first."""
    *earlier, last = _stages(adapter)
    if not earlier:
        return [
            *_trained(last, ""),
            _table("Versions", ("package", "version"), _versions().items()),
        ]
    blocks = []
    for number, stage in enumerate(earlier, 1):
        if stage.source:
            blocks.append(f"## Stage {number}\n\nLoaded from {_shown_source(stage)}.")
        elif stage.mixture:
            titles = ", ".join(part.title for part in stage.mixture.sources)
            blocks.append(f"## Stage {number}\n\nCombined from {titles}.")
        blocks += _trained(stage, f"Stage {number}: ", lora=not stage.source)
    blocks += _trained(last, f"Stage {len(earlier) + 1}: ")
    return [*blocks, _table("Versions", ("package", "version"), _versions().items())]


def _trained(adapter: AdapterValue, stage: str, lora: bool = True) -> list[str]:
    """The tables of one training, with ``stage`` before their titles."""
    return [
        _data(adapter.dataset, stage) if adapter.dataset else "",
        _method_table(adapter, stage) if lora else "",
        _table(f"{stage}Training", ("setting", "value"), adapter.train.items()),
        _table(
            f"{stage}Metrics",
            ("metric", "value"),
            [(k, f"{v:.6g}") for k, v in adapter.metrics.items()],
        ),
    ]


def _method_table(adapter: AdapterValue, stage: str) -> str:
    lora = adapter.model
    settings: dict[str, Any] = {"method": "full fine-tuning", **lora.method_settings}
    if lora.method != FULL_FINE_TUNING:
        settings = {
            "method": lora.method,
            "r": lora.r,
            "alpha": lora.alpha,
            "dropout": lora.dropout,
            "bias": lora.bias,
            "target_modules": ", ".join(lora.target_modules),
            **lora.method_settings,
        }
        more = {
            "ranks by layer": lora.rank_pattern,
            "alphas by layer": lora.alpha_pattern,
            "fully trained modules": ", ".join(lora.modules_to_save),
            "trained tokens": ", ".join(str(i) for i in lora.trained_tokens),
        }
        settings |= {name: value for name, value in more.items() if value}
    title = "Method" if lora.method == FULL_FINE_TUNING else "Adapter"
    return _table(f"{stage}{title}", ("setting", "value"), settings.items())


def _data(dataset: DatasetValue, stage: str = "") -> str:
    rows: list[tuple[str, Any]] = [
        ("files", ", ".join(Path(s).name for s in dataset.sources)),
        ("sha256", dataset.sha256),
        ("format", dataset.format),
        ("rows for training", dataset.train_rows),
        ("rows for validation", dataset.validation_rows),
    ]
    return _table(f"{stage}Data", ("fact", "value"), rows)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _checked(checks: Sequence[Check]) -> str:
    """The table of the parity check, and what it means."""
    if not checks:
        return ""
    rows = [row.words for check in checks for row in rows_of(check.to_json())]
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cell(word) for word in row)} |" for row in rows]
    causes = [f"- {sentence_of(c.to_json())} {c.hint}".rstrip() for c in checks if c.cause]
    causes += [
        f"- {row.words[0]}: {row.cause}"
        for c in checks
        for row in rows_of(c.to_json())[1:]
        if row.cause
    ]
    known = next((c for c in checks if c.reference), None)
    about = ""
    if known is not None:
        about = (
            f"Read back and compared with {known.reference}, on {known.source}. KL is the divergence of the "
            "next-token probabilities in nats, top-1 the share of equal most likely tokens; exact matches are those "
            "of the base model → the trained model; this export."
        )
    return "\n".join(["## Parity check", "", *lines, "", *causes, "", about]).rstrip()


def _table(title: str, head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"## {title}", "", *lines]) if len(lines) > 2 else ""


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{k} = {v}" for k, v in value.items()) or "none"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _usage(command: str, place: str, base: ModelValue | None = None) -> str:
    """How it is loaded; ``base`` is that of an adapter."""
    place = place or "THIS_FOLDER"
    if command:
        return "\n".join(["## Usage", "", "```sh", command, "```"])
    if base is None:
        lines = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("{place}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{place}")',
        ]
    else:
        name = base_name(base) or "BASE_MODEL"
        lines = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{name}")',
            f'model = PeftModel.from_pretrained(base, "{place}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{place}")',
        ]
    return "\n".join(["## Usage", "", "```python", *lines, "```"])

"""The linear layers of a model folder, read from the headers of its safetensors files.

The target picker and the checks need layer names and shapes within milliseconds, without torch. A
header is JSON; weights are not read. Presets give the names for "attention" or "q,v", also for
models with fused projections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.model.folder_files import read_json
from studio.model.layer_names import GATE_UP, is_joined, taker
from studio.model.weight_files import tensor_shapes, weight_files
from studio.system.file_stamp import Stamp, file_stamp

_NOT_ADAPTED = {
    "lm_head",
    "embed_out",
    "embed_tokens",
    "wte",
    "wpe",
    "word_embeddings",
    "embed_positions",
    "tok_embeddings",
    "word_embeddings_layernorm",
    "embed_in",
    "score",
    "embeddings",
    "gate",
    "router",
    "shared_expert_gate",  # routers, which select the experts of a mixture
}
TOWERS = (
    "vision_tower",
    "vision_model",
    "visual",
    "audio_tower",
    "embed_vision",
    "embed_audio",
    "multi_modal_projector",
)
"""Vision and audio towers, which text does not pass through."""
CONV1D_MODELS = {"gpt2", "openai-gpt", "imagegpt", "gpt_bigcode_legacy"}
_FUSED_QKV = ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack", "qkv", "in_proj")
_QUERY = ("q_proj", "query", "wq", "q", "q_lin")
_VALUE = ("v_proj", "value", "wv", "v", "v_lin")


@dataclass(frozen=True)
class LinearModule:
    """A linear layer: its full name in the model, its input and output widths.

    ``transposed``: its weight is stored as (in, out), as in GPT-2's Conv1D. ``experts``: the number
    of experts joined in the file. ``end``: “embedding” or “output head” of the model, which presets
    leave out.
    """

    name: str
    width_in: int
    width_out: int
    transposed: bool = False
    experts: int = 1
    end: str = ""

    @property
    def parameters(self) -> int:
        """The number of elements of its weight."""
        return self.width_in * self.width_out * self.experts

    @property
    def kind(self) -> str:
        """Its kind: expert, fused projection, transposed or linear."""
        if ".experts." in self.name:
            return "expert"
        if self.name.rpartition(".")[2] in (*_FUSED_QKV, "gate_up_proj"):
            return "fused"
        return "transposed" if self.transposed else "linear"


def read_linear_modules(folder: Path) -> list[LinearModule] | None:
    """The linear layers of a model folder in order, or ``None`` when it cannot be read."""
    try:
        files = (folder / "config.json", *weight_files(folder))
        stamps = tuple(map(file_stamp, files))
    except (OSError, ValueError):
        return None
    return list(_read(files, stamps)) or None


@lru_cache(maxsize=8)
def _read(files: tuple[Path, ...], stamps: tuple[Stamp, ...]) -> tuple[LinearModule, ...]:
    """The linear layers of these files, the config first; ``stamps`` change with the files.

    Cached, because a mixture has many thousands of layers and every edit of the graph needs them.
    """
    del stamps
    try:
        config = read_json(files[0].parent, files[0].name)
        shapes = [item for file in files[1:] for item in tensor_shapes(file)]
    except (OSError, ValueError):
        return ()
    found = (_linear(name, shape, config) for name, shape in shapes)
    return tuple(sorted((m for m in found if m is not None), key=lambda m: _natural(m.name)))


def norm_layers(folder: Path) -> list[str]:
    """The names of the norm layers of a model folder, as PEFT matches them; each once."""
    try:
        shapes = [item for file in weight_files(folder) for item in tensor_shapes(file)]
    except (OSError, ValueError):
        return []
    stems = [
        n.removesuffix(".weight")
        for n, shape in shapes
        if len(shape) == 1 and n.endswith(".weight")
    ]
    text = [s for s in stems if set(TOWERS).isdisjoint(s.split("."))]
    last = (s.rpartition(".")[2] for s in text)
    return list(dict.fromkeys(n for n in last if "norm" in n.lower() or n.startswith("ln_")))


def _linear(name: str, shape: tuple[int, ...], config: dict[str, Any]) -> LinearModule | None:
    """A tensor as a linear layer, unless it is a vector, an embedding, the head, an expert's
    router, or in a vision or audio tower.
    """
    stem, _, last = name.rpartition(".")
    if len(shape) == 3 and is_joined(name):
        return _joined(name, shape, config)
    if last != "weight" or len(shape) != 2 or stem.rpartition(".")[2] in _NOT_ADAPTED:
        return None
    if not set(TOWERS).isdisjoint(stem.split(".")):
        return None
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    if config.get("vocab_size", (text or {}).get("vocab_size")) == shape[0]:
        return None
    width_out, width_in = shape
    if str(config.get("model_type")) in CONV1D_MODELS:  # Conv1D stores (in, out)
        return LinearModule(stem, *shape, transposed=True)
    return LinearModule(stem, width_in, width_out)


def _joined(name: str, shape: tuple[int, ...], config: dict[str, Any]) -> LinearModule:
    """Experts that are joined in the file: (experts, out, in), or (experts, in, out) in some
    families, which the hidden width tells apart.
    """
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    hidden, (count, first, second) = (text or {}).get("hidden_size"), shape
    turned = (first if name.endswith(GATE_UP) else second) == hidden
    width_in, width_out = (first, second) if turned else (second, first)
    return LinearModule(name, width_in, width_out, experts=count)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in name.split(".")]


def suffixes(modules: Iterable[LinearModule]) -> list[str]:
    """The last parts of the names, without duplicates, in order of appearance."""
    return list(dict.fromkeys(m.name.rpartition(".")[2] for m in modules))


def presets(modules: Sequence[LinearModule]) -> dict[str, list[str]]:
    """The target names of "all-linear", "attention" and "q,v" for these layers."""
    attention = [m for m in modules if any("att" in p.lower() for p in m.name.split(".")[:-1])]
    taken = set(attention)
    rest = set(suffixes(m for m in modules if m not in taken))
    names = list(dict.fromkeys(_short_name(m, rest) for m in attention))
    return {
        "all-linear": suffixes(modules),
        "attention": names or _fused(suffixes(modules)),
        "q,v": _query_value(suffixes(modules)) or names,
    }


def _short_name(module: LinearModule, taken: set[str]) -> str:
    """The last part of a name, with its parent if other layers have the same last part."""
    parent, _, last = module.name.rpartition(".")
    return f"{parent.rpartition('.')[2]}.{last}" if last in taken else last


def _fused(names: list[str]) -> list[str]:
    return [n for n in names if n in _FUSED_QKV]


def _query_value(names: list[str]) -> list[str]:
    plain = [n for n in names if n in _QUERY or n in _VALUE]
    return plain if len(plain) > 1 else _fused(names)


def resolve_targets(
    modules: Sequence[LinearModule], wanted: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Target names for PEFT, and the names in ``wanted`` that match no layer.

    ``wanted`` is a preset's name, one or more names separated by commas, or a list of names.
    """
    known = presets(modules)
    if isinstance(wanted, str):
        if wanted in known:
            return known[wanted], [] if known[wanted] else [wanted]
        wanted = [part.strip() for part in wanted.split(",") if part.strip()]
    wrong = [t for t in wanted if not any(map(taker([t]), (m.name for m in modules)))]
    return [t for t in dict.fromkeys(wanted) if t not in wrong], wrong

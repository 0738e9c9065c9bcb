#!/usr/bin/env python3
"""Compares exported GGUF files with those of llama.cpp's own converters: tensors and keys.

    python benchmarks/llama_cpp_converter.py --llama-cpp FOLDER [--starter] [--only NAME ...] [--kinds NAME ...]

FOLDER is a checkout of llama.cpp that has ``conversion/``. A tiny random model of each architecture, an adapter on it
(and with ``--starter`` the starter model) are exported by the program, and converted by
``convert_hf_to_gguf.py`` and ``convert_lora_to_gguf.py``. Every tensor must have the same type and the same bytes;
keys that differ must be among those that ``EXPECTED`` explains. The exit code is 1 otherwise. Needs the extra ``test``.

The converters recognize pre-tokenizers by a hash of known vocabularies, which tiny ones do not have; they are told the
name, and that the tokenizer is one of byte-level BPE. They need the package sentencepiece.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
_RUNNER = """
import json, runpy, sys, traceback
folder, jobs = sys.argv[1], json.loads(sys.argv[2])
sys.path[:0] = [folder, folder + "/gguf-py"]
from conversion import base, phi
text = base.TextModel
whole = (text, "get_vocab_base_pre"), (text, "_set_vocab_sentencepiece"), (phi.Phi3MiniModel, "set_vocab")
known = [vars(owner).get(name) for owner, name in whole]
for script, pre, arguments in jobs:
    bpe = lambda self, *more: self._set_vocab_gpt2()
    own = [lambda self, tokenizer: pre, bpe, bpe]
    for (owner, name), function in zip(whole, own if pre else known):
        setattr(owner, name, function)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(folder + "/" + script, run_name="__main__")
    except Exception:
        traceback.print_exc()
"""
KINDS = ("F32", "F16", "BF16", "Q8_0")
Job = tuple[str, str, list[str]]
"""A converter, the name of the pre-tokenizer (empty: it finds it), and its arguments."""
EXPECTED = {
    "general.name": "the name of the project, not of the folder",
    "general.basename": "guessed from the name of the folder",
    "general.finetune": "guessed from the name of the folder",
    "general.version": "guessed from the name of the folder",
    "general.tags": "from the model card of the folder",
    "general.languages": "from the model card of the folder",
    "general.license": "from the base model",
    "general.license.name": "from the base model",
    "general.license.link": "from the base model",
    "general.organization": "guessed from the name of the folder",
    "general.repo_url": "from the model card of the folder",
    "general.description": "from the model card of the folder",
    "general.size_label": "counted alike, but a shared matrix once, and rounded by the same function",
    "general.quantization_version": "written for every file",
    "general.file_type": "of an adapter: not written by the converter",
    "general.sampling": "sampling parameters of generation_config.json",
    "general.base_model": "of the base model that the program knows; the converter reads the model card of the folder",
    "tokenizer.ggml.add_eos_token": "written for every tokenizer",
    "tokenizer.ggml.add_bos_token": "written for every tokenizer; otherwise llama.cpp assumes a value",
    "tokenizer.ggml.add_sep_token": "llama.cpp reads it for encoders only",
    "tokenizer.ggml.add_space_prefix": "written by the converter for Gemma; of no effect for byte-level BPE",
    "tokenizer.ggml.eot_token_id": "the end token of the chat template",
    ".vocab_size": "written for every architecture; llama.cpp counts the tokens otherwise",
    ".rope.dimension_count": "written for every architecture; otherwise llama.cpp takes the width of a head",
    ".rope.freq_base": "written for every architecture; otherwise llama.cpp takes 10,000",
    ".rope.scaling.original_context_length": "written by the converter for Phi-3; of no effect without "
    "scaling",
}
"""Keys whose presence or value may differ -> why. Keys that begin like this are meant, too; one with a dot in front is
a key of any architecture."""
ONLY_OURS = {
    ".attention.key_length": "written for every architecture; otherwise llama.cpp divides the width by the heads",
    ".attention.value_length": "written for every architecture; otherwise llama.cpp divides the width by the heads",
    ".rope.scaling.type": "of LongRoPE, whose factors llama.cpp takes from tensors without it",
    ".rope.scaling.attn_factor": "of YaRN, without the part that llama.cpp multiplies by itself",
    "tokenizer.ggml.unknown_token_id": "the default of the tokenizer's class; byte-level BPE has no unknown text",
}
"""Keys that the converter does not write -> why the program does. A value that differs is not explained by this."""
ONLY_THEIRS = {
    ".rope.scaling.yarn_attn_factor": "of YaRN; llama.cpp reads it for Grok only",
}


@dataclass
class Compared:
    """What differs between two files: tensors by name, and keys that are not expected to."""

    tensors: int = 0
    different: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether there is no unexplained difference."""
        return bool(self.tensors) and not self.different and not self.keys


def convert(checkout: Path, jobs: Sequence[Job]) -> str:
    """Run llama.cpp's converters in a process of their own, and return their output. Raises ``RuntimeError`` if it
    ends early; a job that fails leaves no file."""
    command = [sys.executable, "-c", _RUNNER, str(checkout), json.dumps(jobs)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise RuntimeError(f"the converter failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stderr


def compare(own: Path, theirs: Path) -> Compared:
    """Compare two GGUF files: types and bytes of all tensors, and all keys."""
    import gguf

    mine, other = gguf.GGUFReader(own), gguf.GGUFReader(theirs)
    found = Compared()
    a, b = ({t.name: t for t in reader.tensors} for reader in (mine, other))
    for name in sorted(a.keys() | b.keys()):
        one, two = a.get(name), b.get(name)
        found.tensors += 1
        if one is None or two is None:
            found.different.append(f"{name} is only in {'theirs' if one is None else 'ours'}")
        elif one.tensor_type != two.tensor_type or list(one.shape) != list(two.shape):
            found.different.append(
                f"{name}: {one.tensor_type.name} {list(one.shape)} and {two.tensor_type.name} {list(two.shape)}"
            )
        elif not np.array_equal(np.asarray(one.data), np.asarray(two.data)):
            found.different.append(f"{name}: other values")
    _compare_keys(_keys(mine), _keys(other), found)
    return found


def _keys(reader: Any) -> dict[str, Any]:
    return {
        name: part.contents()
        for name, part in reader.fields.items()
        if not name.startswith("GGUF.")
    }


def _compare_keys(own: dict[str, Any], theirs: dict[str, Any], found: Compared) -> None:
    for name in sorted(own.keys() | theirs.keys()):
        one, two = own.get(name), theirs.get(name)
        if one == two:
            continue
        text = f"{name}: {_short(one)} and {_short(two)}"
        (found.explained if reason_of(name, one, two) else found.keys).append(text)


def reason_of(name: str, own: Any = None, theirs: Any = None) -> str:
    """Why a key may have these values; empty if it may not. Without values: why it may differ at all."""
    known = dict(EXPECTED)
    known |= ONLY_OURS if theirs is None else {}
    known |= ONLY_THEIRS if own is None else {}
    return next(
        (
            reason
            for key, reason in known.items()
            if name == key
            or name.startswith(f"{key}.")
            or (key.startswith(".") and name.endswith(key))
        ),
        "",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."


@dataclass
class Pair:
    """A file of the program, the converter's, and how that one is made."""

    title: str
    own: Path
    theirs: Path
    job: Job


def model_pair(title: str, value: Any, root: Path, kind: str, pre: str) -> Pair:
    """A model that the program has exported in ``kind`` (F32, F16, BF16 or Q8_0)."""
    (own,) = _exported(root, value, kind).glob("*.gguf")
    theirs = root / f"theirs-{kind}.gguf"
    arguments = [value.path, "--outtype", kind.lower(), "--outfile", str(theirs)]
    return Pair(f"{title}, {kind}", own, theirs, ("convert_hf_to_gguf.py", pre, arguments))


def adapter_pair(title: str, adapter: Any, root: Path, pre: str) -> Pair:
    """An adapter. The converter gets the portable form: of others it would lose the scale."""
    (own,) = _exported(root / "gguf", adapter, "F32").glob("*.gguf")
    portable = _exported(root / "peft", adapter, "")
    theirs = root / "theirs-lora.gguf"
    options = ["--base", adapter.model.model.path, "--outtype", "f32", "--outfile", str(theirs)]
    return Pair(
        f"{title}, adapter",
        own,
        theirs,
        ("convert_lora_to_gguf.py", pre, [str(portable), *options]),
    )


def tiny_pairs(root: Path, family: str, kinds: Sequence[str]) -> list[Pair]:
    """A tiny random model of this architecture, and an adapter on it.

    Not an adapter of GPT-2: the converter transposes its A and B like the stored weights, but PEFT does not store them
    like these, so that the shapes in its file are not those of the weights.
    """
    from tests.studio.training.adapters import random_adapter
    from tests.studio.training.gguf_models import FAMILIES, save_noisy
    from tests.studio.training.steps import model_value

    base = model_value(save_noisy(root / "model", *FAMILIES[family]))
    # transformers gives a tokenizer of Qwen 2 the pre-tokenizer of its class, whatever is stored.
    pre = "qwen2" if family.startswith("qwen2") else "gpt-2"
    pairs = [model_pair(family, base, root, kind, pre) for kind in kinds]
    if family == "gpt2":
        config = (
            Path(base.path) / "config.json"
        )  # older configs have this key, and the converter reads it
        data = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**data, "n_ctx": data["n_positions"]}), encoding="utf-8")
        return pairs
    adapter = random_adapter(root, base, use_rslora=True)
    return [*pairs, adapter_pair(family, adapter, root / "lora", "gpt-2")]


def _exported(root: Path, value: Any, kind: str) -> Path:
    from studio.node_settings.export import ExportSettings
    from studio.training.export.make import export
    from tests.studio.training.steps import Recorder, make_context

    context = make_context(root / f"out-{kind}", Recorder())
    context.title, context.project_name = "Export", "Compared"
    chosen = {"format": "gguf", "format_settings": {"quantizations": [kind]}} if kind else {}
    export(context, value.to_json(), ExportSettings(check_rows=0, **chosen))
    return Path(context.artifacts[0]["path"])


def starter(root: Path) -> Any:
    """The starter model, as the program imports it."""
    from studio.node_settings.base_model import BaseModelSettings
    from studio.training.model.base_model import prepare_base_model
    from tests.studio.training.steps import Recorder, make_context

    context = make_context(root / "base", Recorder())
    return prepare_base_model(context, BaseModelSettings(model="starter:smollm2-135m"))


def main() -> int:
    from tests.studio.training.adapters import random_adapter
    from tests.studio.training.gguf_models import FAMILIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--llama-cpp", type=Path, default=os.environ.get("LORA_STUDIO_LLAMA_CPP"))
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--starter", action="store_true")
    chosen = parser.parse_args()
    if chosen.llama_cpp is None or not (chosen.llama_cpp / "conversion").is_dir():
        parser.error("--llama-cpp must be a checkout of llama.cpp with the folder conversion")
    failed = False
    explained: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        pairs = []
        for family in chosen.only:
            root = Path(name) / family.replace(" ", "-")
            pairs += tiny_pairs(root, family, chosen.kinds)
        if chosen.starter:
            root = Path(name) / "starter"
            base = starter(root)
            pairs += [model_pair("starter", base, root, kind, "") for kind in chosen.kinds]
            pairs.append(adapter_pair("starter", random_adapter(root, base), root / "lora", ""))
        said = convert(chosen.llama_cpp, [pair.job for pair in pairs])
        if "Traceback" in said:
            print(said[said.index("Traceback") :][:3000])
        for pair in pairs:
            if not pair.theirs.exists():
                failed = True
                print(f"{pair.title:36} was not converted")
                continue
            found = compare(pair.own, pair.theirs)
            failed |= not found.same
            explained |= {text.partition(":")[0] for text in found.explained}
            same = found.tensors - len(found.different)
            print(f"{pair.title:36} {same:4} of {found.tensors} tensors equal", flush=True)
            for line in (*found.different, *found.keys):
                print(f"    {line}")
    print("\nKeys that differ as expected:")
    for key in sorted(explained):
        print(f"  {key}: {reason_of(key)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

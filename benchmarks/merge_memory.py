#!/usr/bin/env python3
"""Memory, time and disk of merging a model of 3.2 billion parameters, and of writing it as GGUF.

    python benchmarks/merge_memory.py [--folder FOLDER] [--layers N] [--only merge gguf adapter]

The model has the shape of Llama 3.2 3B with random weights in bfloat16, in several files; it is written by this
script and deleted afterwards, with everything made from it (about 30 GB of disk). Each step runs as in the program,
with its checks, in a process of its own. Measured every 50 ms for this process and its children: the resident set,
which includes pages of files that are mapped, and of it what is not of files (``anonymous``). The exit code is 1 if
merging takes 4 GiB or more, or writing GGUF 6 GiB or more. The check of an export has no limit: it takes what the model
needs in float32 where that is free, else in the model's precision. Needs the extra ``test``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
GIB = 2**30
SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LIMITS_GIB = {"merge": 4.0, "gguf": 6.0, "quantized": 6.0}
RANK = 16


def write_model(folder: Path, layers: int) -> None:
    """A random model and its tokenizer; one tensor is in memory at a time."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from studio.training.model.weights_file import Entry, write_weights
    from tests.studio.training.gguf_models import make_bpe_tokenizer

    config = LlamaConfig(**SHAPE, num_hidden_layers=layers, dtype="bfloat16")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    folder.mkdir(parents=True)
    entries = [Entry(name, tuple(p.shape), torch.bfloat16) for name, p in model.named_parameters()]
    shapes = {e.name: e.shape for e in entries}

    noise = (
        torch.randn(1_000_003) * 0.02
    ).bfloat16()  # repeated: drawing all of them would take minutes

    def random(name: str) -> torch.Tensor:
        shape = torch.Size(shapes[name])
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        times = -(-shape.numel() // len(noise))
        return noise.repeat(times)[: shape.numel()].reshape(shape)

    write_weights(folder, entries, random, lambda done: None)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}', encoding="utf-8")
    make_bpe_tokenizer().save_pretrained(str(folder))


def write_adapter(base: Path, folder: Path, layers: int) -> None:
    """A LoRA of all linear layers."""
    import torch

    from studio.training.saved.tensor_files import write_tensors
    from tests.studio.training.gguf_models import make_bpe_tokenizer

    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    kv = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors = {}
    for layer in range(layers):
        for name, (out, wide) in shapes.items():
            path = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(RANK, wide) * 0.02
            tensors[f"{path}.lora_B.weight"] = torch.randn(out, RANK) * 0.02
    folder.mkdir()
    write_tensors(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [name.rpartition(".")[2] for name in shapes],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    make_bpe_tokenizer().save_pretrained(str(folder))


def _values(place: Path) -> Any:
    """The description of the adapter."""
    from studio.model.weight_files import stored_tensors, weight_files
    from studio.values import AdapterValue
    from tests.studio.training.steps import adapted_value, dataset_value, model_value, settings_of

    base = model_value(place / "model", dtype="bfloat16")
    count = sum(
        _elements(t.shape)
        for f in weight_files(place / "model")
        for t in stored_tensors(f).values()
    )
    base = base.model_copy(update={"parameters": count})
    return AdapterValue(
        path=str(place / "adapter"),
        model=adapted_value(base),
        dataset=dataset_value(place / "data"),
        train=settings_of().model_dump(mode="json"),
        metrics={},
        reload_difference=0.0,
    )


def _elements(shape: Any) -> int:
    count = 1
    for size in shape:
        count *= int(size)
    return count


def merge(place: Path) -> None:
    """The Merge step with its check."""
    from studio.node_settings.merge import MergeSettings
    from studio.training.merge.make import merge_adapter
    from tests.studio.training.steps import Recorder, make_context

    recorder = Recorder()
    context = make_context(place / "merge", recorder)
    value = merge_adapter(context, _values(place).to_json(), MergeSettings())
    (place / "merged.json").write_text(json.dumps(value.to_json()), encoding="utf-8")
    _tell(recorder)


def _tell(recorder: Any) -> None:
    for event in recorder.named("Notice"):
        print("   ", event.get("sentence"), flush=True)


def _export(place: Path, value: Any, rows: int = 0, **settings: Any) -> None:
    from studio.node_settings.export import ExportSettings
    from studio.training.export.make import export
    from tests.studio.training.steps import Recorder, make_context

    recorder = Recorder()
    folder = place / "export"
    context = make_context(folder, recorder)
    context.title, context.project_name = "Export", "Large"
    export(context, value, ExportSettings(check_rows=rows, **settings))
    _tell(recorder)
    shutil.rmtree(folder)


def gguf(place: Path) -> None:
    """The Export step: the merged model as two GGUF files."""
    _gguf(place, ["Q8_0", "F16"], 0)


def quantized(place: Path) -> None:
    """A K-quant, by llama.cpp's own function."""
    _gguf(place, ["Q4_K_M"], 0)


def checked(place: Path) -> None:
    """One GGUF file and its check, which reads the trained model and the file back."""
    _gguf(place, ["Q8_0"], 4)


def _gguf(place: Path, quantizations: list[str], rows: int) -> None:
    chosen = {"quantizations": quantizations, "importance_matrix": "never"}
    value = json.loads((place / "merged.json").read_text(encoding="utf-8"))
    _export(place, value, rows, format="gguf", format_settings=chosen)


def adapter(place: Path) -> None:
    """The Export step: the adapter in its portable form, compared with the trained one."""
    _export(place, _values(place).to_json(), format="safetensors")


STEPS: dict[str, Callable[[Path], None]] = {
    "merge": merge,
    "gguf": gguf,
    "quantized": quantized,
    "checked": checked,
    "adapter": adapter,
}


def _child(name: str, place: Path) -> None:
    try:
        STEPS[name](place)
    except BaseException:
        traceback.print_exc()
        sys.exit(1)


def measured(name: str, place: Path) -> dict[str, float]:
    """Run one step and return its seconds, and its peaks in GiB."""
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(name, place))
    start = time.monotonic()
    process.start()
    peaks = {"peak_gib": 0.0, "anonymous_gib": 0.0}
    while process.is_alive():
        resident, own = _memory(process.pid or 0)
        peaks["peak_gib"] = max(peaks["peak_gib"], resident / GIB)
        peaks["anonymous_gib"] = max(peaks["anonymous_gib"], own / GIB)
        time.sleep(0.05)
    process.join()
    failed = float(process.exitcode != 0)
    return {**peaks, "seconds": time.monotonic() - start, "failed": failed}


def _memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process and its children, and those that are not pages of files."""
    resident = own = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            facts = process.memory_info()
            resident += facts.rss
            own += facts.rss - getattr(facts, "shared", 0)
    except psutil.Error:
        pass  # it has just ended
    return resident, own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="where the files are made; must have room")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--only", nargs="*", choices=STEPS, default=list(STEPS))
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="merge-memory-", dir=chosen.folder))
    failed = False
    try:
        room = shutil.disk_usage(place).free
        if room < 30e9:
            print(f"{place} has {room / 1e9:.0f} GB free; 30 GB are needed.")
            return 1
        print("writing the model", flush=True)
        write_model(place / "model", chosen.layers)
        write_adapter(place / "model", place / "adapter", chosen.layers)
        size = sum(p.stat().st_size for p in (place / "model").glob("*.safetensors"))
        files = len(list((place / "model").glob("*.safetensors")))
        print(f"{size / 1e9:.2f} GB in {files} files", flush=True)
        rows = []
        for name in chosen.only:
            found = measured(name, place)
            limit = LIMITS_GIB.get(name)
            counted = found["peak_gib"]
            over = limit is not None and counted >= limit
            failed |= over or bool(found["failed"])
            rows.append((name, found, limit, over))
        print(f"{'step':9} {'peak GiB':>9} {'anonymous':>10} {'limit':>6} {'seconds':>8}")
        for name, found, limit, over in rows:
            word = "FAILED" if found["failed"] else "OVER" if over else ""
            print(
                f"{name:9} {found['peak_gib']:9.2f} {found['anonymous_gib']:10.2f} "
                f"{limit or '':>6} {found['seconds']:8.0f} {word}"
            )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

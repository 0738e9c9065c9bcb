#!/usr/bin/env python3
"""The first minutes on a GPU: what nobody could measure without one, in one command and twelve minutes.

    python benchmarks/gpu_first.py [--only NAME ...] [--budget SECONDS] [--device cpu]

Each check runs in a process of its own, so that none ends another, and prints one line of JSON: its name,
``ok`` (true, false, or null for figures without a limit), what it found, and its seconds. The exit code is 0 if
no check failed. On a CPU, the checks that need no GPU run with the same code: the tests of the project do that.

**No GPU has run this yet.** Needs the extra ``test``, since models and rows are those of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
MIB = 2**20
BUDGET_S = 720.0
Found = dict[str, Any]


# ------------------------------------------------------------------ what the checks share


class Bench:
    """The place of one check: its device and a folder of its own."""

    def __init__(self, device: str, place: Path) -> None:
        self.device, self.place = device, place

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def train(
        self,
        name: str,
        dtype: str = "bfloat16",
        quantization: str = "none",
        *,
        rows: int = 24,
        hidden: int = 0,
        adapter: dict[str, Any] | None = None,
        stop: Callable[[Any], bool] | None = None,
        **settings: Any,
    ) -> Any:
        """Train a small model, and return the recorder of its events. With the same ``name``, an earlier
        training is resumed. ``hidden`` makes the model larger."""
        from studio.training.loop.train import train_adapter
        from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
        from tests.tiny import make_tiny_model

        root = self.place / name
        root.mkdir(exist_ok=True)
        if hidden and not (root / "model").exists():
            make_tiny_model(root / "model", layers=8, hidden=hidden)
        inputs = make_inputs(root, rows, 0, **(adapter or {}))
        inputs["model"]["model"].update(
            dtype=dtype, quantization=quantization, parameters=10**5 if not hidden else 10**8
        )
        seen = Recorder()
        asked = (lambda: stop(seen)) if stop else (lambda: False)
        train_adapter(make_context(root, seen, asked), inputs, settings_of(**settings))
        return seen


def free_memory() -> None:
    """Return unused memory to the driver."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def apart(some: list[float], others: list[float]) -> float:
    """The largest difference of two lists of equal length."""
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


# ------------------------------------------------------------------ the checks, in their order


def context(bench: Bench) -> Found:
    """Versions, the card, and the memory that a process occupies before its first tensor."""
    import bitsandbytes
    import peft
    import torch
    import transformers

    from studio.estimate.machine import FRAMEWORK

    found: Found = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "bitsandbytes": bitsandbytes.__version__,
    }
    if not bench.on_gpu:
        return found
    before = device_bytes()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    occupied = device_bytes() - before or total - free
    assumed = FRAMEWORK["cuda"]
    card = torch.cuda.get_device_properties(0)
    return {
        **found,
        "card": card.name,
        "compute_capability": f"{card.major}.{card.minor}",
        "memory_mib": total // MIB,
        "cuda": torch.version.cuda,
        "architectures": torch.cuda.get_arch_list(),
        "bf16_native": torch.cuda.is_bf16_supported(including_emulation=False),
        "context_mib": occupied // MIB,
        "context_assumed_mib": assumed // MIB,
        "ok": 0.5 * assumed <= occupied <= 1.2 * assumed,
    }


def probe(bench: Bench) -> Found:
    """The probe of the estimate in a process that has not used the GPU before."""
    import torch

    from studio.estimate.activations import Mode
    from studio.estimate.memory import Batch
    from studio.system import device as device_choice
    from studio.training.estimate.probe import Peak, run_probe
    from tests.studio.training.steps import settings_of
    from tests.tiny import make_tiny_model

    device = torch.device(bench.device, 0) if bench.on_gpu else torch.device("cpu")
    if bench.on_gpu:
        device_choice.use("auto", hide=False)  # for the driver's readings of this card
    peak = Peak(device)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(bench.place / "model")).to(device)
    mode = Mode(weights=4, autocast=False, checkpointing=False)
    batch = Batch(rows=4, length=64, labels=64)
    found = run_probe(model, mode, batch, settings_of(), lambda step: None, peak)
    return {
        "peak_mib": found.peak // MIB,
        "seconds": round(found.seconds, 4),
        "ok": found.peak >= peak.bytes() // 2 > 0,
    }


def varlen(bench: Bench) -> Found:
    """Padding-free rows: the kernel against float64 row by row, that a training uses it, and its losses."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention as attend

    from studio.training.batch import attention

    worst: dict[str, list[float]] = {}
    lengths = (5, 700, 33)
    kinds = (torch.bfloat16, torch.float16) if bench.on_gpu else (torch.float32,)
    for dtype in kinds:
        for size, heads, keys in ((8, 4, 2), (64, 9, 3), (128, 32, 8)):
            shape = [(1, h, sum(lengths), size) for h in (heads, keys, keys)]
            mine = [
                torch.randn(s, device=bench.device, dtype=dtype, requires_grad=True) for s in shape
            ]
            module = torch.nn.Module()
            module.num_key_value_groups = heads // keys
            with attention.row_boundaries(lengths, mine[0].device):
                rows = attention._mask(
                    q_length=sum(lengths), kv_length=sum(lengths), device=mine[0].device
                )
                got = attention._attend(module, *mine, rows)[0]
            exact = [x.detach().double().requires_grad_() for x in mine]
            parts = zip(*(x.split(lengths, dim=2) for x in exact), strict=True)
            wanted = torch.cat(
                [
                    attend(
                        q,
                        k.repeat_interleave(heads // keys, 1),
                        v.repeat_interleave(heads // keys, 1),
                        is_causal=True,
                    ).transpose(1, 2)
                    for q, k, v in parts
                ],
                dim=1,
            )
            pull = torch.randn_like(wanted)
            gradients = torch.autograd.grad(got, mine, pull.to(got.dtype))
            others = torch.autograd.grad(wanted, exact, pull)
            pairs = zip((got, *gradients), (wanted, *others), strict=True)
            worst[f"{dtype} size {size}, heads {heads}/{keys}"] = [
                float((a.double() - b).detach().abs().max() / b.detach().abs().max())
                for a, b in pairs
            ]
    attention.USED.clear()
    dtype = "bfloat16" if bench.on_gpu else "float32"
    common = {"batch_size": 8, "max_steps": 3, "learning_rate": 1e-4}
    free = bench.train("free", dtype, batching="padding_free", **common)
    used = dict(attention.USED)
    padded = bench.train("padded", dtype, **common)
    route = "varlen" if bench.on_gpu else "rows"
    difference = apart(free.losses(), padded.losses())
    return {
        "largest relative difference": worst,
        "calls": used,
        "loss difference to padded rows": difference,
        "ok": bool(used.get(route))
        and set(used) == {route}
        and max(map(max, worst.values())) < 0.05
        and difference < (5e-2 if bench.on_gpu else 1e-4),
    }


def attention_memory(bench: Bench) -> Found:
    """Fewer key heads at 4,096 tokens: no kernel may store the full scores (2 GiB in float32)."""
    import torch

    from studio.training.model.attention_kernel import fused_attention

    found: Found = {}
    worst = 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        shape = (1, 32, 4096, 64), (1, 8, 4096, 64), (1, 8, 4096, 64)
        tensors = [torch.randn(s, device="cuda", dtype=dtype, requires_grad=True) for s in shape]
        module = torch.nn.Module()
        module.num_key_value_groups, module.is_causal = 4, True
        free_memory()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = fused_attention(module, *tensors, None)[0]
        held = torch.cuda.memory_allocated() - before
        out.sum().backward()
        peak = torch.cuda.max_memory_allocated() - before
        worst = max(worst, peak)
        found[str(dtype)] = f"held {held // MIB} MiB, peak {peak // MIB} MiB"
        del tensors, out
    return {**found, "ok": worst < 512 * MIB}


def int8_checkpointing(bench: Bench) -> Found:
    """What the forward pass holds: with gradient checkpointing far less, for 8 bits as well."""
    import torch

    from studio.training.model.load import load_base
    from tests.studio.training.steps import Recorder, make_context, model_value
    from tests.tiny import make_tiny_model

    folder = make_tiny_model(bench.place / "model", layers=16, hidden=1024)
    held: dict[str, int] = {}
    for quantization in ("none", "nf4", "int8"):
        value = model_value(folder, quantization=quantization, dtype="bfloat16")
        model = load_base(make_context(bench.place, Recorder()), value).train()
        model.requires_grad_(False)
        model.enable_input_require_grads()
        ids = torch.randint(0, 260, (4, 512), device="cuda")
        for checkpointing in (False, True):
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            before = torch.cuda.memory_allocated()
            logits = model(ids, use_cache=False).logits
            name = f"{quantization}{', checkpointing' if checkpointing else ''}"
            held[name] = (torch.cuda.memory_allocated() - before) // MIB
            logits.float().sum().backward()
            del logits
        del model
        free_memory()
    saved = {q: held[f"{q}, checkpointing"] < 0.5 * held[q] for q in ("none", "nf4", "int8")}
    return {"held_mib": held, "ok": all(saved.values())}


def memory_in_loading(bench: Bench) -> Found:
    """Out of memory while a model is loaded and quantized ends as such, not as a fault of the program."""
    import torch

    from studio.runs.failures import failure
    from studio.training.model.load import load_base
    from tests.studio.training.steps import Recorder, make_context, model_value
    from tests.tiny import make_tiny_model

    folder = make_tiny_model(bench.place / "model", layers=24, hidden=1024)
    value = model_value(folder, quantization="nf4", dtype="bfloat16")
    total = torch.cuda.mem_get_info()[1]
    outcomes: dict[int, str] = {}
    for mib in (20, 60, 100, 140, 2000):
        torch.cuda.set_per_process_memory_fraction(mib * MIB / total)
        try:
            load_base(make_context(bench.place, Recorder()), value)
            outcomes[mib] = "loaded"
        except Exception as error:
            code = failure(error, "Train", bench.place)["code"]
            outcomes[mib] = f"{type(error).__name__}: {code}"
        free_memory()
    codes = set(outcomes.values())
    return {
        "limit in MiB: outcome": outcomes,
        "ok": outcomes[2000] == "loaded" and all("memory" in c for c in codes - {"loaded"}),
    }


def memory_in_a_step(bench: Bench) -> Found:
    """A limit that the batch does not fit: the run completes with the losses of a run without the limit."""
    import torch

    common = {"batch_size": 64, "max_steps": 3, "max_length": 64, "learning_rate": 1e-4}
    free = bench.train("free", rows=256, hidden=1024, **common)
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    bench.train("size", rows=256, hidden=1024, **{**common, "max_steps": 1})
    peak = torch.cuda.max_memory_reserved()
    free_memory()
    torch.cuda.set_per_process_memory_fraction(0.7 * peak / torch.cuda.mem_get_info()[1])
    capped = bench.train("capped", rows=256, hidden=1024, **common)
    recovered = [(e.get("step"), e.get("batch_size")) for e in capped.named("MemoryRecovered")]
    difference = apart(free.losses(), capped.losses())
    return {
        "peak_mib": peak // MIB,
        "recovered": recovered,
        "loss difference": difference,
        "ok": bool(recovered) and difference < 2e-2,
    }


def same_seed(bench: Bench) -> Found:
    """The same seed twice, and a training that was stopped and resumed: how far the losses are apart."""
    from studio.errors import Stopped

    kinds = [("float32", "none")]
    if bench.on_gpu:
        kinds += [("bfloat16", "none"), ("float16", "none"), ("bfloat16", "nf4")]
    differences: Found = {}
    for dtype, quantization in kinds:
        name = f"{dtype}, {quantization}"
        common: dict[str, Any] = {"max_steps": 8, "save_steps": 4, "batch_size": 4}
        common["adapter"] = {"dropout": 0.1}
        once, twice = (bench.train(f"{n} {name}", dtype, quantization, **common) for n in "ab")
        with contextlib.suppress(Stopped):
            bench.train(
                f"c {name}",
                dtype,
                quantization,
                stop=lambda seen: len(seen.losses()) >= 5,
                **common,
            )
        rest = bench.train(f"c {name}", dtype, quantization, **common).losses()
        differences[name] = {
            "twice": apart(once.losses(), twice.losses()),
            "resumed": apart(once.losses()[-len(rest) :], rest),
            "steps after the resume": len(rest),
        }
    limit = 5e-2 if bench.on_gpu else 0.0
    worst = max(max(d["twice"], d["resumed"]) for d in differences.values())
    return {**differences, "ok": worst <= limit}


def tests(bench: Bench) -> Found:
    """The project's own tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests", "-q", "--no-header"]
    ran = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = ran.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {
        "summary": lines[-1] if lines else ran.stderr[-300:],
        "failed": failed,
        "ok": not ran.returncode,
    }


def optimizers(bench: Bench) -> Found:
    """Every optimizer lowers the loss of four rows that are all in each step."""
    from typing import get_args

    from studio.node_settings.train import TrainSettings

    first_and_last: Found = {}
    failed: list[str] = []
    for name in get_args(TrainSettings.model_fields["optimizer"].annotation):
        dtype = "bfloat16" if bench.on_gpu else "float32"
        rate = {"sgd": 0.5, "adafactor": 1e-2, "muon": 2e-2}.get(name, 3e-3)
        try:
            losses = bench.train(
                name, dtype, optimizer=name, rows=4, batch_size=4, max_steps=8, learning_rate=rate
            ).losses()
        except Exception as error:
            first_and_last[name] = f"{type(error).__name__}: {error}"[:200]
            failed.append(name)
            continue
        first_and_last[name] = [round(losses[0], 3), round(losses[-1], 3)]
        if not losses[-1] < losses[0]:
            failed.append(name)
    return {"first and last loss": first_and_last, "failed": failed, "ok": not failed}


def methods(bench: Bench) -> Found:
    """The LoRA methods that are not research, in bfloat16 and on a base in NF4."""
    from studio.training.loop.train import train_adapter
    from tests.studio.training.methods import METHODS, inputs_for, train_settings
    from tests.studio.training.steps import Recorder, make_context

    passed = 0
    failed: Found = {}
    for method, variant in METHODS.items():
        for base in ("bfloat16", "nf4"):
            payload = variant.payload
            fits = payload.trains_on("nf4") if base == "nf4" else not payload.only_quantized
            if payload.research or not fits:
                continue
            root = bench.place / f"{method}-{base}"
            root.mkdir()
            try:
                seen = Recorder()
                settings = train_settings(method, max_steps=4)
                train_adapter(make_context(root, seen), inputs_for(root, method, base), settings)
                passed += 1
            except Exception as error:
                if getattr(error, "code", "") != "method_dtype":
                    failed[f"{method}, {base}"] = f"{type(error).__name__}: {error}"[:200]
    return {"passed": passed, "failed": failed, "ok": passed > 0 and not failed}


def estimate(bench: Bench) -> Found:
    """The estimate of the training against what torch reserved, for whole runs of three projects."""
    import estimate_step

    figures: Found = {}
    for case in estimate_step.CASES:
        if case.name not in (
            "190M, bf16",
            "190M, NF4, 1 short row",
            "60M untied, full fine-tuning",
        ):
            continue
        place = bench.place / str(len(figures))
        place.mkdir()
        file = estimate_step.make_project(case, place)
        formula = estimate_step.estimated(file).peaks["training"]
        runs = place / "runs"
        subprocess.run(
            [sys.executable, "main.py", "run", str(file), "--runs", str(runs)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (path,) = runs.glob("*/events.jsonl")
        events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        training = [e for e in events if e.get("node") == "train" and "vram_reserved_gib" in e]
        peak = max(e["vram_reserved_gib"] for e in training) * 2**30
        figures[case.name] = {
            "estimate_mib": round(formula / MIB),
            "reserved_mib": round(peak / MIB),
            "difference_percent": round(100 * (formula / peak - 1), 1),
        }
    worst = max(abs(f["difference_percent"]) for f in figures.values())
    return {**figures, "ok": worst <= 15}


def killed_host(bench: Bench) -> Found:
    """After the host of a run is killed, the memory of the card is free again."""
    import estimate_step

    case = next(c for c in estimate_step.CASES if c.name == "190M, bf16")
    file = estimate_step.make_project(case, bench.place)
    before = device_bytes()
    runs = bench.place / "runs"
    command = [sys.executable, "main.py", "run", str(file), "--runs", str(runs)]
    process = subprocess.Popen([*command, "--set", "train.max_steps=10000"], cwd=ROOT)
    pid, used = 0, 0
    end = time.monotonic() + 60
    while time.monotonic() < end and not (pid and used - before > 500 * MIB):
        time.sleep(0.2)
        for path in runs.glob("*/events.jsonl"):
            text = path.read_text(encoding="utf-8")
            events = [
                json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"
            ]
            pid = next((e["pid"] for e in events if e["event"] == "RunStarted"), 0)
            if any(e["event"] == "Metric" for e in events):
                used = device_bytes()
    os.kill(pid, signal.SIGKILL)
    process.wait(30)
    began = time.monotonic()
    while device_bytes() - before > 64 * MIB and time.monotonic() - began < 20:
        time.sleep(0.1)
    left = (device_bytes() - before) // MIB
    return {
        "used_mib": (used - before) // MIB,
        "left_mib": left,
        "after_s": round(time.monotonic() - began, 1),
        "ok": used - before > 500 * MIB and left <= 64,
    }


def device_bytes() -> int:
    """The memory in use on the first card, by all programs."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    finally:
        pynvml.nvmlShutdown()


CHECKS: dict[str, tuple[Callable[[Bench], Found], float, bool]] = {
    "context": (context, 60, True),
    "probe": (probe, 60, True),
    "varlen": (varlen, 60, True),
    "attention_memory": (attention_memory, 40, False),
    "int8_checkpointing": (int8_checkpointing, 60, False),
    "memory_in_loading": (memory_in_loading, 60, False),
    "memory_in_a_step": (memory_in_a_step, 90, False),
    "same_seed": (same_seed, 90, True),
    "tests": (tests, 180, False),
    "optimizers": (optimizers, 120, True),
    "methods": (methods, 180, True),
    "estimate": (estimate, 180, False),
    "killed_host": (killed_host, 120, False),
}
"""Name -> the check, its longest time in seconds, whether it also runs on a CPU."""


# ------------------------------------------------------------------ the command


def run_one(name: str, device: str) -> None:
    """Run a check in this process and print what it found as the last line."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print(json.dumps({"ok": False, "error": "torch finds no GPU"}), flush=True)
            return
    with tempfile.TemporaryDirectory(prefix="gpu-first-") as place:
        found = CHECKS[name][0](Bench(device, Path(place)))
    print(json.dumps(found, default=str), flush=True)


def run_all(names: list[str], device: str, budget_s: float) -> int:
    """Run each check in a process of its own; the number of those that failed."""
    started, failed = time.monotonic(), 0
    for name in names:
        _, limit, on_cpu = CHECKS[name]
        left = budget_s - (time.monotonic() - started)
        skipped = (
            "needs a GPU" if device == "cpu" and not on_cpu else "no time left" if left < 10 else ""
        )
        if skipped:
            print(json.dumps({"check": name, "ok": None, "skipped": skipped}), flush=True)
            continue
        began = time.monotonic()
        found = _in_a_process(name, device, min(limit, left))
        failed += found.get("ok") is False
        seconds = round(time.monotonic() - began, 1)
        line = {"check": name, "ok": found.pop("ok", None), **found, "seconds": seconds}
        print(json.dumps(line), flush=True)
    return failed


def _in_a_process(name: str, device: str, limit_s: float) -> Found:
    command = [sys.executable, __file__, "--check", name, "--device", device]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
        process.communicate()
        return {"ok": False, "error": f"not done after {limit_s:.0f} s"}
    if process.returncode:
        return {"ok": False, "error": errors.strip().splitlines()[-6:]}
    found: Found = json.loads(out.strip().splitlines()[-1])
    return found


def main() -> int:
    """Run the checks, and return 1 if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="NAME")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS")
    parser.add_argument("--check", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        run_one(options.check, options.device)
        return 0
    return 1 if run_all(options.only, options.device, options.budget) else 0


if __name__ == "__main__":
    sys.exit(main())

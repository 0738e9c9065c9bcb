"""The studio against plain Trainer + PEFT: the same rows, batches, threads and seed, side by side.

    python benchmarks/train.py --data rows.jsonl --steps 12 --rounds 7
    python benchmarks/train.py --data rows.jsonl --batching padding_free --against padded --ragged 12

Each round runs both in processes of their own, one after the other, in alternating order. The studio
runs as users run it: run host, events, checkpoints, memory sampler, and with ``--window`` the window
itself, drawing the curves of each run. Speed is tokens without padding per second, from the end of
the last warm-up step to the end of the last step. Peak memory is that of the training phase. A
comparison of speed counts only when the losses agree (packed rows come in other steps, so there they
are not compared): the exit code is 1 when they do not, or when
the studio is slower or needs more memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LOSS_LIMIT = {"fp32": 5e-5, "bf16": 5e-3}  # fp32: largest difference; bf16: mean difference
MEMORY_NOISE = 1.02


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="starter:smollm2-135m", help="starter, or a local folder"
    )
    parser.add_argument("--data", type=Path, required=True, help="JSONL that both sides read")
    parser.add_argument("--rows", type=int, default=0, help="use only the first rows (0: all)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup-steps", type=int, default=3, help="steps left out of the timing")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--train-on", choices=["answers", "all"], default="answers")
    ways = ["padded", "padding_free", "packed"]
    parser.add_argument("--batching", choices=ways, default="padding_free", help="of the studio")
    parser.add_argument(
        "--against",
        choices=["reference", "unfused", *ways],
        default="reference",
        help="compare with the plain script, or with the studio: without fused functions, or with another batching",
    )
    parser.add_argument(
        "--ragged", type=int, default=0, help="join 1 to so many chats into one row, seeded"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", action="store_true", help="the window follows every run")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    return parser.parse_args()


def prepare_model(name: str, folder: Path) -> Path:
    """The model as a local folder; a starter is fetched and imported once."""
    from studio.graph.context import StepContext
    from studio.graph.registry import load_registry
    from studio.node_settings.base_model import BaseModelSettings
    from studio.training.model.base_model import prepare_base_model

    context = StepContext(
        "base", "Base model", folder, folder, Path.cwd(), load_registry(), lambda event: None
    )
    return Path(prepare_base_model(context, BaseModelSettings(model=name)).path)


def first_rows(data: Path, rows: int, folder: Path) -> Path:
    """The file that both sides read."""
    if not rows:
        return data.resolve()
    lines = [x for x in data.read_text(encoding="utf-8").splitlines() if x.strip()][:rows]
    cut = folder / "rows.jsonl"
    cut.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return cut


def ragged_rows(data: Path, most: int, folder: Path) -> Path:
    """The same chats in rows of very different lengths: each joins 1 to ``most`` of them."""
    lines = [json.loads(x) for x in data.read_text(encoding="utf-8").splitlines() if x.strip()]
    draw, rows = random.Random(0), []
    while lines:
        count = draw.randint(1, most)
        taken, lines = lines[:count], lines[count:]
        rows.append({"messages": [m for row in taken for m in row["messages"]]})
    joined = folder / "ragged.jsonl"
    joined.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return joined


def run_reference(a: argparse.Namespace, model: Path, data: Path) -> dict[str, Any]:
    """One run of the plain script."""
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "reference_peft.py"),
        "--model-dir",
        str(model),
        "--data",
        str(data),
        "--seq-len",
        str(a.max_length),
        "--lora-r",
        str(a.rank),
        "--batch",
        str(a.batch),
        "--grad-accum",
        str(a.accumulation),
        "--steps",
        str(a.steps),
        "--dtype",
        a.dtype,
        "--warmup-steps",
        str(a.warmup_steps),
        "--threads",
        str(a.threads),
    ]
    command += ["--full-loss"] if a.train_on == "all" else []
    command += ["--gradient-checkpointing"] if a.gradient_checkpointing else []
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"the reference failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "tokens_per_s": result["tokens_per_s"],
        "peak_rss_mb": result["peak_rss_mb"],
        "peak_vram_mb": result["peak_vram_mb"],
        "losses": result["losses"],
        "tokens": result["tokens"],
        "cpu_ms_per_token": result["cpu_ms_per_token"],
    }


def run_other(a: argparse.Namespace, model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """One run of the other side."""
    if a.against == "reference":
        return run_reference(a, model, data)
    if a.against == "unfused":
        return run_studio(a, model, data, folder, a.batching, fused=False)
    return run_studio(a, model, data, folder, a.against)


def graph_of(
    a: argparse.Namespace, model: Path, data: Path, batching: str, fused: bool = True
) -> Any:
    """The project that the studio runs."""
    from studio.graph.graph import Graph, Node, Wire

    train = {
        "max_steps": a.steps,
        "batch_size": a.batch,
        "max_length": a.max_length,
        "seed": 0,
        "gradient_accumulation_steps": a.accumulation,
        "learning_rate": 2e-4,
        "lr_scheduler": "constant",
        "warmup_ratio": 0.0,
        "train_on": a.train_on,
        "gradient_checkpointing": a.gradient_checkpointing,
        "batching": batching,
        "fused": fused,
    }
    nodes = (
        Node("data", "dataset", {"source": str(data), "validation_fraction": 0.0}),
        Node(
            "base",
            "base_model",
            {
                "model": str(model),
                "dtype": {"fp32": "float32", "bf16": "bfloat16"}[a.dtype],
            },
        ),
        Node("lora", "lora", {"r": a.rank, "alpha": 16}),
        Node("train", "train", train),
    )
    wires = (
        Wire("data", "dataset", "train", "dataset"),
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
    )
    return Graph("Benchmark", nodes, wires)


def run_studio(
    a: argparse.Namespace, model: Path, data: Path, folder: Path, batching: str, fused: bool = True
) -> dict[str, Any]:
    """One run in the run host, in a runs folder of its own so that nothing is taken from cache."""
    from studio.graph.registry import load_registry
    from studio.runs import host
    from studio.runs.folder import RunFolder
    from studio.runs.follow import EventReader
    from studio.runs.plan import compile_plan

    graph = graph_of(a, model, data, batching, fused)
    compiled = compile_plan(graph, load_registry(), folder)
    if compiled.plan is None:
        sys.exit("\n".join(p.sentence for p in compiled.problems))
    runs = Path(tempfile.mkdtemp(prefix="runs-", dir=folder))
    run = RunFolder.create(runs, compiled.plan, graph)
    process = host.start(run)
    cpu: dict[int, float] = {}
    reader, events, watched = EventReader(run.events_path), [], Peak(process.pid)
    while True:
        new = reader.read()
        events += new
        if any(e.name == "Phase" and e.get("phase") == "train" for e in new):
            watched.begin()
        if any(e.name == "Phase" and e.get("phase") == "save" for e in new):
            watched.end()
        for e in new:
            if e.name == "Metric" and e.get("step") in (a.warmup_steps, a.steps):
                cpu[e.get("step")] = cpu_seconds(process.pid)
        if any(e.name == "RunFinished" for e in new) or process.poll() is not None:
            break
        time.sleep(0.02)
    process.wait()
    events += reader.read()
    status = next((e.get("status") for e in events if e.name == "RunFinished"), "died")
    if status != "completed":
        sys.exit(
            f"the studio's run {status}; see {run.log_path}:\n{run.log_path.read_text(encoding='utf-8')[-2000:]}"
        )
    steps = [e for e in events if e.name == "Metric" and e.get("loss") is not None]
    timed = steps[a.warmup_steps :]
    seconds = steps[-1].time - steps[a.warmup_steps - 1].time
    video = [e.get("vram_reserved_gib") for e in events if e.get("vram_reserved_gib") is not None]
    tokens = sum(e.get("tokens") for e in timed)
    return {
        "tokens_per_s": round(tokens / seconds, 3),
        "tokens": tokens,
        "peak_rss_mb": watched.peak_mb or max(e.get("ram_process_gib") for e in steps) * 1024,
        "peak_vram_mb": max(video) * 1024 if video else None,
        "losses": [e.get("loss") for e in steps],
        "cpu_ms_per_token": round(1e3 * (cpu[a.steps] - cpu[a.warmup_steps]) / tokens, 4),
    }


WINDOW = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from studio.runs.folder import RunFolder
from ui import app as program
application = program.make_application()
session = program.open_session(application)
seen = set()
def look():
    for plan in Path(sys.argv[1]).glob("runs-*/*/plan.json"):
        run = RunFolder(plan.parent)
        if run.id not in seen and session.runs.phase == "idle" and run.is_running():
            seen.add(run.id)
            session.runs.attach(run)
            print(run.id, flush=True)
timer = QTimer()
timer.timeout.connect(look)
timer.start(200)
sys.exit(application.exec())
"""


def open_window(folder: Path) -> subprocess.Popen[str]:
    """The real window, in a process of its own, that attaches to every run in ``folder``."""
    environment = {**os.environ, "LORA_STUDIO_HOME": str(folder / "home")}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    return subprocess.Popen(
        [sys.executable, "-c", WINDOW, str(folder)],
        cwd=ROOT,
        env=environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def close_window(window: subprocess.Popen[str]) -> int:
    """End the window; returns how many runs it followed."""
    window.terminate()
    out, _ = window.communicate()
    return len(out.split())


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return float("nan")
    return float(times.user + times.system)


class Peak:
    """Peak resident memory of another process between ``begin`` and ``end`` (Linux only)."""

    def __init__(self, pid: int) -> None:
        self.folder = Path("/proc") / str(pid)
        self.peak_mb: float | None = None

    def begin(self) -> None:
        """Forget the peak so far; training announces itself more than once."""
        if self.peak_mb is None:
            self.peak_mb = 0.0
            try:
                (self.folder / "clear_refs").write_text("5", encoding="utf-8")
            except OSError:
                self.peak_mb = None

    def end(self) -> None:
        """Read the peak since ``begin``."""
        try:
            status = (self.folder / "status").read_text(encoding="utf-8")
        except OSError:
            return
        lines = [x for x in status.splitlines() if x.startswith("VmHWM")]
        if lines and self.peak_mb is not None:
            self.peak_mb = round(int(lines[0].split()[1]) / 1024, 1)


def summary(a: argparse.Namespace, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, ratios and the loss gate over all rounds."""

    def median(side: str, key: str) -> float | None:
        values = [r[side][key] for r in rounds if r[side][key] is not None]
        return round(statistics.median(values), 3) if values else None

    sides = {
        side: {
            k: median(side, k)
            for k in ("tokens_per_s", "cpu_ms_per_token", "peak_rss_mb", "peak_vram_mb")
        }
        for side in ("studio", "reference")
    }
    ratios = [r["studio"]["tokens_per_s"] / r["reference"]["tokens_per_s"] for r in rounds]
    gaps = [
        abs(x - y)
        for r in rounds
        for x, y in zip(r["studio"]["losses"], r["reference"]["losses"], strict=True)
    ]
    gap = max(gaps) if a.dtype == "fp32" else statistics.mean(gaps)
    memory = "peak_vram_mb" if sides["studio"]["peak_vram_mb"] else "peak_rss_mb"
    share = (sides["studio"][memory] or 0) / (sides["reference"][memory] or 1)
    return {
        **sides,
        "rounds": len(rounds),
        "speed_ratio": round(statistics.median(ratios), 3),
        "speed_ratios": [round(x, 3) for x in ratios],
        "memory_ratio": round(share, 3),
        "loss_gap": gap,
        "loss_limit": LOSS_LIMIT[a.dtype],
        "same_losses": not comparable(a) or gap <= LOSS_LIMIT[a.dtype],
        "same_tokens": all(r["studio"]["tokens"] == r["reference"]["tokens"] for r in rounds),
        "final_loss": {s: rounds[-1][s]["losses"][-1] for s in ("studio", "reference")},
        "config": {k: str(v) for k, v in vars(a).items()},
    }


def comparable(a: argparse.Namespace) -> bool:
    """Whether both sides have the same rows in each step: not when one of them is packed."""
    return (a.batching == "packed") == (a.against == "packed")


def show(result: dict[str, Any]) -> None:
    """The result as a small table."""
    print(f"{'':12}{'tokens/s':>12}{'peak RAM MB':>14}{'peak VRAM MB':>14}")
    for side in ("studio", "reference"):
        row = result[side]
        video = row["peak_vram_mb"] if row["peak_vram_mb"] is not None else "-"
        print(f"{side:12}{row['tokens_per_s']:>12.1f}{row['peak_rss_mb']:>14.0f}{video:>14}")
    costs = {s: result[s]["cpu_ms_per_token"] for s in ("studio", "reference")}
    print(f"processor time per token, ms (steadier on a busy machine): {costs}")
    ratios = f"speed ×{result['speed_ratio']}, memory ×{result['memory_ratio']}"
    print(f"{ratios}, medians of {result['rounds']} rounds")
    print(f"losses differ by {result['loss_gap']:.2g} (limit {result['loss_limit']:g})")


def main() -> int:
    """Run the rounds and print the result."""
    a = parse()
    a.threads = a.threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(a.threads)
    # The run host sets this for itself; both sides get it, so that a busy machine is not the judge.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = prepare_model(a.model, folder), first_rows(a.data, a.rows, folder)
        data = ragged_rows(data, a.ragged, folder) if a.ragged else data
        rounds: list[dict[str, Any]] = []
        window = open_window(folder) if a.window else None
        for number in range(a.rounds):
            sides = [
                ("studio", lambda: run_studio(a, model, data, folder, a.batching)),
                ("reference", lambda: run_other(a, model, data, folder)),
            ]
            result = {name: run() for name, run in (sides if number % 2 == 0 else sides[::-1])}
            rounds.append(result)
            if not a.json:
                speeds = {k: round(v["tokens_per_s"], 1) for k, v in result.items()}
                print(f"round {number + 1}: tokens/s {speeds}", flush=True)
        followed = close_window(window) if window else 0
    result = {**summary(a, rounds), "runs_followed_by_window": followed}
    if window is not None and followed < a.rounds:
        sys.exit(f"the window followed only {followed} of {a.rounds} runs: no comparison")
    print(json.dumps(result)) if a.json else show(result)
    good = (
        result["same_losses"]
        and result["speed_ratio"] >= 1
        and result["memory_ratio"] <= MEMORY_NOISE
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

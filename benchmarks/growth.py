"""How speed and memory grow with length, rank, batch and layers, beside plain Trainer + PEFT, as pictures.

    python benchmarks/growth.py --data assets/data/wordnet8_train.jsonl --out growth.json
    python benchmarks/growth.py --out growth.json --draw docs

Each point is the median of the ratios of ``--rounds`` pairs of runs, in alternating order, as in
``benchmarks/train.py``; a side that runs out of memory or fails ends the benchmark. Points that ``--out`` holds are not
measured again, so that an interrupted benchmark goes on. Rows are joined chats, cut to the length; on the axis of the
batch they have different lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train import prepare_model, ragged_rows, run_reference, run_studio

AXES = {
    "length": (128, 256, 512, 1024, 2048, 4096, 8192),
    "rank": (4, 16, 64, 256),
    "batch": (1, 2, 4, 8),
    "layers": (6, 12, 18, 24, 30),
}
TITLES = {
    "length": "Tokens per row (1 row per step)",
    "rank": "Rank (1 row of 512 tokens)",
    "batch": "Rows per step (of different lengths, up to 512 tokens)",
    "layers": "Decoder layers (1 row of 512 tokens)",
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="JSONL of chats")
    parser.add_argument("--model", default="starter:smollm2-135m")
    parser.add_argument("--axes", default=",".join(AXES), help="those to measure")
    parser.add_argument("--most", type=int, default=8192, help="the longest rows")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--warmup-steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--out", type=Path, required=True, help="JSON with the points")
    parser.add_argument("--draw", type=Path, help="draw the points into this folder instead")
    return parser.parse_args()


def rows_of(data: Path, length: int, folder: Path) -> Path:
    """Rows of joined chats that all have at least ``length`` tokens: a token has about four letters."""
    lines = [json.loads(x) for x in data.read_text(encoding="utf-8").splitlines() if x.strip()]
    draw, rows = random.Random(0), []
    for _ in range(24):
        messages: list[Any] = []
        while sum(len(m["content"]) + 20 for m in messages) < 6 * length:
            messages += draw.choice(lines)["messages"]
        rows.append({"messages": messages})
    file = folder / f"rows-{length}.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


def shortened(model: Path, layers: int, folder: Path) -> Path:
    """The model with its first ``layers`` decoder layers."""
    from safetensors.torch import load_file, save_file

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if layers >= config["num_hidden_layers"]:
        return model
    made = folder / f"layers-{layers}"
    made.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and "index" not in file.name:
            shutil.copy(file, made)
    config["num_hidden_layers"] = layers
    config.pop("layer_types", None)
    (made / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {}
    for file in model.glob("*.safetensors"):
        tensors.update(load_file(file))
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
    }
    save_file(kept, made / "model.safetensors", {"format": "pt"})
    return made


def measure(a: argparse.Namespace) -> None:
    """Measure all points that are missing."""
    points: dict[str, Any] = json.loads(a.out.read_text("utf-8")) if a.out.exists() else {}
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepare_model(a.model, folder)
        ragged = ragged_rows(a.data, 12, folder)
        for axis in a.axes.split(","):
            for value in AXES[axis]:
                key = f"{axis} {value}"
                if key in points or (axis == "length" and value > a.most):
                    continue
                length = value if axis == "length" else 512
                run = Namespace(
                    steps=a.steps,
                    warmup_steps=a.warmup_steps,
                    batch=value if axis == "batch" else 1,
                    accumulation=1,
                    max_length=length,
                    rank=value if axis == "rank" else 16,
                    dtype=a.dtype,
                    train_on="answers",
                    gradient_checkpointing=False,
                    threads=threads,
                )
                data = ragged if axis == "batch" else rows_of(a.data, length, folder)
                made = shortened(model, value, folder) if axis == "layers" else model
                points[key] = point(run, made, data, folder, a.rounds)
                print(key, points[key], flush=True)
                a.out.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")


def point(run: Namespace, model: Path, data: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Medians of both sides, the ratio of their speeds, and how far their losses are apart."""
    found: dict[str, list[dict[str, Any]]] = {"studio": [], "plain": []}
    for number in range(rounds):
        sides = [
            ("studio", lambda: run_studio(run, model, data, folder, "padding_free")),
            ("plain", lambda: run_reference(run, model, data)),
        ]
        for side, once in sides if number % 2 == 0 else sides[::-1]:
            found[side].append(once())
    pairs = list(zip(found["studio"], found["plain"], strict=True))
    gaps = [abs(x - y) for s, p in pairs for x, y in zip(s["losses"], p["losses"], strict=True)]
    return {
        **{
            f"{side} {what}": statistics.median(r[key] for r in runs)
            for side, runs in found.items()
            for what, key in (("tokens/s", "tokens_per_s"), ("MB", "peak_rss_mb"))
        },
        "ratio": round(
            statistics.median(s["tokens_per_s"] / p["tokens_per_s"] for s, p in pairs), 3
        ),
        "loss gap": max(gaps),
        "rounds": rounds,
    }


def draw(points: dict[str, Any], folder: Path) -> None:
    """A picture for each axis: tokens per second and peak memory, of both sides."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["PYQTGRAPH_QT_LIB"] = "PySide6"
    import pyqtgraph as pg
    from pyqtgraph.exporters import ImageExporter

    pg.mkQApp()
    pg.setConfigOptions(background="w", foreground="k", antialias=True)
    for axis, values in AXES.items():
        known = [v for v in values if f"{axis} {v}" in points]
        if not known:
            continue
        layout = pg.GraphicsLayoutWidget(size=(960, 340))
        for what, title in (("tokens/s", "Tokens per second"), ("MB", "Peak memory, MB")):
            plot = layout.addPlot(title=title)
            highest = 0.0
            plot.addLegend(offset=(-10, -10) if what == "tokens/s" else (10, 10))
            plot.getAxis("left").setWidth(52)
            plot.getAxis("left").enableAutoSIPrefix(False)
            plot.setLabel("bottom", TITLES[axis])
            plot.getAxis("bottom").setTicks([[(n, str(v)) for n, v in enumerate(known)]])
            for side, color in (("studio", "#1f6fd1"), ("plain", "#c2571a")):
                heights = [points[f"{axis} {v}"][f"{side} {what}"] for v in known]
                plot.plot(
                    range(len(known)),
                    heights,
                    pen=pg.mkPen(color, width=2),
                    symbol="o",
                    symbolBrush=color,
                    symbolPen=None,
                    name="LoRA Studio" if side == "studio" else "Trainer + PEFT",
                )
                highest = max(highest, *heights)
            plot.setYRange(0, 1.15 * highest)
        layout.show()
        pg.QtWidgets.QApplication.processEvents()
        ImageExporter(layout.scene()).export(str(folder / f"growth-{axis}.png"))


def main() -> None:
    """Measure, or draw."""
    a = parse()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if a.draw:
        draw(json.loads(a.out.read_text("utf-8")), a.draw)
    else:
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        measure(a)


if __name__ == "__main__":
    main()

"""How much memory and time a large data file takes: `python benchmarks/data.py [megabytes]`.

Writes a JSONL file of that size (1500 by default) into a temporary folder, then measures in fresh
processes: the Dataset step (highest resident memory, time, longest wait between signs of progress),
a stop in the middle of it, and any row of the file by number. Each figure has the limit it is held to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LIMITS = {"peak_mb": 500.0, "silence_s": 2.0, "stop_s": 2.0, "first_row_s": 1.0}


def write(path: Path, megabytes: int) -> int:
    """Rows of about 700 bytes with different texts; returns how many."""
    rows = 0
    words = [f"word{i * 7919 % 10_007}" for i in range(4000)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                text = " ".join(words[rows * 31 % 3900 :][:40])
                row = {"prompt": f"question {rows}: {text}", "completion": f"{text} answer {rows}"}
                file.write(json.dumps(row) + "\n")
                rows += 1
    return rows


def step(source: Path, folder: Path, stop_after: float) -> dict[str, Any]:
    """Run the Dataset step here; in a process of its own, so that its memory is its own."""
    import resource

    from studio.errors import Stopped
    from studio.graph.context import StepContext
    from studio.graph.registry import load_registry
    from studio.node_settings.dataset import DatasetSettings
    from studio.training.data.rows import prepare_rows

    signs, computed = [time.perf_counter()], [time.process_time()]
    asked = asked_cpu = 0.0

    def stop() -> bool:
        nonlocal asked, asked_cpu
        if stop_after and time.perf_counter() - signs[0] > stop_after and not asked:
            asked = time.perf_counter() + 0.05  # as if the user pressed Stop a moment later
            asked_cpu = time.process_time()
        return bool(asked) and time.perf_counter() >= asked

    def sign(event: object) -> None:
        signs.append(time.perf_counter())
        computed.append(time.process_time())

    context = StepContext(
        node="data",
        title="Dataset",
        folder=folder,
        checkpoints=folder / "kept",
        project_dir=folder,
        registry=load_registry(),
        emit_event=sign,
        stop_requested=stop,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    rows = 0
    try:
        value = prepare_rows(
            context, DatasetSettings(source=str(source), deduplicate=not stop_after)
        )
        rows = value.train_rows + value.validation_rows
    except Stopped:
        pass
    now = time.perf_counter()
    return {
        "rows": rows,
        "seconds": now - signs[0],
        "stop_s": now - asked if asked else None,
        "stop_cpu_s": time.process_time() - asked_cpu if asked else None,
        "silence_s": max(b - a for a, b in pairwise(signs)),
        "silence_cpu_s": max(b - a for a, b in pairwise(computed)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "start_mb": before,
    }


def window(source: Path, rows: int) -> dict[str, Any]:
    """A window on the file: the first row, the count, and a row near the end."""
    import resource

    from studio.data.window import open_window
    from studio.graph.registry import load_registry
    from studio.node_settings.dataset import DatasetSettings

    variants = load_registry().variants["format"]
    times = [time.perf_counter()]
    with open_window(DatasetSettings(source=str(source)), source.parent, variants) as shown:
        shown.rows(1, 50)
        times.append(time.perf_counter())
        assert shown.count() == rows
        times.append(time.perf_counter())
        shown.rows(rows - 1, rows - 1)
        times.append(time.perf_counter())
    names = ("first_row_s", "count_s", "row_near_end_s")
    values = {n: b - a for n, a, b in zip(names, times, times[1:], strict=False)}
    return {**values, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def measured(*arguments: object) -> dict[str, Any]:
    """The values of a part, from a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(title: str, values: dict[str, Any]) -> bool:
    """Print the values of a part; whether all keep their limits."""
    good = True
    for name, value in values.items():
        if value is None:
            continue
        limit = LIMITS.get(name)
        kept = limit is None or value <= limit
        good = good and kept
        mark = "" if limit is None else f"   (at most {limit:g}{'' if kept else ', NOT KEPT'})"
        print(f"{title:12} {name:16} {value:12,.2f}{mark}")
    return good


def main(megabytes: int) -> int:
    """Write the file, measure all parts, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "rows.jsonl"
        rows = write(source, megabytes)
        print(f"{source.stat().st_size / 1e6:,.0f} MB, {rows:,} rows")
        good = show("window", measured("window", source, rows))
        good &= show("stop", measured("step", source, folder / "stopped", megabytes / 500))
        good &= show("step", measured("step", source, folder / "made", 0))
    return 0 if good else 1


if __name__ == "__main__":
    part = sys.argv[1] if len(sys.argv) > 1 else "1500"
    if part == "step":
        Path(sys.argv[3]).mkdir()
        print(json.dumps(step(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))))
    elif part == "window":
        print(json.dumps(window(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        sys.exit(main(int(part)))

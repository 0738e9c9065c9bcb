"""How fast rows are read, converted and shown: `python benchmarks/rows.py [other checkout]`.

For 100,000 rows of three kinds: converting a row, 50 rows at the start and at random places as the Rows
tab asks for them (in this process, and through the data host), and one pass over the file. Each is the
median of CPU time, measured in a fresh process. With another checkout both are measured in turn, so that
the load of the machine affects both.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS, PAGE, ROUNDS, CONVERTED = 100_000, 50, 3, 20_000
KINDS = ("chat", "alpaca", "long chat")


def lines(kind: str) -> Iterator[str]:
    """Rows of 5 to 50 words, or conversations of nine messages; no two alike."""
    for n in range(ROWS):
        asked = f"What is {n} in words, and why? Tell me in {n % 37} steps."
        answer = f"It is {n}. " + "This is so because of reasons. " * (n % 7)
        row: dict[str, Any] = {"instruction": asked, "input": f"{n}" * (n % 3), "output": answer}
        if kind != "alpaca":
            turn = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            system = [{"role": "system", "content": "You help."}]
            row = {"messages": turn if kind == "chat" else [*system, *turn * 4], "id": n}
        yield json.dumps(row) + "\n"


def median_ms(
    action: Callable[[int], object], places: list[int], clock: Callable[[], float]
) -> float:
    """The median time of an action at each of these places."""
    taken = []
    for place in places:
        began = clock()
        action(place)
        taken.append(clock() - began)
    return statistics.median(taken) * 1000


def measure(source: Path) -> dict[str, float]:
    """All values for one file, in this process."""
    import resource

    from studio.data.reading.reader import read_rows
    from studio.data.window import open_window
    from studio.graph.registry import load_registry
    from studio.node_settings.dataset import DatasetSettings
    from studio.preview.client import DataClient
    from studio.training.data_host.preview import preview

    variants = load_registry().variants["format"]
    settings, folder = {"source": source.name}, source.parent
    start = [1] * 60
    anywhere = random.Random(0).choices(range(1, ROWS - PAGE), k=30)

    def show(first: int) -> None:
        preview(settings, folder, variants, first, PAGE)

    show(1)
    found = {
        "50 first rows, ms": median_ms(show, start, time.process_time),
        "any 50 rows, ms": median_ms(show, anywhere, time.process_time),
    }
    with open_window(DatasetSettings(source=source.name), folder, variants) as window:
        chosen = window.chosen

    def convert(rows: int) -> None:
        for row in islice(read_rows(source), rows):
            chosen.convert(row, row.path)

    def read(rows: int) -> None:
        for _ in islice(read_rows(source), rows):
            pass

    sizes = [CONVERTED] * 5
    both = median_ms(convert, sizes, time.process_time)
    alone = median_ms(read, sizes, time.process_time)
    found["convert, µs a row"] = (both - alone) * 1000 / CONVERTED
    began = time.process_time()
    for row in read_rows(source):
        chosen.convert(row, row.path)
    found["read and convert all, s"] = time.process_time() - began
    found["memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    with DataClient() as client:

        def ask(first: int) -> None:
            more = {"settings": settings, "project_dir": str(folder), "first": first}
            *_, reply = client.replies("preview", limit=PAGE, **more)
            assert reply.kind == "result", reply.data

        ask(1)
        found["50 first rows, host, ms"] = median_ms(ask, start, time.perf_counter)
        found["any 50 rows, host, ms"] = median_ms(ask, anywhere, time.perf_counter)
    return found


def main(trees: list[Path]) -> None:
    """Measure each kind in each checkout, in turn, and print the medians."""
    with tempfile.TemporaryDirectory() as name:
        for kind in KINDS:
            source = Path(name) / f"{kind.replace(' ', '_')}.jsonl"
            with source.open("w", encoding="utf-8") as file:
                file.writelines(lines(kind))
            taken: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
            for tree in trees * ROUNDS:
                command = [sys.executable, __file__, "--measure", str(source)]
                environment = {**os.environ, "PYTHONPATH": str(tree)}
                done = subprocess.run(
                    command,
                    capture_output=True,
                    encoding="utf-8",
                    check=True,
                    cwd=tree,
                    env=environment,
                )
                taken[tree].append(json.loads(done.stdout.splitlines()[-1]))
            for part in taken[trees[0]][0]:
                values = [statistics.median(t[part] for t in taken[tree]) for tree in trees]
                print(f"{kind:10} {part:26}" + "".join(f"{v:10.2f}" for v in values), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        main([ROOT, *(Path(p).resolve() for p in sys.argv[1:])])

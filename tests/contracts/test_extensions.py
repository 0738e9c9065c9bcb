"""The extensions in ARCHITECTURE.md, one of each kind, as they stand there: what they import, and a
project that runs all of them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("word_count", "wide_lora", "riddle", "focal", "zip_archive")
HEAVY = {"torch", "peft"}


def samples() -> dict[str, str]:
    """The source of each sample by the name of its module."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    named = ((re.match(r'"""(\w+)\.py: ', block), block) for block in blocks)
    return {found[1]: block for found, block in named if found}


def foreign_imports(source: str) -> list[str]:
    """What an extension imports beyond ``studio.api``, the standard library, and torch and peft
    inside functions."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            continue
        for module in modules:
            top = module.partition(".")[0]
            heavy = top in HEAVY and id(node) in inside
            if module != "studio.api" and top not in sys.stdlib_module_names and not heavy:
                found.append(module)
    return found


def test_there_is_one_sample_of_each_kind() -> None:
    assert tuple(samples()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_imports_the_public_interface_only(name: str) -> None:
    assert foreign_imports(samples()[name]) == []


@pytest.mark.parametrize(
    "source",
    [
        "from studio.graph.node_type import NodeType",
        "import studio.values",
        "from studio import errors",
        "import torch",
        "from .method import LoraMethod",
        "def run():\n    from studio.system import paths",
        "import numpy",
    ],
)
def test_another_import_is_found(source: str) -> None:
    assert foreign_imports(source)


def test_the_public_interface_loads_no_torch() -> None:
    code = "import sys, studio.api as a; print('torch' in sys.modules, all(map(a.__dict__.get, a.__all__)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_all_samples_work_in_one_run(tmp_path: Path) -> None:
    """The format reads, the method and the objective train, the exporter writes, the node counts."""
    site = tmp_path / "site"
    site.mkdir()
    for name, source in samples().items():
        (site / f"{name}.py").write_text(source, encoding="utf-8")
    make_tiny_model(tmp_path / "model")
    rows = [{"riddle": f"What is {i} + 1?", "solution": str(i + 1)} for i in range(24)]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    events = run(tmp_path, site)
    assert events[-1]["status"] == "completed"
    saved = {Path(e["path"]).name: e for e in events if e["event"] == "ArtifactSaved"}
    assert Path(saved["count.txt"]["path"]).read_text(encoding="utf-8") == "3"
    losses = [e["loss"] for e in events if e["event"] == "Metric" and e.get("loss") is not None]
    assert len(losses) == 2
    with zipfile.ZipFile(tmp_path / "out" / "weights.zip") as archive:
        config = json.loads(archive.read("adapter_config.json"))
    assert (config["r"], config["lora_alpha"]) == (4, 8)  # 4 * sqrt(16 / 4)


def run(folder: Path, site: Path) -> list[dict[str, object]]:
    """Run a project that uses every sample; returns its events."""
    nodes = [
        ("count", "word_count", {"text": "three little words"}),
        ("data", "dataset", {"source": "rows.jsonl", "split_mode": "none"}),
        ("base", "base_model", {"model": "model", "dtype": "float32"}),
        ("lora", "lora", {"method": "wide_lora", "r": 4, "alpha": 16}),
        ("train", "train", {"max_steps": 2, "objective": "focal"}),
        ("export", "export", {"format": "zip_archive", "folder": "out"}),
    ]
    wires = [
        ("base.model", "lora.model"),
        ("data.dataset", "train.dataset"),
        ("lora.model", "train.model"),
        ("train.adapter", "export.model"),
    ]
    project = {
        "format": "lora-studio",
        "version": 3,
        "nodes": [{"id": i, "type": t, "settings": s} for i, t, s in nodes],
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    file = folder / "samples.studio"
    file.write_text(json.dumps(project), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])),
        "LORA_STUDIO_EXTENSIONS": ",".join(NAMES),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "run", str(file)]
        + ["--runs", str(folder / "runs"), "--json"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]

"""A node type from another package: one file, found by its entry point, drawn, checked and run.

The package is made on disk as pip would leave it (a module and a ``.dist-info`` folder); nothing in
the studio is patched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NODE_FILE = '''
"""Counts the words of a text; the smallest useful node."""
from studio.api import REPORT, NodeType, Settings, output, setting


class WordCountSettings(Settings):
    text: str = setting("", "Text", "The text whose words are counted.", widget="multiline")


def run(context, inputs, settings):
    path = context.folder / "count.txt"
    path.write_text(str(len(settings.text.split())), encoding="utf-8")
    context.artifact("report", path)
    return {"report": {"path": str(path)}}


NODE = NodeType(
    id="word_count", title="Word count", version=1, category="Toys", help="Counts words.",
    settings=WordCountSettings, run=run, outputs=(output("report", REPORT, "Report"),),
)
'''


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """An installed extension in a folder of its own; returns the environment that sees it."""
    site = tmp_path / "site"
    info = site / "word_count_node-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "word_count_node.py").write_text(NODE_FILE, encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: word-count-node\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[lora_studio.nodes]\nword_count = word_count_node:NODE\n", encoding="utf-8"
    )
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def studio(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user calls it."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )


def test_the_node_is_listed_with_its_settings(outside: dict[str, str]) -> None:
    listed = studio(outside, "nodes", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "word_count" in listed.stdout
    assert "The text whose words are counted." in listed.stdout


def test_the_node_runs_in_the_run_host(outside: dict[str, str], tmp_path: Path) -> None:
    project = tmp_path / "words.studio"
    node = {"id": "count", "type": "word_count", "settings": {"text": "three little words"}}
    project.write_text(
        json.dumps({"format": "lora-studio", "version": 3, "nodes": [node], "wires": []}),
        encoding="utf-8",
    )
    ran = studio(outside, "run", str(project), "--runs", str(tmp_path / "runs"), "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    saved = next(e for e in events if e["event"] == "ArtifactSaved")
    assert Path(saved["path"]).read_text(encoding="utf-8") == "3"
    assert events[-1]["event"] == "RunFinished"
    assert events[-1]["status"] == "completed"


def test_without_the_package_the_node_is_named_as_missing(tmp_path: Path) -> None:
    project = tmp_path / "words.studio"
    node = {"id": "count", "type": "word_count", "settings": {"text": "x", "later": 1}}
    text = json.dumps({"format": "lora-studio", "version": 3, "nodes": [node], "wires": []})
    project.write_text(text, encoding="utf-8")
    checked = studio(dict(os.environ), "check", str(project))
    assert checked.returncode == 2
    assert "“word_count”" in checked.stdout + checked.stderr
    assert project.read_text(encoding="utf-8") == text

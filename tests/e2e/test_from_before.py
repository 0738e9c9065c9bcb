"""Projects and run folders made by an earlier version open, check, compile and resume as they did.

They lie in ``tests/fixtures/before``; its README says how they were made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from studio.graph.project import VERSION, load_project, save_project
from studio.graph.registry import load_registry
from studio.runs.folder import list_runs
from studio.runs.plan import compile_plan
from tests.e2e.studio_cli import studio
from tests.run_state import read_state

FILES = Path(__file__).parents[1] / "fixtures" / "before" / "files"
ROOT_LENGTH = 160
STORED_ROOT = "/before" + "-" * (ROOT_LENGTH - len("/before"))
PROJECTS = sorted(p.name for p in FILES.glob("*.studio"))
RUNS = ("runs-completed", "runs-full", "runs-killed", "runs-stopped")

pytestmark = pytest.mark.timeout(300)


def relocate(parent: Path) -> Path:
    """A copy of the files whose absolute paths lead to where it lies."""
    parent = parent.resolve()
    place = parent / ("x" * (ROOT_LENGTH - len(str(parent)) - 1))
    assert len(str(place)) == ROOT_LENGTH, "the folder for temporary files has too long a path"
    shutil.copytree(FILES, place)
    for path in [p for p in place.rglob("*") if p.is_file()]:
        data = path.read_bytes()
        if STORED_ROOT.encode() in data:
            path.write_bytes(data.replace(STORED_ROOT.encode(), str(place).encode()))
    for path in place.glob("runs-*/*/checkpoints/*/*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in manifest["files"].items():
            entry["sha256"] = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
        path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    for path in place.glob("runs-*/*/steps/*.json"):
        for name, _, time_ns in json.loads(path.read_text(encoding="utf-8"))["files"]:
            os.utime(name, ns=(time_ns, time_ns))
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy that tests read."""
    return relocate(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def recorded(place: Path) -> dict[str, Any]:
    """What the earlier version said of them."""
    found: dict[str, Any] = json.loads((place / "recorded.json").read_text(encoding="utf-8"))
    return found


def without_texts(problem: dict[str, Any]) -> dict[str, Any]:
    """A Problem without its sentences, which may be worded anew, and without the page of the guide, which is new."""
    return {k: v for k, v in problem.items() if k not in ("sentence", "hint", "title", "guide")}


ADDED = {
    "early_stopping_keeps_last",
    "no_training",
    "rate_for_method",
    "unused_column",
    "unused_node",
}
"""Warnings that the earlier version did not have."""


OTHER_DEFAULTS = {
    ("dataset", "documents"): "paragraph",
    ("train", "long_text"): "cut",
    ("train", "batching"): "padded",
}
"""Settings whose defaults have changed, with the earlier ones."""


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_is_saved_as_it_was_with_the_earlier_defaults(
    place: Path, tmp_path: Path, name: str
) -> None:
    save_project(tmp_path / name, load_project(place / name))
    before = json.loads((place / name).read_text(encoding="utf-8"))
    for node in before["nodes"]:
        stated = {s: v for (kind, s), v in OTHER_DEFAULTS.items() if kind == node["type"]}
        node["settings"] = {**stated, **node["settings"]}
    assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == {
        **before,
        "version": VERSION,
    }
    again = load_project(tmp_path / name)
    assert again == load_project(place / name)
    save_project(tmp_path / f"again-{name}", again)
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_compiles_to_the_same_plan(
    place: Path, recorded: dict[str, Any], name: str
) -> None:
    compiled = compile_plan(load_project(place / name), load_registry(), place)
    wanted = recorded["projects"][name]
    problems = [
        [p.node, p.field, p.code, p.severity] for p in compiled.problems if p.code not in ADDED
    ]
    assert problems == wanted["problems"]
    steps = [s.to_json() for s in compiled.plan.steps] if compiled.plan else None
    assert (steps is None) == (wanted["steps"] is None)
    changed: set[str] = set()
    for step, before in zip(steps or (), wanted["steps"] or (), strict=True):
        full = step["settings"]
        step["settings"] = known(full, before["settings"])
        sources = {source[0] for source in before["inputs"].values()}
        if full != before["settings"] or sources & changed:
            changed.add(step["node"])  # results of the earlier version are not used again
            step["fingerprint"] = before["fingerprint"]
        assert step == before


def known(settings: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the earlier version had, too."""
    return {
        name: known(settings[name], value) if isinstance(value, dict) else settings[name]
        for name, value in before.items()
    }


def test_the_terminal_finds_the_same_problems(place: Path, recorded: dict[str, Any]) -> None:
    for name in ("wrong.studio", "full.studio"):
        result = studio("check", place / name, "--json")
        wanted = [without_texts(p) for p in recorded["checks"][name]]
        found = [without_texts(p) for p in result.events if p["code"] not in ADDED]
        assert found == wanted
        assert result.code == (0 if recorded["projects"][name]["steps"] else 2)


@pytest.mark.parametrize("name", RUNS)
def test_the_terminal_lists_the_same_run(place: Path, recorded: dict[str, Any], name: str) -> None:
    listed = studio("runs", "--runs", place / name, "--json")
    known = recorded["runs"][name]
    rows = zip(listed.events, known, strict=True)
    assert [{key: row[key] for key in old} for row, old in rows] == known  # newer ones have more


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_read_back_as_its_events_say(
    place: Path, recorded: dict[str, Any], name: str
) -> None:
    (folder,) = list_runs(place / name)
    state = read_state(folder)
    lines = folder.events_path.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert state.status == recorded["runs"][name][0]["status"]
    assert list(state.nodes) == [s.node for s in folder.plan().steps]
    done = {e["node"] for e in events if e["event"] == "StepFinished"}
    assert {n for n, found in state.nodes.items() if found.state == "done"} == done
    losses = [e["loss"] for e in events if e["event"] == "Metric" and "loss" in e]
    assert state.nodes["train"].last_loss == losses[-1]
    saved = [e["path"] for e in events if e["event"] == "ArtifactSaved"]
    assert {a["path"] for a in state.artifacts} == set(saved)
    assert all(Path(p).exists() for p in saved)
    asked = [e for e in events if e["event"] == "Evaluation"]
    measured = {node: e["measures"] for node, e in state.evaluations.items()}
    assert measured == {e["node"]: e["measures"] for e in asked}


@pytest.mark.parametrize("name", ["killed", "stopped"])
def test_checkpoints_belong_to_the_plan_of_their_run(place: Path, name: str) -> None:
    """Otherwise resuming would start again."""
    from studio.node_settings.train import TrainSettings
    from studio.training.loop.train import identity_of
    from studio.values import AdaptedModelValue, DatasetValue

    (folder,) = list_runs(place / f"runs-{name}")
    made: dict[str, Any] = {}
    for path in (folder.path / "steps").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        made[record["node"]] = record["outputs"]
    settings = TrainSettings.model_validate(dict(folder.plan().step("train").settings))
    adapted = AdaptedModelValue.model_validate(made["lora"]["model"])
    identity = identity_of(adapted, DatasetValue.model_validate(made["data"]["dataset"]), settings)
    stated = TrainSettings.model_validate(dict(folder.graph().node("train").settings))
    assert (settings.batching, stated) == ("padded", settings)  # as the earlier version trained
    now = settings.model_copy(update={"batching": TrainSettings().batching})
    assert now.batching != "padded"
    assert (
        identity_of(adapted, DatasetValue.model_validate(made["data"]["dataset"]), now) != identity
    )
    manifests = [*(folder.path / "checkpoints").glob("train/step-*/manifest.json")]
    assert manifests
    for path in manifests:
        assert json.loads(path.read_text(encoding="utf-8"))["identity"] == identity


def rows(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Node types and variants of ``main.py nodes --json``."""
    found = [json.loads(line) for line in text.splitlines()]
    return {(row["kind"], row["id"]): row for row in found}


CHANGED = {("evaluate", "max_new_tokens")}
"""Settings whose default is another one by intent: 16 tokens cut most answers."""


def test_no_node_variant_or_setting_is_gone_or_has_another_default(place: Path) -> None:
    now = rows(studio("nodes", "--json").out)
    for key, old in rows((place / "nodes.jsonl").read_text(encoding="utf-8")).items():
        assert key in now, key
        for name in {"version", "category"} & old.keys():
            assert now[key][name] == old[name], (key, name)
        for side in {"inputs", "outputs"} & old.keys():
            ports = {p["name"]: p for p in now[key][side]}
            for port in old[side]:
                assert set(port["types"]) <= set(ports[port["name"]]["types"]), (key, port)
        settings = {s["name"]: s for s in now[key]["settings"]}
        for spec in old["settings"]:
            for name, value in spec.items():
                if name == "unit" or (key[1], spec["name"]) in CHANGED:
                    continue
                if name == "default" and (key[1], spec["name"]) in OTHER_DEFAULTS:
                    assert value == OTHER_DEFAULTS[key[1], spec["name"]]
                    continue
                found = settings[spec["name"]].get(name)
                same = set(value) <= set(found) if name == "choices" else found == value
                assert same, (key, spec["name"], name, value, found)


def test_no_command_or_option_is_gone(place: Path) -> None:
    helped = studio("--help").out
    for command, options in json.loads(
        (place / "commands.json").read_text(encoding="utf-8")
    ).items():
        assert f"main.py {command}" in helped
        result = studio(command, "--help").out.split()
        offered = {word.strip("[],.") for word in result}
        assert set(options) <= offered, (command, options)


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", ["talk", "full"])
def test_a_completed_run_is_computed_again_from_its_data(tmp_path: Path, name: str) -> None:
    """Rows are read by new rules since then: what does not depend on them is used again."""
    place = relocate(tmp_path)
    runs = place / {"talk": "runs-completed", "full": "runs-full"}[name]
    again = studio("run", place / f"{name}.studio", "--runs", runs, "--json")
    assert again.status == "completed", again.err[-2000:]
    finished = {e["node"]: e["cached"] for e in again.of("StepFinished")}
    project = load_project(place / f"{name}.studio")
    types = {node: project.node(node).type for node in finished}
    unchanged = {n for n, kind in types.items() if kind in ("base_model", "lora")}
    assert unchanged
    assert {n for n, cached in finished.items() if cached} == unchanged


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", ["killed", "stopped"])
def test_an_unfinished_run_resumes(tmp_path: Path, name: str) -> None:
    """The losses of its last steps are those of a run of the present code that was not ended."""
    place = relocate(tmp_path)
    runs = place / f"runs-{name}"
    (folder,) = list_runs(runs)
    resumed = studio("resume", folder.id, "--runs", runs, "--json")
    assert resumed.status == "completed", resumed.err[-2000:]
    (went_on,) = resumed.of("TrainResumed")
    assert went_on["step"] >= 20
    shutil.copy(folder.graph_path, place / "again.studio")  # with the values of --set
    straight = studio("run", place / "again.studio", "--runs", place / "straight", "--json")
    wanted = {e["step"]: e["loss"] for e in straight.of("Metric") if "loss" in e}
    losses = {e["step"]: e["loss"] for e in resumed.of("Metric") if "loss" in e}
    assert list(losses) == list(range(went_on["step"] + 1, 61))
    assert losses == pytest.approx({step: wanted[step] for step in losses}, rel=1e-3)

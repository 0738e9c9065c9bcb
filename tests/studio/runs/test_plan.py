"""Plans and fingerprints: what changes a result changes the fingerprint, and nothing else does."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.graph import edits
from studio.graph.graph import Graph, Node
from studio.graph.node_type import NodeType, Variant
from studio.graph.schema import Settings, setting
from studio.runs import fingerprint
from studio.runs.plan import compile_plan, plan_from_json
from tests.model_files import CONFIG, write_model
from tests.studio.runs import toy_runs


def prints(place: Path, **settings: dict) -> dict[str, str]:
    return {s.node: s.fingerprint for s in toy_runs.plan(place, **settings).steps}


def test_a_plan_survives_json(tmp_path: Path) -> None:
    plan = toy_runs.plan(tmp_path, train={"steps": 3})
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert [s.node for s in plan.steps] == ["source", "train", "block", "export"]
    assert plan.step("train").settings == {"steps": 3, "pause": 0.0, "save_every": 2}


def test_a_setting_that_an_older_plan_lacks_has_its_earlier_default() -> None:
    step = {
        "node": "t",
        "type": "train",
        "version": 2,
        "title": "T",
        "inputs": {},
        "fingerprint": "a" * 64,
    }
    for settings, wanted in (
        ({}, ("cut", "padded")),
        ({"long_text": "split", "batching": "packed"}, ("split", "packed")),
    ):
        data = {
            "version": 1,
            "name": "p",
            "project_dir": "/",
            "steps": [{**step, "settings": settings}],
        }
        found = plan_from_json(data).step("t").settings
        assert (found["long_text"], found["batching"]) == wanted


def test_a_damaged_plan_is_named() -> None:
    with pytest.raises(StudioError, match=r"plan\.json is damaged"):
        plan_from_json({"version": 1, "steps": [{"node": "a"}]})


def test_problems_instead_of_a_plan(tmp_path: Path) -> None:
    graph = Graph(nodes=(Node("a", "toy_train", {"steps": 0}),))
    compiled = compile_plan(graph, toy_runs.registry(), tmp_path)
    assert compiled.plan is None
    assert {(p.node, p.field, p.code) for p in compiled.problems} == {
        ("a", "steps", "invalid_setting"),
        ("a", "dataset", "unconnected"),
    }


def test_a_setting_changes_its_step_and_those_after_it(tmp_path: Path) -> None:
    before, after = prints(tmp_path), prints(tmp_path, train={"steps": 6})
    assert before["source"] == after["source"]
    assert all(before[n] != after[n] for n in ("train", "block", "export"))


def test_defaults_titles_and_positions_do_not_count(tmp_path: Path) -> None:
    graph = toy_runs.graph()
    same = edits.retitle(graph, "train", "Long night")
    same = edits.move(same, {"train": (500, 20)})
    same = edits.set_setting(same, "train", "steps", 5)
    same = edits.rename(same, "Another name")
    plans = [compile_plan(g, toy_runs.registry(), tmp_path).plan for g in (graph, same)]
    assert plans[0] is not None
    assert plans[1] is not None
    assert [s.fingerprint for s in plans[0].steps] == [s.fingerprint for s in plans[1].steps]
    assert plans[1].step("train").title == "Long night"


def test_the_content_of_a_file_counts_and_its_time_does_not(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    settings = {"source": {"file": "rows.txt"}}
    rows.write_text("one", encoding="utf-8")
    first = prints(tmp_path, **settings)
    os.utime(rows, (1, 1))
    assert prints(tmp_path, **settings) == first
    rows.write_text("two", encoding="utf-8")
    os.utime(rows, (1, 1))  # the same size and time: only a remembered hash could be wrong here
    os.utime(rows, (2, 2))
    assert prints(tmp_path, **settings)["source"] != first["source"]


def test_big_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 1000)
    os.utime(path, (1, 1))
    digest = fingerprint.file_sha256(path)
    monkeypatch.setattr(fingerprint.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert fingerprint.file_sha256(path) == digest


def test_a_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("abc", encoding="utf-8")
    times = path.stat()
    first = fingerprint.file_sha256(path)
    path.write_text("abd", encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint.file_sha256(path) != first


def test_a_moved_project_exports_to_a_new_place(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    first, second = (prints(p, export={"folder": "out"}) for p in places)
    assert first["block"] == second["block"]
    assert first["export"] != second["export"]
    assert prints(places[0])["export"] == prints(places[1])["export"]


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").symlink_to(tmp_path / "rows.txt")
    graph = toy_runs.graph(source={"file": "rows.txt"})
    assert compile_plan(graph, toy_runs.registry(), tmp_path).plan is not None  # not there
    (tmp_path / "rows.txt").unlink()
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("only Linux has a file that opens and cannot be read")
    (tmp_path / "rows.txt").symlink_to("/proc/self/mem")
    (problem,) = compile_plan(graph, toy_runs.registry(), tmp_path).problems
    assert (problem.node, problem.code) == ("source", "unreadable_file")


class _Own(Settings):
    rank: int = setting(4, "Rank", "A number.", ge=1)


class _WithVariant(Settings):
    method: str = setting("plain", "Method", "Which.", variant="adapter")
    method_settings: dict = setting({}, "Method settings", "Its settings.")


def _variant_node(version: int = 1) -> NodeType:
    return NodeType(
        "toy_variant",
        "Variant",
        version,
        "Toys",
        "Has a variant.",
        _WithVariant,
        lambda context, inputs, settings: {},
    )


def test_variants_and_versions_count() -> None:
    variants = [Variant("adapter", i, i, "A method.", _Own) for i in ("plain", "other")]
    known = toy_runs.registry()
    known = replace(known, variants={})
    known = known.with_nodes([_variant_node()]).with_variants(variants)

    def of(settings: dict, version: int = 1) -> str:
        node = _variant_node(version)
        full = fingerprint.resolved_settings(node, settings, known)
        return fingerprint.step_fingerprint(node, full, {}, Path("/"))

    default = of({})
    assert of({"method_settings": {"rank": 4}}) == default
    assert (
        len({default, of({"method_settings": {"rank": 5}}), of({"method": "other"}), of({}, 2)})
        == 4
    )


@pytest.mark.parametrize("name", ["rows.jsonl", " rows.jsonl "])
def test_new_rows_are_noticed_however_the_file_is_named(tmp_path: Path, name: str) -> None:
    found = []
    for word in ("a", "b"):
        (tmp_path / "rows.jsonl").write_text(
            f'{{"prompt": "{word}", "completion": "{word}"}}\n', encoding="utf-8"
        )
        graph = Graph(nodes=(Node("data", "dataset", {"source": name}),))
        plan = compile_plan(graph, toy_runs.registry(), tmp_path).plan
        assert plan is not None
        found.append(plan.steps[0].fingerprint)
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["tiny", " tiny "])
@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "tokenizer.model"])
def test_a_changed_model_folder_is_noticed(tmp_path: Path, name: str, file: str) -> None:
    folder = write_model(tmp_path / "tiny")
    found = []
    for config in (CONFIG, {**CONFIG, "rope_theta": 5e5}):
        (folder / file).write_text(json.dumps(config), encoding="utf-8")
        graph = Graph(nodes=(Node("base", "base_model", {"model": name}),))
        plan = compile_plan(graph, toy_runs.registry(), tmp_path).plan
        assert plan is not None
        found.append(plan.steps[0].fingerprint)
    assert found[0] != found[1]


def test_the_output_that_is_taken_counts(tmp_path: Path) -> None:
    """Rewired from one output of a step to another, the result is another."""
    node_type = _variant_node()
    found = {
        fingerprint.step_fingerprint(node_type, {}, {"model": ("a" * 64, port)}, tmp_path)
        for port in ("adapter", "model")
    }
    assert len(found) == 2

"""The main job in the terminal, end to end, on a tiny model: what a user does and then reads.

The results are loaded with plain PEFT and transformers, in the way the README shows.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.studio_cli import Ran, start, studio, write_project, write_rows
from tests.timing import WAIT_S, wait_until
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, rows, a project, and one finished run in ``runs``."""
    folder = tmp_path_factory.mktemp("terminal")
    make_tiny_model(folder / "model")
    rows, checked = write_rows(folder / "rows.jsonl"), {"check_rows": 4}
    write_project(folder / "talk.studio", "model", rows, export=checked, share=checked)
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> Ran:
    """The first run of the project."""
    return studio("run", place / "talk.studio", "--runs", place / "runs", "--json")


def trained(run: Ran) -> list[int]:
    """The steps that were trained."""
    return [e["step"] for e in run.of("Metric") if "loss" in e]


def test_a_run_completes_and_tells_what_it_did(first: Ran) -> None:
    assert first.code == 0, first.err[-2000:]
    assert first.status == "completed"
    assert trained(first) == [1, 2, 3, 4, 5, 6]
    metric = next(e for e in first.of("Metric") if "loss" in e)
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_s", "ram_process_gib"} <= set(metric)
    assert [e["step"] for e in first.of("Metric") if "eval_loss" in e][-1] == 6
    kinds = [e["kind"] for e in first.of("ArtifactSaved")]
    assert {"dataset", "base_model", "adapter", "merged_model"} <= set(kinds)


def test_both_exports_are_read_back_and_found_equal(first: Ran) -> None:
    checked = first.of("ExportChecked")
    assert {(e["node"], e["reader"]) for e in checked} == {
        ("export", "transformers"),
        ("share", "peft"),
    }
    for event in checked:
        assert event["verdict"] == "green", event
        assert event["kl_mean"] < 1e-3
        assert event["top1_agreement"] == 1.0


def logits_and_text(model: Any, tokenizer: Any) -> tuple[Any, str]:
    """Logits of one prompt (tokens, vocabulary), and sixteen greedy tokens after it."""
    import torch

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "say ax"}], add_generation_prompt=True, return_tensors="pt"
    )
    with torch.no_grad():
        inputs = {"input_ids": prompt["input_ids"]}
        logits = model.eval()(**inputs).logits[0].float()
        out = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    return logits, tokenizer.decode(out[0])


def test_plain_libraries_load_adapter_and_merged_model_alike(first: Ran) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (base_path,) = first.saved("base_model")
    for adapter_path, merged_path in zip(
        first.saved("adapter"), first.saved("merged_model"), strict=True
    ):
        tokenizer = AutoTokenizer.from_pretrained(merged_path)
        base = AutoModelForCausalLM.from_pretrained(base_path)
        untouched, _ = logits_and_text(base, tokenizer)
        adapted = PeftModel.from_pretrained(base, adapter_path)
        merged = AutoModelForCausalLM.from_pretrained(merged_path)
        a, text_a = logits_and_text(adapted, tokenizer)
        b, text_b = logits_and_text(merged, tokenizer)
        assert (a - b).abs().max() < 1e-3
        assert text_a == text_b
        assert (a - untouched).abs().max() > 1e-2, "training changed nothing"


def test_each_exported_folder_states_where_it_came_from(first: Ran) -> None:
    for path in (first.saved("adapter")[-1], first.saved("merged_model")[-1]):
        card = (path / "README.md").read_text(encoding="utf-8")
        for fact in ("rows.jsonl", "learning_rate", "0.002", "sha256"):
            assert fact in card, (path, fact)
        assert (path / "tokenizer.json").exists()
        assert any((path / n).exists() for n in ("chat_template.jinja", "tokenizer_config.json"))


def test_an_unchanged_graph_trains_nothing(place: Path, first: Ran) -> None:
    again = studio("run", place / "talk.studio", "--runs", place / "runs", "--json")
    assert again.code == 0, again.err[-2000:]
    assert trained(again) == []
    assert {e["cached"] for e in again.of("StepFinished")} == {True}
    assert again.saved("adapter") == first.saved("adapter")


def test_a_changed_export_runs_only_the_export(place: Path, first: Ran) -> None:
    assert first.code == 0
    folder = place / "exported"
    again = studio(
        "run",
        place / "talk.studio",
        "--runs",
        place / "runs",
        "--json",
        "--set",
        f"export.folder={folder}",
    )
    assert again.code == 0, again.err[-2000:]
    ran = [e["node"] for e in again.of("StepFinished") if not e["cached"]]
    assert ran == ["export"]
    assert (folder / "model.safetensors").exists()


def wait_for(path: Path, word: str) -> list[dict[str, Any]]:
    """The events of a run once a line with ``word`` has arrived."""
    text = lambda: "".join(p.read_text(encoding="utf-8") for p in path.glob("*/events.jsonl"))  # noqa: E731
    wait_until(lambda: word in text(), word)
    return [json.loads(line) for line in text().splitlines() if line.endswith("}")]


LONG = (
    "--set",
    "train.max_steps=400",
    "--set",
    "train.save_steps=5",
    "--set",
    "train.eval_steps=200",
)


def test_a_killed_host_is_interrupted_and_resumes(place: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    follower = start("run", place / "talk.studio", "--runs", runs, "--json", *LONG)
    events = wait_for(runs, "CheckpointSaved")
    host = psutil.Process(next(e["pid"] for e in events if e["event"] == "RunStarted"))
    host.kill()
    out, _ = follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 1, out[-500:]
    listed = json.loads(studio("runs", "--runs", runs, "--json").out.splitlines()[0])
    assert listed["status"] == "interrupted"
    resumed = studio("resume", listed["id"], "--runs", runs, "--json")
    assert resumed.code == 0, resumed.err[-2000:]
    assert resumed.status == "completed"
    (went_on,) = resumed.of("TrainResumed")
    assert went_on["step"] >= 5
    assert trained(resumed) == list(range(went_on["step"] + 1, 401))


def test_ctrl_c_stops_saves_and_says_so(place: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    follower = start("run", place / "talk.studio", "--runs", runs, *LONG)
    events = wait_for(runs, '"Metric"')
    host = psutil.Process(next(e["pid"] for e in events if e["event"] == "RunStarted"))
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 3
    host.wait(WAIT_S) if host.is_running() else None
    (run,) = runs.iterdir()
    assert not list(run.rglob("*staging*"))
    last = json.loads((run / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["status"]) == ("RunFinished", "stopped")


def test_finish_ends_the_training_and_completes_the_run(place: Path, tmp_path: Path) -> None:
    """Merge, export and evaluation follow."""
    runs = tmp_path / "runs"
    with start("run", place / "talk.studio", "--runs", runs, "--json", *LONG) as follower:
        wait_for(runs, '"Metric"')
        (run,) = runs.iterdir()
        finished = studio("finish", run.name, "--runs", runs)
        assert finished.code == 0, finished.err[-2000:]
        assert "finished on request" in finished.out
        assert "Merged model" in finished.out
        follower.communicate(timeout=WAIT_S)
        assert follower.returncode == 0
    events = [
        json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    (ended,) = [e for e in events if e["event"] == "EarlyStopped"]
    assert ended["step"] < 400
    saved = {e["kind"] for e in events if e["event"] == "ArtifactSaved"}
    assert {"adapter", "merged_model"} <= saved
    refused = studio("finish", run.name, "--runs", runs)
    assert refused.code == 2
    assert "is not running" in refused.err


def test_a_killed_terminal_leaves_the_run_going(place: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    follower = start("run", place / "talk.studio", "--runs", runs, "--set", "train.max_steps=60")
    wait_for(runs, '"Metric"')
    os.kill(follower.pid, signal.SIGKILL)
    follower.communicate()
    events = wait_for(runs, "RunFinished")
    assert events[-1]["status"] == "completed"

"""Training, resuming, merging and exporting under the file rules of Windows: nothing in use is changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import Stopped
from studio.graph.project import load_project, save_project, write_journal
from studio.graph.registry import load_registry
from studio.node_settings.export import ExportSettings
from studio.node_settings.resize import ResizeSettings
from studio.runs.control import Control
from studio.runs.execute import execute
from studio.runs.folder import RunFolder
from studio.runs.plan import compile_plan
from studio.runs.sink import EventSink
from studio.system import busy_files
from studio.system.settings import AppSettings, save_settings
from studio.training.export.make import export
from studio.training.loop.train import train_adapter
from studio.training.merge.resize import resize_adapter
from studio.training.model.load import free_memory
from studio.training.saved.tensor_files import read_tensors, write_tensors
from tests.e2e.studio_cli import write_project, write_rows
from tests.studio.runs.toy_runs import events_of
from tests.studio.training.adapters import random_adapter, tiny_base
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.studio.training.hub_uploads import client_variables, hub_for_uploads
from tests.studio.training.methods import METHODS, each, inputs_for, train_settings
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_full_fine_tuning import trained as fully_trained
from tests.studio.training.test_merge import merged
from tests.tiny import make_tiny_model
from tests.windows_files import windows_error, windows_files

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.usefixtures("quiet_transformers"),
]


def test_tensors_that_were_read_do_not_keep_their_file(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    write_tensors({"a": torch.arange(4096.0)}, file)
    with windows_files(tmp_path) as files:
        mapped = load_file(file)
        with pytest.raises(OSError):
            os.remove(file)
        del mapped
        kept = read_tensors(file)
        write_tensors({"a": kept["a"] + 1}, file)
        assert len(files.refused) == 1  # the simulation notices a mapped file
    assert torch.equal(read_tensors(file)["a"], kept["a"] + 1)


@pytest.mark.parametrize("method", each(METHODS))
def test_every_method_saves_and_resumes(tmp_path: Path, method: str) -> None:
    base = "nf4" if METHODS[method].payload.only_quantized else "float32"
    settings = train_settings(method, max_steps=4, save_steps=1, keep_checkpoints=1)
    first, second = Recorder(), Recorder()
    inputs = inputs_for(tmp_path, method, base)
    with windows_files(tmp_path) as files:
        stopping = make_context(tmp_path, first, lambda: len(first.losses()) >= 2)
        with pytest.raises(Stopped):
            train_adapter(stopping, inputs, settings)
        train_adapter(make_context(tmp_path, second), inputs, settings)
        assert second.named("TrainResumed")
        (tmp_path / "step").rename(tmp_path / "result")  # as the engine does
    assert files.refused == []
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000004"]


def test_full_fine_tuning_saves_and_resumes(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_steps": 1, "keep_checkpoints": 1}
    first, second = Recorder(), Recorder()
    with windows_files(tmp_path) as files:
        with pytest.raises(Stopped):
            fully_trained(tmp_path, first, lambda: len(first.losses()) >= 2, **settings)
        fully_trained(tmp_path, second, **settings)
        assert second.named("TrainResumed")
        (tmp_path / "step").rename(tmp_path / "result")
    assert files.refused == []


def test_a_model_is_saved_when_its_file_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner looks at the file that safetensors is about to rename."""
    import transformers.modeling_utils

    make_tiny_model(tmp_path / "model")
    real, left = transformers.modeling_utils.safe_save_file, [2]

    def refusing(*args: Any, **more: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise windows_error(32, str(tmp_path))
        real(*args, **more)

    monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", refusing)
    monkeypatch.setattr(busy_files.time, "sleep", lambda seconds: None)
    value = fully_trained(tmp_path, max_steps=2)
    assert left == [0]
    assert sorted(p.name for p in Path(value.path).glob("*.safetensors")) == ["model.safetensors"]


def test_the_best_weights_rotate(tmp_path: Path) -> None:
    """They are loaded at the end, and after a resume."""
    settings = train_settings("lora", max_steps=4, eval_steps=1, save_steps=1, keep="best")
    first, second = Recorder(), Recorder()
    inputs = inputs_for(tmp_path, "lora")
    inputs["dataset"] = inputs_with_validation(tmp_path)
    with windows_files(tmp_path) as files:
        stopping = make_context(tmp_path, first, lambda: len(first.losses()) >= 2)
        with pytest.raises(Stopped):
            train_adapter(stopping, inputs, settings)
        train_adapter(make_context(tmp_path, second), inputs, settings)
        (tmp_path / "step").rename(tmp_path / "result")
    assert files.refused == []


def inputs_with_validation(root: Path) -> dict[str, Any]:
    from tests.studio.training.steps import dataset_value

    return dict(dataset_value(root / "more", 6, 3).to_json())


@pytest.mark.parametrize("in_memory", [False, True])
def test_merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    if in_memory:
        from studio.training.merge import make

        monkeypatch.setattr(make, "_planned", lambda *args: None)
    with windows_files(tmp_path) as files:
        merged(tmp_path, adapter)
        (tmp_path / "merge" / "step").rename(tmp_path / "result")
    assert files.refused == []


def test_resizing_and_each_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path)
    adapter = random_adapter(tmp_path, base)
    for folder in (base.path, adapter.path):
        make_bpe_tokenizer().save_pretrained(folder)  # with merges, which GGUF needs
    with windows_files(tmp_path) as files, hub_for_uploads() as hub:
        for name, text in client_variables(hub).items():
            monkeypatch.setenv(name, text)
        model = merged(tmp_path, adapter)
        small = resize_adapter(
            make_context(tmp_path / "resize", Recorder()), adapter.to_json(), ResizeSettings(r=2)
        )
        for variant in load_registry().choices("exporter"):
            for value in (model, adapter, small):
                for place in ("", str(tmp_path / "exported")):
                    root = tmp_path / f"{variant.id}-{value.kind}"
                    context = make_context(root, Recorder())
                    own = {"repository": "someone/tiny"} if variant.id == "hub" else {}
                    settings = ExportSettings(
                        check_rows=0, format=variant.id, format_settings=own, folder=place
                    )
                    export(context, value.to_json(), settings)
        for step in tmp_path.glob("*/step"):
            step.rename(step.with_name("result"))
    assert files.refused == []


def test_an_export_whose_place_is_in_use_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.1)
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    settings = ExportSettings(check_rows=0, folder=str(tmp_path / "exported"))
    export(make_context(tmp_path, Recorder()), adapter.to_json(), settings)
    recorder = Recorder()
    context = make_context(tmp_path, recorder)
    with windows_files(tmp_path), open(tmp_path / "exported" / "adapter_model.safetensors", "rb"):
        export(context, adapter.to_json(), settings)
    assert context.artifacts[-1]["path"] == str(tmp_path / "exported-2")
    assert (tmp_path / "exported-2" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "exported" / "adapter_model.safetensors").is_file()
    assert "another program uses a file in it" in recorder.named("Notice")[-1].get("sentence")


def test_a_model_is_freed_after_its_layers_were_noted(tmp_path: Path) -> None:
    """PEFT keeps each layer of SHiRA and Super-Tuning that it has checked for hooks."""
    import gc

    from peft.tuners.shira.layer import ShiraLayer

    train_adapter(
        make_context(tmp_path, Recorder()),
        inputs_for(tmp_path, "shira"),
        train_settings("shira", max_steps=1),
    )
    free_memory()
    gc.unfreeze()
    gc.collect()
    kinds = {type(o) for o in gc.get_objects()}
    assert not any(issubclass(kind, ShiraLayer) for kind in kinds)


def test_a_whole_run_that_is_stopped_resumed_repeated_and_deleted(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    project = write_project(
        tmp_path / "p.studio",
        "model",
        write_rows(tmp_path / "rows.jsonl"),
        train={"max_steps": 3, "save_steps": 1, "keep_checkpoints": 1, "eval_steps": 1},
        share={"folder": "shared"},
    )
    with windows_files(tmp_path) as files:
        graph = load_project(project)
        write_journal(project, graph)
        save_project(project, graph)
        save_settings(AppSettings())
        compiled = compile_plan(graph, load_registry(), tmp_path)
        assert compiled.plan is not None, compiled.problems
        run = RunFolder.create(tmp_path / "runs", compiled.plan, graph)
        assert executed(run, stop_after=1) == "stopped"
        assert executed(run) == "completed"
        again = RunFolder.create(tmp_path / "again", compiled.plan, graph)  # exports over "shared"
        assert executed(again) == "completed"
        for folder in (run, again):
            busy_files.remove_folder(folder.path)
            assert not folder.path.exists()
    assert files.refused == []


def executed(run: RunFolder, stop_after: int = 0) -> str:
    """Execute a run in this process, up to its end or until a number of training steps."""
    sink, control = EventSink(run), Control()

    def emit(event: Any) -> None:
        sink.emit(event)
        if stop_after and event.name == "Metric" and event.get("step") == stop_after:
            control.request("stop")

    sink.open()
    status = execute(run.plan(), run, emit, control, load_registry())
    sink.close()
    if status == "failed":
        print(events_of(run)[-2])
    return status

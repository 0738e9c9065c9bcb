"""The Export step: a folder that plain libraries load, whole or not there at all."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped, StudioError
from studio.export_folder.folder import replaced
from studio.graph.context import StepContext
from studio.model import trust
from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.small_disk import small_disk
from tests.studio.training.adapters import logits, plain_model, random_adapter, tiny_base
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_merge import merged

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterValue:
    root = tmp_path_factory.mktemp("adapter")
    return random_adapter(root, tiny_base(root))


@pytest.fixture(scope="module")
def model(adapter: AdapterValue, tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return merged(tmp_path_factory.mktemp("merged"), adapter)


def context_in(root: Path, recorder: Recorder | None = None, **options: Any) -> StepContext:
    context = make_context(root, recorder or Recorder(), **options)
    context.title, context.project_name = "Export", "Small talk"
    return context


def exported(root: Path, value: AdapterValue | ModelValue, **settings: Any) -> Path:
    context = context_in(root)
    assert export(context, value.to_json(), ExportSettings(check_rows=0, **settings)) == {}
    (artifact,) = context.artifacts
    assert artifact["kind"] == ("adapter" if isinstance(value, AdapterValue) else "merged_model")
    return Path(artifact["path"])


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_merged_model_loads_in_plain_transformers(model: ModelValue, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = exported(tmp_path, model)
    assert folder == tmp_path / "step" / "export"
    wanted = {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "README.md",
        "lora-studio.json",
    }
    assert wanted <= names(folder)
    assert float((logits(plain_model(folder)) - logits(plain_model(model.path))).abs().max()) == 0
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_an_adapter_loads_in_plain_peft(adapter: AdapterValue, tmp_path: Path) -> None:
    from peft import PeftModel

    from tests.studio.training.adapters import plain_adapted

    folder = exported(tmp_path, adapter)
    base = plain_model(adapter.model.model.path)
    loaded = PeftModel.from_pretrained(base, folder).eval()
    assert float((logits(loaded) - logits(plain_adapted(adapter))).abs().max()) == 0
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names(folder)


def test_a_folder_of_this_machine_in_the_config_is_told(
    adapter: AdapterValue, tmp_path: Path
) -> None:
    """Who gives the adapter away must know; it is the only such place in the folder."""
    recorder, folder = Recorder(), tmp_path / "out"
    settings = ExportSettings(
        check_rows=0, folder=str(folder), format_settings={"form": "as_trained"}
    )
    export(context_in(tmp_path, recorder), adapter.to_json(), settings)
    private = adapter.model.model.path.encode()
    assert [p.name for p in folder.iterdir() if private in p.read_bytes()] == [
        "adapter_config.json"
    ]
    assert any(
        "the path of the base model on this machine" in e.get("sentence")
        for e in recorder.named("Notice")
    )


def test_the_card_states_everything(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path
) -> None:
    for value in (adapter, model):
        card = (exported(tmp_path / value.kind, value) / "README.md").read_text(encoding="utf-8")
        for fact in (
            "rows.jsonl",
            "sha256",
            "1" * 64,
            "learning_rate | 0.005",
            "max_steps | 6",
            "loss | 1.25",
            "eval_loss | 1.5",
            "| r | 4 |",
            "tiny-talk",
            "rows for training | 20",
            "2e-06",
            "peft",
            "Small talk",
            "from_pretrained",
        ):
            assert fact in card, fact
        assert str(tmp_path) not in card, "a folder of this machine"
    assert "merged against base" in card


def test_a_starter_base_is_named_with_its_licence(adapter: AdapterValue, tmp_path: Path) -> None:
    starter = adapter.model.model.model_copy(update={"source": "starter:smollm2-135m"})
    value = adapter.model_copy(
        update={"model": adapter.model.model_copy(update={"model": starter})}
    )
    folder = exported(tmp_path, value)
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = card.split("---")[1]
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in head
    assert "license: apache-2.0" in head
    assert "library_name: peft" in head
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert config.get("revision") is None


def test_a_named_folder_starts_from_the_project(model: ModelValue, tmp_path: Path) -> None:
    folder = exported(tmp_path, model, folder="out/deep/talk")
    assert folder == tmp_path / "out" / "deep" / "talk"
    assert names(folder.parent) == {"talk"}
    weights = folder / "model.safetensors"
    assert weights.stat().st_nlink == 1, "a named folder holds copies of its own"


def test_inside_the_run_weights_take_no_second_room(model: ModelValue, tmp_path: Path) -> None:
    folder = exported(tmp_path, model)
    weights = Path(model.path) / "model.safetensors"
    assert (folder / "model.safetensors").samefile(weights)
    assert not (folder / "config.json").samefile(Path(model.path) / "config.json")


def test_an_earlier_export_is_replaced(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path
) -> None:
    folder = exported(tmp_path, model, folder="talk")
    exported(tmp_path, adapter, folder="talk")
    assert "adapter_model.safetensors" in names(folder)
    assert "model.safetensors" not in names(folder)
    assert names(tmp_path) == {"talk", "step"}


def test_named_templates_and_trusted_code_keep_their_folders(
    adapter: AdapterValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template for tools that was left behind would be missed only when a tool is called."""
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    source = tmp_path / "source"
    shutil.copytree(adapter.path, source)
    wanted = {"additional_chat_templates/tool_use.jinja", "own.py", "tools/run.py"}
    for name in (*wanted, "notes/thesis.json"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("x", encoding="utf-8")
    (source / "config.json").write_text(
        '{"auto_map": {"AutoModelForCausalLM": "own.Model"}}', encoding="utf-8"
    )
    code = trust.own_code(source)
    assert code is not None
    trust.trust(code)
    value = adapter.model_copy(update={"path": str(source)})
    for _ in range(2):  # the second time over the first
        folder = exported(tmp_path, value, folder="talk")
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert wanted <= found
        assert "notes/thesis.json" not in found
        assert trust.may_run_code(folder)
    (folder / "tools" / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(StudioError, match=r"such as tools/mine\.txt"):
        exported(tmp_path, value, folder="talk")


def test_an_export_killed_while_it_changes_places_loses_nothing(
    model: ModelValue, tmp_path: Path
) -> None:
    """The earlier export lies beside its place then; the next export that fails leaves it whole."""
    folder = exported(tmp_path, model, folder="talk [1]")
    before = names(folder)
    folder.rename(tmp_path / ".talk [1].lora-studio-export-12345678-old")
    (tmp_path / ".talk [1].lora-studio-export-12345678").mkdir()
    with pytest.raises(RuntimeError), replaced(folder):
        raise RuntimeError
    assert names(folder) == before
    assert names(tmp_path) == {"talk [1]", "step"}


def test_pickled_files_stay_behind(model: ModelValue, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(model.path, source)
    for name in ("pytorch_model.bin", "training_args.bin", ".hidden.json"):
        (source / name).write_bytes(b"x")
    folder = exported(tmp_path, model.model_copy(update={"path": str(source)}))
    assert not {"pytorch_model.bin", "training_args.bin", ".hidden.json"} & names(folder)


# ------------------------------------------------------------------ what stands in the way


def refused(root: Path, value: ModelValue, folder: str) -> StudioError:
    with pytest.raises(StudioError) as caught:
        export(context_in(root), value.to_json(), ExportSettings(check_rows=0, folder=folder))
    error = caught.value
    assert error.field == "folder"
    assert folder.strip("/") in str(error)
    return error


def test_foreign_files_are_never_touched(model: ModelValue, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert "thesis.txt" in str(refused(tmp_path, model, "mine"))
    assert names(tmp_path / "mine") == {"thesis.txt"}
    folder = exported(tmp_path, model, folder="talk")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert "notes.txt" in str(refused(tmp_path, model, "talk"))
    assert "model.safetensors" in names(folder)


def test_a_file_in_the_way(model: ModelValue, tmp_path: Path) -> None:
    (tmp_path / "talk").write_text("a file", encoding="utf-8")
    assert refused(tmp_path, model, "talk").code == "file_in_the_way"
    assert refused(tmp_path, model, "talk/deep").code == "file_in_the_way"
    assert (tmp_path / "talk").read_text(encoding="utf-8") == "a file"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write")
def test_a_folder_that_may_not_be_written(model: ModelValue, tmp_path: Path) -> None:
    assert refused(tmp_path, model, "/proc/lora-studio/talk").code == "not_writable"


def test_a_full_disk_keeps_the_earlier_export(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path
) -> None:
    room = sum(p.stat().st_size for p in Path(adapter.path).iterdir()) // 1024 + 80
    with small_disk(tmp_path / "stick", room) as stick:
        folder = exported(tmp_path, adapter, folder="stick/talk")
        before = names(folder)
        error = refused(tmp_path, model, "stick/talk")
        assert error.code == "disk_full"
        assert "KiB needed" in str(error)
        assert "KiB free" in str(error)
        assert names(stick) == {"talk"}
        assert names(folder) == before


def test_a_disk_that_fills_up_on_the_way(
    model: ModelValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights fit, the rest does not, and the disk does not say how much is free: nothing half done stays."""
    monkeypatch.setattr("studio.system.disk.free_bytes", lambda folder: None)
    room = sum(p.stat().st_size for p in Path(model.path).iterdir()) // 1024 + 6
    with small_disk(tmp_path / "stick", room) as stick:
        assert refused(tmp_path, model, "stick/new/talk").code == "disk_full"
        assert names(stick) == set()


def test_a_stop_leaves_nothing(model: ModelValue, tmp_path: Path) -> None:
    recorder = Recorder()
    context = context_in(tmp_path, recorder, stop=lambda: bool(recorder.named("Progress")))
    with pytest.raises(Stopped):
        export(context, model.to_json(), ExportSettings(check_rows=0, folder="out/talk"))
    assert names(tmp_path) == {"step"}
    assert not context.artifacts

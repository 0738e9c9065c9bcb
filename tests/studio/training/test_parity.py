"""The parity check of exports: what it proves, and that each fault makes it red with its cause.

Every export is read back by its own program in a process of its own. The model is tiny, but its probabilities are not
flat: an adapter of noise changes them by more than rounding does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import Stopped
from studio.export_folder import llama_cpp
from studio.export_folder.parity import Check
from studio.node_settings.export import ExportSettings, GgufSettings
from studio.training.export import gguf_weights
from studio.training.export.gguf import write_gguf
from studio.training.export.make import export
from studio.training.export.parity.gate import check_export
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.training.tokens.chat import load_tokenizer
from studio.values import AdapterValue, ModelValue
from studio.variants.exporter import Readable
from tests.studio.training.adapters import random_adapter
from tests.studio.training.gguf_models import FAMILIES, make_bpe_tokenizer, save_noisy
from tests.studio.training.llama_cpp import needs_llama_cpp
from tests.studio.training.steps import Recorder, dataset_value, make_context, model_value
from tests.studio.training.test_merge import merged

pytestmark = pytest.mark.usefixtures("quiet_transformers")
MODEL, ADAPTER = Readable("transformers", title="Model"), Readable("peft", title="Adapter")
ROWS = 4
TARGETS = ["q_proj", "k_proj", "up_proj", "down_proj"]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterValue:
    """An adapter of noise whose scale is not 1, with a fully trained head, and held-out rows."""
    root = tmp_path_factory.mktemp("parity")
    base = model_value(save_noisy(root / "model", *FAMILIES["llama with biases"]))
    options = {"target_modules": TARGETS, "modules_to_save": ["lm_head"], "lora_alpha": 12}
    made = random_adapter(root, base.model_copy(update={"source": "models/tiny"}), 0.15, **options)
    make_bpe_tokenizer().save_pretrained(made.path)
    data = dataset_value(root / "rows", train=4, validation=ROWS)
    return made.model_copy(update={"dataset": data})


@pytest.fixture(scope="module")
def model(adapter: AdapterValue, tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    """The adapter merged into its base."""
    return merged(tmp_path_factory.mktemp("merged"), adapter)


def exported(
    root: Path, value: ModelValue | AdapterValue, **settings: Any
) -> tuple[Path, Recorder]:
    recorder = Recorder()
    context = make_context(root / "out", recorder)
    context.title, context.project_name = "Export", "Small talk"
    export(context, value.to_json(), ExportSettings(**{"check_rows": ROWS, **settings}))
    (artifact,) = context.artifacts
    return Path(artifact["path"]), recorder


def checked(root: Path, value: ModelValue | AdapterValue, folder: Path, part: Readable) -> Check:
    """The check of one part of an export that was changed afterwards."""
    (found,) = check_export(make_context(root / "check", Recorder()), value, folder, [part], ROWS)
    return found


def copied(value: ModelValue, root: Path) -> Path:
    return Path(shutil.copytree(value.path, root / "changed"))


def change(file: Path, update: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    """Change, or remove, each tensor of a file."""
    found = {name: update(name, tensor) for name, tensor in read_tensors(file).items()}
    write_tensors({n: t.contiguous() for n, t in found.items() if t is not None}, file)


def as_gguf(root: Path, source: Path, value: ModelValue, quantization: str = "F32") -> Path:
    """A GGUF file of the model in ``source``."""
    folder = root / "gguf"
    folder.mkdir()
    changed = value.model_copy(update={"path": str(source)})
    settings = GgufSettings(quantizations=[quantization])  # type: ignore[list-item]
    write_gguf(make_context(root / "write", Recorder()), changed, settings, folder)
    return next(folder.glob("*.gguf"))


def checked_file(root: Path, value: ModelValue, file: Path, title: str = "F32") -> Check:
    return checked(root, value, file.parent, Readable("llama.cpp", file.name, title))


# ------------------------------------------------------------------ what is right


def test_a_portable_adapter_is_proven(adapter: AdapterValue, tmp_path: Path) -> None:
    folder, recorder = exported(
        tmp_path, adapter, format_settings={"form": "as_trained"}, folder=str(tmp_path / "made")
    )
    (event,) = recorder.named("ExportChecked")
    assert (event.get("verdict"), event.get("code")) == ("green", "")
    assert event.get("kl_mean") < 1e-5 < 0.01 < event.get("effect")
    assert (event.get("top1_agreement"), event.get("diverges")) == (1.0, None)
    assert (event.get("template"), event.get("stop")) == (True, True)
    assert event.get("source") == f"{ROWS} validation rows"
    report = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert (report["verdict"], report["checks"][0]["kl_mean"]) == ("green", event.get("kl_mean"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Parity check" in card
    assert "| Adapter in PEFT | ✓ proven |" in card
    assert "| Adapter in vLLM | ! refused |" in card  # it has a fully trained head
    assert "- Adapter in vLLM: Fully trained modules (lm_head) are not supported. Choose" in card
    assert [r["program"] for r in report["checks"][0]["rules"]] == ["vLLM", "llama.cpp"]
    manifest = json.loads((folder / "lora-studio.json").read_text(encoding="utf-8"))
    assert manifest["verdict"] == "green"
    assert "parity.json" in manifest["files"]  # the next export may replace it
    exported(tmp_path, adapter, folder=str(folder), check_rows=0)


@pytest.mark.usefixtures("one_process")
def test_a_merged_model_is_proven(adapter: AdapterValue, model: ModelValue, tmp_path: Path) -> None:
    _, recorder = exported(tmp_path, model)
    (event,) = recorder.named("ExportChecked")
    assert event.get("verdict") == "green", event.data
    assert event.get("kl_mean") < 1e-5


@needs_llama_cpp
@pytest.mark.usefixtures("one_process")
def test_gguf_files_of_the_model_are_proven(model: ModelValue, tmp_path: Path) -> None:
    own = {"quantizations": ["F32", "Q8_0"]}
    _, recorder = exported(tmp_path, model, format="gguf", format_settings=own)
    full, small = recorder.named("ExportChecked")
    assert (full.get("title"), full.get("verdict")) == ("F32", "green"), full.data
    assert (full.get("template"), full.get("stop")) == (True, True)
    assert full.get("speed") > 0
    assert full.get("kl_mean") < 1e-4 < small.get("kl_mean")
    assert small.get("bytes") < full.get("bytes")


@needs_llama_cpp
@pytest.mark.usefixtures("one_process")
def test_a_gguf_adapter_is_read_on_its_base(tmp_path: Path) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES["llama with biases"]))
    made = random_adapter(tmp_path, base, 0.15, target_modules=TARGETS, lora_alpha=12)
    make_bpe_tokenizer().save_pretrained(made.path)
    _, recorder = exported(tmp_path, made, format="gguf")
    (event,) = recorder.named("ExportChecked")
    assert event.get("verdict") == "green", event.data
    assert event.get("source").endswith("training rows, because none are held out")
    assert event.get("kl_mean") < 1e-4 < event.get("effect")


# ------------------------------------------------------------------ faults


@pytest.mark.usefixtures("one_process")
def test_another_base_is_named(adapter: AdapterValue, model: ModelValue, tmp_path: Path) -> None:
    folder, _ = exported(tmp_path, adapter, check_rows=0, format_settings={"form": "as_trained"})
    config = folder / "adapter_config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(
        json.dumps({**data, "base_model_name_or_path": "someone/other"}), encoding="utf-8"
    )
    found = checked(tmp_path, adapter, folder, ADAPTER)
    assert (found.verdict, found.code) == ("red", "wrong_base")
    assert "someone/other" in found.cause
    other = copied(model, tmp_path)
    change(other / WEIGHTS, lambda _, t: t[torch.randperm(t.shape[0])])
    found = checked(tmp_path, model, other, MODEL)
    assert (found.verdict, found.code) == ("red", "wrong_base"), found


@pytest.mark.usefixtures("one_process")
def test_another_template_is_named(model: ModelValue, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "Assistant")
    tokenizer.save_pretrained(str(folder))
    found = checked(tmp_path, model, folder, MODEL)
    assert (found.verdict, found.code) == ("red", "wrong_template")
    assert found.kl_mean is not None
    assert found.kl_mean < 1e-5


@pytest.mark.usefixtures("one_process")
def test_another_end_token_is_named(model: ModelValue, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    file = folder / "generation_config.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**data, "eos_token_id": 0}), encoding="utf-8")
    found = checked(tmp_path, model, folder, MODEL)
    assert (found.verdict, found.code) == ("red", "wrong_end_token")
    assert "<|im_end|>" in found.cause


@pytest.mark.usefixtures("one_process")
def test_lost_modules_are_named(adapter: AdapterValue, tmp_path: Path) -> None:
    folder, _ = exported(tmp_path, adapter, check_rows=0, format_settings={"form": "as_trained"})
    change(folder / "adapter_model.safetensors", lambda n, t: None if "lm_head" in n else t)
    found = checked(tmp_path, adapter, folder, ADAPTER)
    assert (found.verdict, found.code, found.kl_mean) == ("red", "modules_lost", None), found
    config = folder / "adapter_config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "modules_to_save": None}), encoding="utf-8")
    found = checked(tmp_path, adapter, folder, ADAPTER)
    assert (found.verdict, found.code) == ("red", "modules_lost"), found
    assert found.kl_mean is not None  # it loads, and answers differently


@pytest.mark.usefixtures("one_process")
def test_a_lost_alpha_is_named(adapter: AdapterValue, tmp_path: Path) -> None:
    folder, _ = exported(tmp_path, adapter, check_rows=0, format_settings={"form": "as_trained"})
    config = folder / "adapter_config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "lora_alpha": data["r"]}), encoding="utf-8")
    found = checked(tmp_path, adapter, folder, ADAPTER)
    assert (found.verdict, found.code) == ("red", "alpha_lost"), found


@pytest.mark.usefixtures("one_process")
def test_a_double_merge_is_named(adapter: AdapterValue, model: ModelValue, tmp_path: Path) -> None:
    folder = copied(model, tmp_path)
    base = read_tensors(Path(adapter.model.model.path) / WEIGHTS)
    change(folder / WEIGHTS, lambda n, t: t if "lm_head" in n else 2 * t - base[n])
    found = checked(tmp_path, model, folder, MODEL)
    assert (found.verdict, found.code) == ("red", "double_merge"), found


@pytest.mark.usefixtures("one_process")
def test_a_forgotten_adapter_is_named(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path
) -> None:
    folder = copied(model, tmp_path)
    shutil.copy(Path(adapter.model.model.path) / WEIGHTS, folder / WEIGHTS)
    found = checked(tmp_path, model, folder, MODEL)
    assert (found.verdict, found.code) == ("red", "adapter_missing"), found


@pytest.mark.usefixtures("one_process")
def test_a_missing_shard_is_named(adapter: AdapterValue, tmp_path: Path) -> None:
    value = merged(tmp_path / "merged", adapter, shard_bytes=20_000)
    folder = copied(value, tmp_path)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    found = checked(tmp_path, value, folder, MODEL)
    assert (found.verdict, found.code) == ("red", "missing_file")
    assert shard.name in found.cause


@needs_llama_cpp
@pytest.mark.parametrize("fault", ["forgotten", "swapped"])
@pytest.mark.usefixtures("one_process")
def test_rows_of_q_and_k_in_the_wrong_order_are_named(
    fault: str, model: ModelValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(found: Any, config: Any, name: str, weight: torch.Tensor) -> torch.Tensor:
        if "q_proj" in name:
            return gguf_weights.permuted(weight, config["num_key_value_heads"])
        if "k_proj" in name:
            return gguf_weights.permuted(weight, config["num_attention_heads"])
        return weight

    wrong = swapped if fault == "swapped" else (lambda found, config, name, weight: weight)
    monkeypatch.setattr(gguf_weights, "rows_of", wrong)
    file = as_gguf(tmp_path, Path(model.path), model)
    found = checked_file(tmp_path, model, file)
    assert (found.verdict, found.code) == ("red", "qk_permuted"), found


@needs_llama_cpp
@pytest.mark.usefixtures("one_process")
def test_template_and_end_token_of_a_gguf_file_are_compared(
    model: ModelValue, tmp_path: Path
) -> None:
    folder = copied(model, tmp_path)
    tokenizer = load_tokenizer(folder)
    template = tokenizer.chat_template
    tokenizer.chat_template = template.replace("user", "User").replace("assistant", "Assistant")
    tokenizer.save_pretrained(str(folder))
    (tmp_path / "one").mkdir()
    found = checked_file(tmp_path, model, as_gguf(tmp_path / "one", folder, model))
    assert (found.verdict, found.code) == ("red", "wrong_template")
    tokenizer.chat_template = template.replace("<|im_end|>", "<|endoftext|>")
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(str(folder))
    file = as_gguf(tmp_path, folder, model)
    found = checked_file(tmp_path, model, file)
    assert (found.verdict, found.stop) == ("red", False)


@needs_llama_cpp
@pytest.mark.usefixtures("one_process")
def test_a_quantization_that_loses_the_training_is_named(tmp_path: Path) -> None:
    """The adapter changes the model by less than four bits do."""
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES["llama with biases"]))
    made = random_adapter(tmp_path, base, 0.02, target_modules=["down_proj"])
    make_bpe_tokenizer().save_pretrained(made.path)
    value = merged(tmp_path / "merged", made)
    own = {"quantizations": ["F16", "Q4_0"]}
    folder, recorder = exported(tmp_path, value, format="gguf", format_settings=own)
    full, small = recorder.named("ExportChecked")
    assert full.get("verdict") == "green", full.data
    assert (small.get("verdict"), small.get("code")) == ("red", "quantization"), small.data
    assert len(list(folder.glob("*.gguf"))) == 2  # people can look at it
    assert "✕ failed" in (folder / "README.md").read_text(encoding="utf-8")


@needs_llama_cpp
@pytest.mark.usefixtures("one_process")
def test_a_damaged_file_is_red(model: ModelValue, tmp_path: Path) -> None:
    file = as_gguf(tmp_path, Path(model.path), model)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = checked_file(tmp_path, model, file)
    assert (found.verdict, found.code) == ("red", "unreadable")


# ------------------------------------------------------------------ what is not proven


def test_without_llama_cpp_a_file_is_not_proven(
    model: ModelValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    _, recorder = exported(tmp_path, model, format="gguf")
    (event,) = recorder.named("ExportChecked")
    assert event.get("verdict") == "not_proven"
    assert llama_cpp.lacked(event.data)
    assert llama_cpp.install_command() in event.get("hint")
    assert f"{llama_cpp.SIZE_MB} MB" in event.get("hint")
    (notice,) = [n for n in recorder.named("Notice") if "not proven" in n.get("sentence")]
    assert notice.get("level") == "warning"


def test_no_rows_mean_no_proof(model: ModelValue, tmp_path: Path) -> None:
    _, recorder = exported(tmp_path, model, check_rows=0)
    (event,) = recorder.named("ExportChecked")
    assert (event.get("verdict"), event.get("cause")) == ("not_proven", "The check is turned off.")


def test_a_model_that_does_not_fit_into_memory_is_not_loaded(
    adapter: AdapterValue, tmp_path: Path
) -> None:
    large = adapter.model.model.model_copy(update={"parameters": 10**14})
    adapted = adapter.model.model_copy(update={"model": large})
    _, recorder = exported(tmp_path, adapter.model_copy(update={"model": adapted}))
    (event,) = recorder.named("ExportChecked")
    assert event.get("verdict") == "not_proven"
    assert "Reading the trained model needs 223517.4 GiB of memory, and " in event.get("cause")
    assert not [e for e in recorder.named("Phase") if "Checking the export" in e.get("title")]


@needs_llama_cpp
def test_a_base_that_does_not_fit_on_the_disk_is_not_written(
    adapter: AdapterValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gguf" / "adapter.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    monkeypatch.setattr("studio.system.disk.free_bytes", lambda folder: 1000)
    found = checked(tmp_path, adapter, file.parent, Readable("llama.cpp", file.name, "F32"))
    assert found.verdict == "not_proven"
    assert "The base model has to be written as GGUF for it, which needs " in found.cause
    assert "where 1000 bytes are free" in found.cause
    assert "Free some space" in found.hint


def test_the_check_can_be_stopped(model: ModelValue, tmp_path: Path) -> None:
    recorder = Recorder()

    def stop() -> bool:
        return any("Checking" in str(e.get("title")) for e in recorder.named("Phase"))

    context = make_context(tmp_path, recorder, stop)
    with pytest.raises(Stopped):
        check_export(context, model, Path(model.path), [MODEL], ROWS)
    assert not list(context.checkpoints.glob("parity-*"))

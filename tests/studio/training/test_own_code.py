"""Models with code of their own: refused until trusted, then trained, merged and exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.model import trust
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.merge import MergeSettings
from studio.training.loop.train import train_adapter, train_model
from studio.training.merge.make import merge_adapter
from studio.training.model.base_model import prepare_base_model
from studio.values import ModelValue
from tests.own_code import make_model_with_code
from tests.studio.training.steps import (
    Recorder,
    adapted_value,
    make_context,
    make_inputs,
    settings_of,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, where code that ran leaves a trace."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("LORA_STUDIO_HOME", str(folder / "studio"))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "modules")
    )
    return folder


def prepared(tmp_path: Path, model: Path) -> ModelValue:
    """The Base model step."""
    settings = BaseModelSettings(model=str(model), dtype="float32")
    return prepare_base_model(make_context(tmp_path, Recorder()), settings)


def test_untrusted_code_never_runs(tmp_path: Path, home: Path) -> None:
    """Refused in one sentence that names the files and the way out; nothing was executed."""
    model = make_model_with_code(tmp_path / "talk")
    with pytest.raises(StudioError, match=r"configuration_tinytalk\.py") as caught:
        prepared(tmp_path, model)
    assert (caught.value.code, caught.value.field) == ("needs_own_code", "model")
    assert "Review the code" in caught.value.hint
    assert not (home / "the-code-ran").exists()


def test_a_changed_file_ends_the_trust(tmp_path: Path, home: Path) -> None:
    """One more byte, another revision, or a taken back trust: refused again."""
    model = make_model_with_code(tmp_path / "talk")
    code = trust.own_code(model, str(model))
    assert code is not None
    trust.trust(code)
    assert trust.trusted(code)
    assert not trust.trusted(trust.OwnCode(str(model), "other", model, code.files))
    (model / "modeling_tinytalk.py").write_text("import os\n", encoding="utf-8")
    with pytest.raises(StudioError, match="which has not been trusted"):
        prepared(tmp_path, model)
    assert trust.revoke(str(model)) == 1
    assert not trust.trusted(code)
    assert not (home / "the-code-ran").exists()


@pytest.mark.parametrize(
    ("file", "kind"),
    [("config.json", "AutoModelForCausalLM"), ("tokenizer_config.json", "AutoTokenizer")],
)
def test_code_of_another_repository_is_refused(
    tmp_path: Path, home: Path, file: str, kind: str
) -> None:
    """Nobody could look at it, so there is nothing to trust, whatever was trusted beside it."""
    model = make_model_with_code(tmp_path / "talk")
    config = json.loads((model / file).read_text(encoding="utf-8"))
    config.setdefault("auto_map", {})[kind] = "someone/else--modeling.Model"
    (model / file).write_text(json.dumps(config), encoding="utf-8")
    code = trust.own_code(model, str(model))
    assert code is not None
    trust.trust(code)
    assert not trust.may_run_code(model)
    with pytest.raises(StudioError, match="code from another repository"):
        prepared(tmp_path, model)


def test_a_broken_trust_store_trusts_nothing(tmp_path: Path, home: Path) -> None:
    """Damage to the file is not taken for a yes."""
    model = make_model_with_code(tmp_path / "talk")
    store = home / "studio" / "config" / "trusted_code.json"
    store.parent.mkdir(parents=True)
    store.write_text('[{"digest": ', encoding="utf-8")
    with pytest.raises(StudioError, match="which has not been trusted"):
        prepared(tmp_path, model)


def test_trusted_code_trains_and_merges(tmp_path: Path, home: Path) -> None:
    """The way of every other model, with its code beside the merged weights."""
    model = make_model_with_code(tmp_path / "talk")
    code = trust.own_code(model, str(model))
    assert code is not None
    trust.trust(code)
    base = prepared(tmp_path, model)
    assert not (home / "the-code-ran").exists()  # finding the model needs no code yet
    inputs = {**make_inputs(tmp_path), "model": adapted_value(base).to_json()}
    adapter = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    assert (home / "the-code-ran").exists()
    assert adapter.reload_difference <= 1e-3
    merged = merge_adapter(
        make_context(tmp_path / "merge", Recorder()), adapter.to_json(), MergeSettings()
    )
    assert (Path(merged.path) / "modeling_tinytalk.py").is_file()


def test_trusted_code_is_trained_as_a_whole(tmp_path: Path, home: Path) -> None:
    """The result holds exactly the code that was trusted, in its folders, and loads with it."""
    model = make_model_with_code(tmp_path / "talk")
    for folder in ("tools", "examples"):
        (model / folder).mkdir()
        (model / folder / "run.py").write_text(f"# {folder}\n", encoding="utf-8")
    code = trust.own_code(model, str(model))
    assert code is not None
    trust.trust(code)
    inputs = {**make_inputs(tmp_path), "model": prepared(tmp_path, model).to_json()}
    tuned = train_model(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    kept = trust.own_code(Path(tuned.path))
    assert kept is not None
    assert kept.files == code.files
    assert tuned.merged_from[-1]["max_logit_difference"] <= 1e-3

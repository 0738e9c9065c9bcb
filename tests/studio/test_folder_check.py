"""Received model folders: what cannot be used is named from names and headers, before anything runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.estimate.ask import request
from studio.estimate.graph import estimate_graph
from studio.estimate.job import Facts, job_of
from studio.estimate.machine import this_machine
from studio.export_folder.copy_files import model_files
from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.model.facts import licence_in, model_facts
from studio.model.folder_check import Fault, folder_faults, gguf_faults
from studio.model.models import local_files, quick_check
from studio.model.supported import supported
from studio.model.trust import own_code
from studio.node_settings.base_model import BaseModelSettings
from studio.system import hardware
from tests.missing_here import unix_socket
from tests.model_files import (
    change_config,
    drop_tensor,
    read_header,
    shapes,
    write_adapter,
    write_header,
    write_model,
    write_shards,
    write_weights,
)
from tests.timing import cpu_limit

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST = "model-00001-of-00002.safetensors"


def only(folder: Path) -> Fault:
    (fault,) = folder_faults(folder)
    return fault


def problems(model: str, folder: Path, **settings: Any) -> list[str]:
    context = CheckContext("base", "Base model", folder)
    found = quick_check(BaseModelSettings(model=model, **settings), context)
    return [f"{p.code} {p.field}" for p in found]


def test_complete_models_have_no_faults(tmp_path: Path) -> None:
    """In one file and in several, tied and with a head of its own."""
    assert folder_faults(write_model(tmp_path / "one")) == ()
    assert folder_faults(write_shards(tmp_path / "two")) == ()
    write_model(tmp_path / "head", {**shapes(), "lm_head.weight": (264, 32)})
    assert folder_faults(tmp_path / "head") == ()
    change_config(tmp_path / "head", tie_word_embeddings=False)
    assert folder_faults(tmp_path / "head") == ()


# ------------------------------------------------------------------ weights


def _cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def _entry(path: Path, **values: Any) -> None:
    header, data = read_header(path)
    header["model.norm.weight"].update(values)
    write_header(path, header, data)


def _shift(path: Path) -> None:
    header, data = read_header(path)
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [n + 4 for n in entry["data_offsets"]]
    write_header(path, header, data + bytes(4))


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "four bytes": (lambda p: _cut(p, 4), "is not a safetensors file"),
    "half a header": (lambda p: _cut(p, 300), "header is longer than the file"),
    "no data": (lambda p: _cut(p, 8 + len(json.dumps(read_header(p)[0]))), "is truncated"),
    "last byte": (lambda p: _cut(p, p.stat().st_size - 1), "is truncated"),
    "more data": (lambda p: p.write_bytes(p.read_bytes() + bytes(9)), "9 bytes more than"),
    "a page": (
        lambda p: p.write_text("<html>404</html>" * 40, encoding="utf-8"),
        "is not a safetensors file",
    ),
    "a pointer": (
        lambda p: p.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8"
        ),
        "is not a safetensors file",
    ),
    "zeros": (lambda p: p.write_bytes(bytes(5000)), "is not a safetensors file"),
    "no JSON": (lambda p: p.write_bytes(b"\x10" + bytes(7) + b"{" * 16), "header of model.saf"),
    "a list": (lambda p: write_header(p, [1, 2], b""), "not a JSON object"),
    "nested": (
        lambda p: p.write_bytes((60000).to_bytes(8, "little") + b"[" * 60000),
        "is damaged",
    ),
    "other size": (lambda p: _entry(p, shape=[31]), "size and shape of model.norm.weight"),
    "negative": (lambda p: _entry(p, shape=[-32]), "size and shape of model.norm.weight"),
    "words": (lambda p: _entry(p, shape=["a", 10**12]), "size and shape of model.norm.weight"),
    "no shape": (lambda p: _entry(p, shape=None), "describe model.norm.weight"),
    "other dtype": (lambda p: _entry(p, dtype="Q7"), "has the dtype Q7"),
    "dtype list": (lambda p: _entry(p, dtype=[]), "describe model.norm.weight"),
    "overlap": (lambda p: _entry(p, data_offsets=[0, 128]), "do not adjoin"),
    "gap": (_shift, "do not adjoin"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_weight_file_is_named(damage: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    change, words = DAMAGED[damage]
    change(folder / WEIGHTS)
    fault = only(folder)
    assert fault.code == "bad_weights"
    assert WEIGHTS in fault.sentence
    assert words in fault.sentence
    assert problems("./model", tmp_path) == ["bad_weights model"]
    assert model_facts("./model", tmp_path) is not None  # the window shows the rest


Change = Callable[[dict[str, Any]], Any]


def _listed(file: object, tensor: str = "model.norm.weight") -> Change:
    """The index places a tensor in this file."""
    return lambda index: index["weight_map"].update({tensor: file})


INDEXES: dict[str, tuple[Change, str]] = {
    "no map": (lambda i: i.pop("weight_map"), "lists no files"),
    "a list": (lambda i: i.update(weight_map=["x"]), "lists no files"),
    "a number": (_listed(3), "names 3"),
    "a pickle": (_listed("x.bin"), "not a safetensors file"),
    "outside": (_listed("../x.safetensors"), "outside the model folder"),
    "absolute": (_listed("/etc/x.safetensors"), "outside the model folder"),
    "no such file": (_listed("gone.safetensors"), "gone.safetensors is missing"),
    "wrong file": (
        _listed(FIRST, "model.layers.1.mlp.up_proj.weight"),
        "lists model.layers.1.mlp.up_proj.weight",
    ),
}


@pytest.mark.parametrize("damage", INDEXES)
def test_a_wrong_index_is_named(damage: str, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    change, words = INDEXES[damage]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    change(index)
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    assert words in only(folder).sentence
    assert problems("./model", tmp_path) in (["bad_weights model"], ["missing_tensors model"])


def test_a_missing_or_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    _cut(folder / FIRST, (folder / FIRST).stat().st_size - 100)
    assert only(folder).sentence.startswith(f"{FIRST} is truncated")
    (folder / FIRST).unlink()
    assert only(folder).sentence == f"{FIRST} is missing."
    (folder / INDEX).write_text("{", encoding="utf-8")
    assert "cannot be read" in only(folder).sentence


def test_other_formats_are_named(tmp_path: Path) -> None:
    """Weights that transformers does not load, or loads in place of those that were checked."""
    for name, code in {
        "pytorch_model.bin": "pickle_weights",
        "consolidated.safetensors": "no_weights",
        "model.Q4_1.gguf": "no_weights",
    }.items():
        folder = write_model(tmp_path / code / name)
        (folder / WEIGHTS).rename(folder / name)
        assert only(folder).code == code
        assert code == "pickle_weights" or name in only(folder).sentence
    folder = write_model(tmp_path / "shards")
    write_weights(folder / "shard-00000-model-00001-of-00001.safetensors", shapes())
    assert "distributed checkpoint" in only(folder).sentence


# ------------------------------------------------------------------ tensors and config


@pytest.mark.parametrize(
    "name",
    [
        "model.norm.weight",
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight",
    ],
)
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    drop_tensor(folder / WEIGHTS, name)
    fault = only(folder)
    assert fault.code == "missing_tensors"
    assert fault.sentence == f"1 tensor of the model is missing in the weights: {name}."


def test_missing_surplus_and_misshapen_tensors_together(tmp_path: Path) -> None:
    wrong = shapes()
    del wrong["model.norm.weight"]
    wrong["model.embed_tokens.weight"] = (300, 32)
    for n in range(5):
        wrong[f"head.{n}.weight"] = (2, 2)
    found = folder_faults(write_model(tmp_path / "model", wrong))
    assert [f.code for f in found] == ["missing_tensors", "surplus_tensors", "wrong_shapes"]
    assert "head.0.weight, head.1.weight, head.2.weight and 2 more" in found[1].sentence
    assert "model.embed_tokens.weight has the shape 300 × 32" in found[2].sentence
    assert "264 × 32" in found[2].sentence


def test_a_head_of_its_own_that_is_missing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    change_config(folder, tie_word_embeddings=False)
    assert "lm_head.weight" in only(folder).sentence


@pytest.mark.parametrize("layers", [1, 3, 200, 10**9, 10**30])
def test_another_number_of_layers(layers: int, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    change_config(folder, num_hidden_layers=layers)
    assert only(folder).code in ("layer_count", "bad_config")
    assert f"{layers}" in only(folder).sentence.replace(",", "")
    change_config(folder, model_type="mamba", architectures=["MambaForCausalLM"])
    assert bool(folder_faults(folder)) is (layers > 20)  # what else differs, transformers knows


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "32"},
        {"hidden_size": 32.5},
        {"hidden_size": 0},
        {"hidden_size": -32},
        {"num_attention_heads": [4]},
        {"num_key_value_heads": {}},
        {"vocab_size": True},
        {"vocab_size": 10**12},
        {"model_type": ["llama"]},
        {"model_type": {"llama": 1}},
    ],
    ids=str,
)
def test_impossible_values_are_named(values: dict[str, Any], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    change_config(folder, **values)
    fault = only(folder)
    assert fault.code == "bad_config"
    assert next(iter(values)) in fault.sentence
    assert problems("./model", tmp_path) == ["bad_config model"]
    model_facts("./model", tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", '"llama"', "{}{}", "[" * 100_000, '{"a": ' * 50_000],
    ids=["empty", "cut", "list", "null", "text", "twice", "deep list", "deep object"],
)
def test_a_config_without_a_json_object(text: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert only(folder).sentence.startswith("config.json cannot be read")
    assert model_facts("./model", tmp_path) is None
    (folder / "config.json").write_bytes(b"\xff\xfe\x00{")
    assert only(folder).sentence.startswith("config.json cannot be read")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "vit"}, "vit is not a causal language model"),
        ({"model_type": "t5"}, "t5 is not a causal language model"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "LlamaForSequenceClassification is not a causal language model",
        ),
        ({"model_type": "llama9"}, "does not know the model type llama9"),
        ({"model_type": "a\x1b[31mb"}, "does not know the model type"),
        ({"model_type": None}, "has no model_type"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized (gptq)"),
        ({"quantization_config": 4}, "already quantized (unknown method)"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ({"configuration_files": ["config.5.0.0.json"]}, "configuration_files"),
    ],
    ids=str,
)
def test_models_that_a_run_would_refuse(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "x")
    change_config(folder, **values)
    file = folder / "config.json"
    if values.get("model_type", "") is None:
        assert "model_type" not in file.read_text(encoding="utf-8")
    fault = only(folder)
    assert words in fault.sentence
    assert "\x1b" not in fault.sentence
    if "llama9" in words:
        assert "saved by transformers 5.23.0" in fault.hint


def test_a_new_model_type_with_code_of_its_own_is_left_to_the_review(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    change_config(folder, model_type="own", auto_map={"AutoModelForCausalLM": "model.Own"})
    assert folder_faults(folder) == ()


# ------------------------------------------------------------------ links and odd files

NAMES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    WEIGHTS,
    "README.md",
    "vocab.txt",
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that does not belong to the model."""
    path = tmp_path / "private" / "secret.json"
    path.parent.mkdir()
    path.write_text(
        '---\nlicense: secret-licence\n---\n{"secret": "do not export"}', encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_that_leads_out_is_refused_by_name(
    name: str, relative: bool, tmp_path: Path, outside: Path
) -> None:
    folder = write_model(tmp_path / "model")
    path = folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(outside, folder) if relative else outside)
    fault = only(folder)
    assert fault.code == "link_outside"
    assert fault.sentence == f"{name} is a link that leads out of the model folder."
    assert name in fault.hint
    assert problems("./model", tmp_path) == ["link_outside model"]
    assert "secret" not in str(model_facts("./model", tmp_path))
    assert licence_in(folder) is None
    if name != "README.md":
        assert path not in local_files("./model", tmp_path)
        with pytest.raises(StudioError, match=name) as caught:
            model_files(folder)
        assert caught.value.code == "link_outside"


def test_links_in_deeper_folders(tmp_path: Path, outside: Path) -> None:
    """To templates and to code; a folder that nothing reads may be a link."""
    folder = write_model(tmp_path / "model")
    (folder / "checkpoints").symlink_to(outside.parent)
    assert folder_faults(folder) == ()
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").symlink_to(outside)
    assert "additional_chat_templates/rag.jinja is a link" in only(folder).sentence
    with pytest.raises(StudioError, match=r"rag\.jinja"):
        model_files(folder)
    shutil.rmtree(folder / "additional_chat_templates")
    (folder / "additional_chat_templates").symlink_to(outside.parent)
    assert "additional_chat_templates is a link" in only(folder).sentence
    (folder / "additional_chat_templates").unlink()
    (folder / "parts" / "deep").mkdir(parents=True)
    change_config(folder, auto_map={"AutoModelForCausalLM": "own.Own"})
    assert folder_faults(folder) == ()
    (folder / "parts" / "deep" / "own.py").symlink_to(outside)
    assert "parts/deep/own.py is a link" in only(folder).sentence
    assert own_code(folder) is None
    change_config(folder, auto_map=None)  # then nothing reads it
    assert folder_faults(folder) == ()


def test_links_within_the_folder_and_the_cache_of_the_hub(tmp_path: Path, outside: Path) -> None:
    """The cache's own layout is allowed; a link to elsewhere is not, even beside it."""
    folder = write_model(tmp_path / "model")
    (folder / WEIGHTS).rename(folder / "real.safetensors")
    (folder / WEIGHTS).symlink_to("real.safetensors")
    assert folder_faults(folder) == ()
    cached = tmp_path / "hub" / "models--someone--tiny"
    snapshot, blobs = cached / "snapshots" / "abc", cached / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in write_model(tmp_path / "again").iterdir():
        path.rename(blobs / f"hash-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/hash-{path.name}")
    assert folder_faults(snapshot) == ()
    assert {p.name for p in model_files(snapshot)} == {"config.json", WEIGHTS}
    (tmp_path / "link").symlink_to(snapshot)
    assert folder_faults(tmp_path / "link") == ()
    (snapshot / "generation_config.json").symlink_to(outside)
    assert only(snapshot).code == "link_outside"
    (snapshot / "generation_config.json").unlink()
    (blobs / "evil").symlink_to(outside)
    (snapshot / "generation_config.json").symlink_to("../../blobs/evil")
    assert only(snapshot).code == "link_outside"


def test_a_layout_that_only_looks_like_the_cache(tmp_path: Path, outside: Path) -> None:
    """Its ``blobs`` is a link, or it has another name."""
    repository = tmp_path / "models--a--b"
    snapshot = write_model(repository / "snapshots" / "abc")
    (repository / "blobs").symlink_to(outside.parent)
    (snapshot / "vocab.txt").symlink_to("../../blobs/secret.json")
    assert only(snapshot).code == "link_outside"
    (repository / "blobs").unlink()
    (repository / "blobs").mkdir()
    (repository / "blobs" / "secret.json").write_text("x", encoding="utf-8")
    assert folder_faults(snapshot) == ()
    shots = snapshot.parent.rename(repository / "shots")
    assert only(shots / "abc").code == "link_outside"
    shots.rename(repository / "snapshots")
    moved = repository.rename(tmp_path / "other")
    assert only(moved / "snapshots" / "abc").code == "link_outside"


def test_links_to_nothing_and_in_circles(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "tokenizer.json").symlink_to("gone.json")
    assert only(folder).code == "broken_link"
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("tokenizer.json")
    assert only(folder).code == "unreadable_file"
    assert "tokenizer.json cannot be read" in only(folder).sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_or_a_folder_in_place_of_a_file(name: str, tmp_path: Path) -> None:
    """It is not opened, so nothing waits for its other end."""
    folder = write_model(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert only(folder).sentence == f"{name} is a named pipe, not a file."
    assert problems("./model", tmp_path) == ["not_a_file model"]
    model_facts("./model", tmp_path)
    local_files("./model", tmp_path)
    if name != "README.md":
        with pytest.raises(StudioError, match="named pipe"):
            model_files(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    if name != "README.md":  # which is not needed
        assert only(folder).sentence == f"{name} is a folder, not a file."
    model_facts("./model", tmp_path)


def test_devices_sockets_and_deeper_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "tokenizer.json").symlink_to("/dev/zero")
    assert only(folder).code == "link_outside"
    (folder / "tokenizer.json").unlink()
    with unix_socket() as listening:
        monkeypatch.chdir(folder)  # the path of a socket is limited to 108 bytes
        listening.bind("tokenizer.json")
        assert only(folder).sentence == "tokenizer.json is a socket, not a file."
    (folder / "tokenizer.json").unlink()
    change_config(folder, auto_map={"AutoModelForCausalLM": "own.Own"})
    (folder / "parts").mkdir()
    os.mkfifo(folder / "parts" / "own.py")
    assert "parts/own.py is a named pipe" in only(folder).sentence
    assert own_code(folder) is None


def test_names_that_lead_out(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    listed = {"fast_tokenizer_files": ["../tokenizer.4.0.0.json", "tokenizer.json"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(listed), encoding="utf-8")
    assert only(folder).sentence == (
        "tokenizer_config.json names ../tokenizer.4.0.0.json, which is outside the model folder."
    )


# ------------------------------------------------------------------ adapters


def test_an_adapter_is_not_a_base(tmp_path: Path) -> None:
    """Alone it names its base; beside a model it has to move. Nothing is said about one in a folder
    of its own."""
    write_adapter(tmp_path / "adapter", "someone/the-base")
    fault = only(tmp_path / "adapter")
    assert (fault.code, "someone/the-base" in fault.hint) == ("adapter_folder", True)
    (tmp_path / "adapter" / "config.json").write_text("{}", encoding="utf-8")
    assert only(tmp_path / "adapter").code == "adapter_folder"
    folder = write_model(tmp_path / "model")
    write_adapter(folder / "adapter")
    assert folder_faults(folder) == ()
    write_adapter(folder)
    fault = only(folder)
    assert (fault.code, "Move adapter_config.json" in fault.hint) == ("adapter_beside", True)
    assert problems("./model", tmp_path) == ["adapter_beside model"]


@pytest.mark.parametrize("text", ["{", "[]", '{"base_model_name_or_path": 3}', "{}"])
def test_a_damaged_adapter_config_is_still_that_of_an_adapter(text: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text(text, encoding="utf-8")
    assert only(tmp_path / "adapter").code == "adapter_folder"


# ------------------------------------------------------------------ GGUF, hardware, speed


def write_gguf(path: Path, tensors: int = 2) -> bytes:
    """A GGUF file with strings, an array of strings and float32 tensors."""

    def text(words: str) -> bytes:
        return len(words).to_bytes(8, "little") + words.encode()

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little")

    tokens = b"".join(text(f"token {n}") for n in range(300))
    pairs = [
        text("general.architecture") + number(8) + text("llama"),
        text("llama.block_count") + number(4) + number(2),
        text("tokenizer.ggml.tokens") + number(9) + number(8) + number(300, 8) + tokens,
        text("tokenizer.ggml.token_type") + number(9) + number(5) + number(3, 8) + bytes(12),
    ]
    names = b"".join(
        text(f"blk.{n}.weight")
        + number(2)
        + number(8, 8)
        + number(4, 8)
        + number(0)
        + number(128 * n, 8)
        for n in range(tensors)
    )
    header = b"GGUF" + number(3) + number(tensors, 8) + number(len(pairs), 8)
    header += b"".join(pairs) + names
    content = header + bytes(-len(header) % 32) + bytes(128 * tensors)
    path.write_bytes(content)
    return content


def test_a_gguf_file_is_complete_or_refused(tmp_path: Path) -> None:
    """Cut anywhere, it is not; nor is anything else with that name."""
    file = tmp_path / "model.gguf"
    content = write_gguf(file)
    assert gguf_faults(file) == ()
    assert problems("./model.gguf", tmp_path) == []
    for keep in [0, 3, 4, 8, 20, 30, 100, 1000, len(content) - 200, len(content) - 1]:
        file.write_bytes(content[:keep])
        (fault,) = gguf_faults(file)
        assert fault.code == "bad_weights"
        assert problems("./model.gguf", tmp_path) == ["bad_weights model"]
    for other in (b"GGUF" + b"\xff" * 500, b"GGUF\x01" + bytes(500), b"PK\x03\x04" * 100):
        file.write_bytes(other)
        assert len(gguf_faults(file)) == 1
    write_gguf(file, tensors=0)
    assert "contains no tensors" in gguf_faults(file)[0].sentence
    file.unlink()
    os.mkfifo(file)
    assert problems("./model.gguf", tmp_path) == ["missing_file model"]


def test_what_this_machine_lacks_is_known_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert problems("./model", tmp_path, dtype="float16") == ["dtype_unsupported dtype"]
    flash = {"attention": "flash_attention_2"}
    assert problems("./model", tmp_path, **flash) == ["attention_unsupported attention"]
    for units, found in ((True, []), (False, ["bfloat16_emulated dtype"])):
        monkeypatch.setattr(hardware, "cpu_computes_bfloat16", lambda units=units: units)
        assert problems("./model", tmp_path, dtype="bfloat16") == []
        assert problems("./model", tmp_path, dtype="bfloat16", quantization="nf4") == found


def test_a_large_model_is_checked_in_a_second_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 layers in 30 files; the second time nothing is read."""
    layers = 60
    folder = write_model(tmp_path / "model", {})
    change_config(folder, num_hidden_layers=layers)
    (folder / WEIGHTS).unlink()
    listed = {}
    names = list(shapes(layers).items())
    for part in range(30):
        file = f"model-{part + 1:05d}-of-00030.safetensors"
        some = dict(names[part::30])
        write_weights(folder / file, some)
        listed.update(dict.fromkeys(some, file))
    (folder / INDEX).write_text(json.dumps({"weight_map": listed}), encoding="utf-8")
    supported()  # read once per process
    with cpu_limit(1.0):
        assert folder_faults(folder) == ()
    monkeypatch.setattr("studio.model.folder_check.stored_tensors", None)
    assert folder_faults(folder) == ()
    monkeypatch.undo()
    file = folder / "model-00030-of-00030.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert only(folder).code == "bad_weights"


def test_an_estimate_names_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    """A dry run is refused with the same sentence; a model without weights is enough for a formula."""
    folder = write_model(tmp_path / "model")
    nodes = (Node("base", "base_model", {"model": "./model"}), Node("train", "train", {}))
    graph = Graph("p", nodes, (Wire("base", "model", "train", "model"),))
    registry, facts = load_registry(), Facts(this_machine())
    sound = estimate_graph(graph, registry, tmp_path, facts)
    assert sound is not None
    assert not [n for n in sound.notes if "cannot be used" in n]
    drop_tensor(folder / WEIGHTS, "model.norm.weight")
    found = estimate_graph(graph, registry, tmp_path, facts)
    assert found is not None
    assert "model.norm.weight" in found.notes[0]
    job = job_of(graph, registry, tmp_path, nodes[1])
    with pytest.raises(StudioError, match=r"model\.norm\.weight") as caught:
        request("dry run", job, facts)
    assert caught.value.node == "train"
    (folder / WEIGHTS).unlink()
    bare = estimate_graph(graph, registry, tmp_path, facts)
    assert bare is not None
    assert (bare.total, bare.notes) == (sound.total, sound.notes)

"""The portable form: what the rules of PEFT, vLLM and llama.cpp make of an exported adapter."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import StudioError
from studio.node_settings.export import ExportSettings
from studio.training.export import portable
from studio.training.export.make import export
from studio.training.export.portable import decomposed
from studio.training.loop.train import train_adapter
from studio.values import AdapterValue
from tests.studio.training.adapters import (
    SHAPE,
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    save_family,
    tiny_base,
)
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.studio.training.llama_cpp import log_probabilities
from tests.studio.training.methods import METHODS, inputs_for, train_settings
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_gguf_export import exported as gguf_export
from tests.studio.training.test_resize import resized

pytestmark = pytest.mark.usefixtures("quiet_transformers")

CORE = sorted(m for m, v in METHODS.items() if not v.payload.research and m != "loftq")
KEYS_OF_0_13 = {
    *(
        "peft_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "task_type",
        "inference_mode",
    ),
    *("r", "target_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora"),
    *(
        "modules_to_save",
        "init_lora_weights",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
    ),
    *("alpha_pattern", "megatron_config", "megatron_core", "loftq_config", "use_dora"),
    *("layer_replication", "runtime_config"),
}
"""The fields of ``LoraConfig`` in PEFT 0.13, which refuses any other."""


def exported(
    root: Path, value: AdapterValue, recorder: Recorder | None = None, **settings: Any
) -> Path:
    context = make_context(root / "out", recorder or Recorder())
    context.title, context.project_name = "Export", "Small talk"
    export(context, value.to_json(), ExportSettings(check_rows=0, format_settings=settings))
    (artifact,) = context.artifacts
    return Path(artifact["path"])


def sentences(recorder: Recorder) -> str:
    return "\n".join(e.get("sentence") for e in recorder.named("Notice"))


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return found


def loads(folder: Path) -> dict[str, bool | None]:
    found: dict[str, bool | None] = json.loads(
        (folder / "lora-studio.json").read_text(encoding="utf-8")
    )["loads"]
    return found


def with_scales(base: str, folder: Path, program: str) -> Any:
    """The base with B·A added to its weights by a program's own rule for the scale."""
    config, tensors = config_of(folder), load_file(folder / "adapter_model.safetensors")
    assert config["peft_type"] == "LORA"
    assert not config.get("modules_to_save")
    model = plain_model(base)
    r, alpha = config["r"], config["lora_alpha"]
    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:  # an adapter changes only one of them
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    used = 0
    for name, a in tensors.items():
        embedding = name.endswith("lora_embedding_A")
        if not embedding and not name.endswith("lora_A.weight"):
            continue
        b = tensors[name.replace("lora_A.weight", "lora_B.weight").replace("ding_A", "ding_B")]
        path = name.removeprefix("base_model.model.").partition(".lora_")[0]
        scale = alpha / a.shape[0]  # llama.cpp: alpha by the rank of the tensor
        if program == "vllm":
            scale = alpha / (math.sqrt(r) if config.get("use_rslora") else r)
        module = model.get_submodule(path)
        change = scale * b @ a
        if embedding or type(module).__name__ == "Conv1D":
            change = change.T
        with torch.no_grad():
            module.weight += change
        used += 2
    assert used == len(tensors)
    return model


def assert_all_agree(value: AdapterValue, folder: Path) -> None:
    """Each program computes the logits of the trained adapter, or is named as not loading it."""
    wanted = logits(plain_adapted(value))
    found = value.model_copy(update={"path": str(folder)})
    assert float((logits(plain_adapted(found)) - wanted).abs().max()) < 1e-4
    base = value.model.model.path
    for program in ("vllm", "llama_cpp"):
        if loads(folder)[program] is not False:
            other = logits(with_scales(base, folder, program))
            assert float((other - wanted).abs().max()) < 1e-4, program


@pytest.mark.parametrize("method", CORE)
def test_every_program_computes_what_was_trained(tmp_path: Path, method: str) -> None:
    """Both forms of every core method; the tiny model's weights have rank 32, so nothing is cut."""
    context = make_context(tmp_path / "train", Recorder())
    inputs = inputs_for(tmp_path, method)
    make_bpe_tokenizer().save_pretrained(inputs["model"]["model"]["path"])  # GGUF needs merges
    value = train_adapter(context, inputs, train_settings(method, max_steps=4))
    plain, kept = (
        exported(tmp_path / "a", value),
        exported(tmp_path / "b", value, form="as_trained"),
    )
    assert_all_agree(value, plain)
    assert_all_agree(value, kept)
    refused = {"alora", "ln_tuning"}
    assert loads(plain)["vllm"] is (method not in refused)
    assert loads(plain)["llama_cpp"] is (method not in refused)
    if method not in refused:
        config = config_of(plain)
        assert config["r"] == config["lora_alpha"]
        assert set(config) <= KEYS_OF_0_13
    card = (kept / "README.md").read_text(encoding="utf-8")
    for program, title in (("vllm", "vLLM"), ("llama_cpp", "llama.cpp")):
        assert (f"loads in {title} | no: " in card) == (loads(kept)[program] is False)
    if find_spec("xllamacpp") is not None:
        assert_llama_cpp_itself_agrees(tmp_path, value, refuses=method in refused)


def assert_llama_cpp_itself_agrees(root: Path, value: AdapterValue, *, refuses: bool) -> None:
    """The adapter in GGUF on its base in GGUF, or a refusal that names the reader."""
    if refuses:
        with pytest.raises(StudioError, match="cannot be written as GGUF: "):
            gguf_export(root / "c", value)
        return
    (lora,) = gguf_export(root / "c", value).glob("*.gguf")
    (base,) = gguf_export(root / "d", value.model.model, quantizations=["F32"]).glob("*.gguf")
    row = [(7 * i) % 250 + 3 for i in range(24)]
    with torch.no_grad():
        wanted = plain_adapted(value)(torch.tensor([row])).logits[0, -1].float().log_softmax(-1)
    (found,) = log_probabilities(base, [row], len(wanted), lora)
    assert max(abs(float(wanted[token]) - value) for token, value in found.items()) < 1e-4


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 2, "down_proj": 7}},
    "alphas": {"alpha_pattern": {"v_proj": 32}},
    "both": {"rank_pattern": {"k_proj": 1}, "alpha_pattern": {"o_proj": 3}, "use_rslora": True},
    "dora": {"use_dora": True},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "embedding lora": {"target_modules": ["q_proj", "embed_tokens"]},
    "tokens": {"trainable_token_indices": [5, 6, 9]},
    "one layer": {"target_modules": "model.layers.0.self_attn.(q|v)_proj"},
    "biases": {"bias": "all"},
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("case", CASES)
def test_what_people_configure(tmp_path: Path, case: str, tied: bool) -> None:
    values = {**SHAPE, "tie_word_embeddings": tied}
    base = model_value(save_family(tmp_path / "model", "LlamaConfig", values))
    value = random_adapter(tmp_path, base, **CASES[case])
    folder = exported(tmp_path, value, max_rank=256)
    assert_all_agree(value, folder)
    assert all(answer is not False for name, answer in loads(folder).items() if name == "peft")
    if case in {"plain", "rslora", "ranks", "alphas", "both", "dora", "one layer", "biases"}:
        assert loads(folder)["vllm"] is True
        assert loads(folder)["llama_cpp"] is True


@pytest.mark.parametrize(
    ("case", "refusing"),
    [
        ("plain", set()),
        ("rslora", {"llama_cpp"}),
        ("ranks", {"vllm"}),
        ("alphas", {"vllm", "llama_cpp"}),
        ("dora", {"vllm", "llama_cpp"}),
        ("head", {"vllm", "llama_cpp"}),
        ("tokens", {"vllm", "llama_cpp"}),
    ],
)
def test_as_trained_names_who_reads_something_else(
    tmp_path: Path, case: str, refusing: set[str]
) -> None:
    recorder = Recorder()
    value = random_adapter(tmp_path, tiny_base(tmp_path), **CASES[case])
    folder = exported(tmp_path, value, recorder, form="as_trained")
    answers = loads(folder)
    assert {name for name, answer in answers.items() if answer is False} == refusing
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name, title in (("vllm", "vLLM"), ("llama_cpp", "llama.cpp")):
        assert (title in sentences(recorder)) == (name in refusing)
        assert (f"loads in {title} | no: " in card) == (name in refusing)
    assert_all_agree(value, folder)


def test_gpt_2_stores_its_weights_the_other_way(tmp_path: Path) -> None:
    values = {"vocab_size": SHAPE["vocab_size"], "n_embd": 32, "n_layer": 2, "n_head": 4}
    base = model_value(save_family(tmp_path / "model", "GPT2Config", values))
    for case, config in (("a", {"use_rslora": True}), ("b", {"use_dora": True})):
        more = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, **config}
        value = random_adapter(tmp_path / case, base, **more)
        folder = exported(tmp_path / case, value)
        assert config_of(folder)["fan_in_fan_out"] is True
        assert_all_agree(value, folder)


def test_layers_are_named_by_their_ends_only_if_that_is_exact(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    every = random_adapter(tmp_path / "a", base, target_modules=["v_proj", "q_proj"])
    assert config_of(exported(tmp_path / "a", every))["target_modules"] == ["q_proj", "v_proj"]
    one = random_adapter(tmp_path / "b", base, target_modules=r"model\.layers\.1\.mlp\.up_proj")
    folder = exported(tmp_path / "b", one)
    assert config_of(folder)["target_modules"] == ["model.layers.1.mlp.up_proj"]
    assert len(load_file(folder / "adapter_model.safetensors")) == 2


def test_a_change_of_high_rank_is_cut_to_the_nearest_one_and_said(tmp_path: Path) -> None:
    """Of all matrices of this rank none is nearer; the share that is kept is stated."""
    value = random_adapter(tmp_path, tiny_base(tmp_path), size=0.3, use_dora=True, r=6)
    recorder = Recorder()
    folder = exported(tmp_path / "a", value, recorder, max_rank=26)
    assert config_of(folder)["r"] == 26
    assert "layers were converted, which keeps 99." in sentences(recorder)
    full = exported(tmp_path / "b", value, max_rank=512)
    name = "base_model.model.model.layers.0.mlp.up_proj"

    def change(path: Path) -> torch.Tensor:
        tensors = load_file(path / "adapter_model.safetensors")
        return tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]

    cut = torch.linalg.svdvals(change(full))[26:]
    found = float((change(full) - change(folder)).norm())
    assert found == pytest.approx(float(cut.norm()), rel=1e-3)
    assert float(cut.norm()) > 0


def test_an_adapter_that_would_lose_too_much_is_left_as_trained(tmp_path: Path) -> None:
    value = random_adapter(tmp_path, tiny_base(tmp_path), size=0.3, use_dora=True, r=6)
    recorder = Recorder()
    folder = exported(tmp_path, value, recorder, max_rank=1)
    assert config_of(folder)["use_dora"] is True
    assert loads(folder) == {"peft": True, "vllm": False, "llama_cpp": False}
    assert "exported as it was trained: as a LoRA of rank 1 it would keep" in sentences(recorder)
    hints = [e.get("hint") for e in recorder.named("Notice")]
    assert any(h.startswith("Raise Maximum rank.") for h in hints)


def test_wide_layers_are_decomposed_too(tmp_path: Path) -> None:
    """The randomized decomposition finds a low rank under noise, and the same one each time."""
    torch.manual_seed(0)
    change = torch.randn(1500, 7) @ torch.randn(7, 1200)
    change += 1e-6 * torch.randn_like(change)
    noise = 2e-6 * math.sqrt(change.numel())
    pair, again = decomposed(change, 64, noise), decomposed(change, 64, noise)
    assert pair.a.shape == (7, 1200)
    assert pair.lost == 0
    assert float((pair.b @ pair.a - change).norm()) < 2 * noise
    assert torch.equal(pair.a, again.a)
    cut = decomposed(change, 3, noise)
    values = torch.linalg.svdvals(change.double())
    assert cut.lost == pytest.approx(float(values[3:].square().sum()), rel=1e-2)


@pytest.mark.parametrize(("r", "option"), [(8, 8), (9, 16), (16, 16), (300, 320)])
def test_the_rank_that_vllm_has_to_be_started_with(tmp_path: Path, r: int, option: int) -> None:
    value = random_adapter(tmp_path, tiny_base(tmp_path), r=r, target_modules=["q_proj"])
    card = (exported(tmp_path, value) / "README.md").read_text(encoding="utf-8")
    assert f"| option for vLLM | --max-lora-rank {option} |" in card


@pytest.mark.parametrize("energy", [0.6, 0.95])
def test_a_resized_adapter_has_the_same_effect_everywhere(tmp_path: Path, energy: float) -> None:
    """Its layers have ranks of their own, which llama.cpp reads differently; the portable form fills them up."""
    value = random_adapter(tmp_path, tiny_base(tmp_path), r=6, use_rslora=True)
    small = resized(tmp_path, value, by="energy", energy=energy)
    kept, plain = (
        exported(tmp_path / "a", small, form="as_trained"),
        exported(tmp_path / "b", small),
    )
    assert config_of(kept)["rank_pattern"]
    assert loads(kept)["llama_cpp"] is False
    assert loads(plain) == {"peft": True, "vllm": True, "llama_cpp": True}
    assert_all_agree(small, plain)


def test_adapters_that_lead_out_of_their_folder_are_refused(tmp_path: Path) -> None:
    for form in ("portable", "as_trained"):
        value = random_adapter(tmp_path / form, tiny_base(tmp_path / form))
        secret = tmp_path / form / "secret.json"
        secret.write_text("{}", encoding="utf-8")
        (Path(value.path) / "notes.json").symlink_to(secret)
        with pytest.raises(StudioError, match=r"notes\.json"):
            exported(tmp_path / form, value, form=form)
        assert not (tmp_path / form / "out" / "export").exists()


def test_a_form_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The written files are loaded and compared: a wrong scale leaves no export."""
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    monkeypatch.setattr(portable, "scale_of", lambda *args: 1.0)
    with pytest.raises(StudioError) as caught:
        exported(tmp_path, value)
    assert caught.value.code == "export_mismatch"
    assert not (tmp_path / "out" / "export").exists()


def test_nothing_of_this_machine_is_in_the_export(tmp_path: Path) -> None:
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    folder = exported(tmp_path, value)
    assert config_of(folder)["base_model_name_or_path"] == "model"
    places = (str(tmp_path).encode(), str(Path.home()).encode())
    for file in folder.iterdir():
        assert not any(place in file.read_bytes() for place in places), file.name


def test_the_end_token_of_the_template_travels_with_the_adapter(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    generation = Path(base.path) / "generation_config.json"
    generation.write_text('{"eos_token_id": 77, "temperature": 0.5}', encoding="utf-8")
    for form in ("portable", "as_trained"):
        value = random_adapter(tmp_path / form, base)
        folder = exported(tmp_path / form, value, form=form)
        found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        assert found["temperature"] == 0.5
        assert found["eos_token_id"][0] == 77
        assert len(found["eos_token_id"]) == 2


def test_weights_in_half_precision_keep_their_values(tmp_path: Path) -> None:
    """B times a scale that is no power of two is not rounded to the adapter's precision."""
    value = random_adapter(tmp_path, tiny_base(tmp_path), r=4, lora_alpha=3)
    file = Path(value.path) / "adapter_model.safetensors"
    halves = {n: t.to(torch.bfloat16) for n, t in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    found = load_file(exported(tmp_path, value) / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    assert torch.equal(found[name], halves[name].float() * 0.75)

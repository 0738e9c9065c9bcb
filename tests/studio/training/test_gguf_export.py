"""GGUF exports, read back by transformers, the gguf package, and llama.cpp where it is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.errors import Problem, Stopped, StudioError
from studio.export_folder.gguf_architectures import ARCHITECTURES, refusal
from studio.export_folder.gguf_names import file_name
from studio.exporters.gguf import VARIANT
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.graph.schema import problems_in
from studio.model.gguf_header import read_gguf_header
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.export import ExportSettings, GgufSettings
from studio.nodes.export import NODE
from studio.training.export.gguf_tokenizer import vocabulary
from studio.training.export.gguf_weights import Names
from studio.training.export.make import export
from studio.training.fetch.gguf import import_file
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.values import AdapterValue, ModelValue
from tests.small_disk import small_disk
from tests.studio.training.adapters import plain_adapted, plain_model, random_adapter
from tests.studio.training.gguf_models import (
    FAMILIES,
    make_bpe_tokenizer,
    make_sentencepiece_tokenizer,
    save_noisy,
)
from tests.studio.training.llama_cpp import log_probabilities, needs_llama_cpp
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_merge import merged
from tests.tiny import CHAT_TEMPLATE, END_ID, PAD_ID, START_ID, VOCABULARY

pytestmark = pytest.mark.usefixtures("quiet_transformers")
LONG = [(37 * i * i + 11 * i) % 256 + 3 for i in range(100)]
PROMPTS = [[5, 60, 7, 200, 31, 9, 9, 120, 77, 14, 250, 3, 3, 41, 18, 66], LONG]
"""The second is longer than the sliding windows, and than the contexts before RoPE was scaled."""
GELU = ("gemma", "gemma2", "gemma3", "gpt2")
"""llama.cpp reads GELU from a table in half precision."""
ROUNDED = ("nemotron", "qwen3 mixture")
"""In half precision, another expert may be chosen, and the squares of ReLU² enlarge differences."""
TEXT = "abc abcab 12 345  x\n\n it's a Test: abc,ab"
NAME = "Small-talk"


def exported(
    root: Path, value: ModelValue | AdapterValue, recorder: Recorder | None = None, **settings: Any
) -> Path:
    """The folder of an export in the format GGUF."""
    context = make_context(root / "out", recorder or Recorder())
    context.title, context.project_name = "Export", "Small talk"
    export(
        context,
        value.to_json(),
        ExportSettings(check_rows=0, format="gguf", format_settings=settings),
    )
    (artifact,) = context.artifacts
    assert artifact["kind"] == ("adapter_gguf" if isinstance(value, AdapterValue) else "gguf")
    return Path(artifact["path"])


def noisy(root: Path, family: str = "llama") -> ModelValue:
    """A tiny model of this family."""
    return model_value(save_noisy(root / "model", *FAMILIES[family]))


def expected(model: Any, prompts: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    """What transformers computes: logarithms of the probabilities of the next token."""
    with torch.no_grad():
        return [
            model(torch.tensor([p])).logits[0, -1].float().log_softmax(-1).numpy() for p in prompts
        ]


def largest_difference(
    model: Any, file: Path, prompts: Sequence[list[int]], lora: Path | None = None
) -> float:
    """The largest difference between transformers and llama.cpp."""
    found = log_probabilities(file, prompts, VOCABULARY, lora)
    return max(
        abs(float(row[token]) - value)
        for row, answer in zip(expected(model, prompts), found, strict=True)
        for token, value in answer.items()
    )


def read(file: Path) -> Any:
    """The file as the gguf package reads it."""
    import gguf

    return gguf.GGUFReader(file)


def tensors(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The dequantized tensors of a file."""
    import gguf

    return {
        t.name: gguf.dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape)))
        for t in read(file).tensors
    }


def keys(file: Path) -> dict[str, Any]:
    """The keys of a file."""
    return {name: field.contents() for name, field in read(file).fields.items()}


def sentences(recorder: Recorder) -> str:
    return "\n".join(e.get("sentence") for e in recorder.named("Notice"))


# ------------------------------------------------------------------ models


@needs_llama_cpp
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same(tmp_path: Path, family: str) -> None:
    base = noisy(tmp_path, family)
    folder = exported(tmp_path, base, quantizations=["F32", "F16"])
    # By its context, llama.cpp chooses the factors of LongRoPE once, and transformers for each text.
    prompts = [LONG] if family == "phi3 longrope" else PROMPTS
    model = plain_model(base.path)
    for kind in ("F32", "F16"):
        found = largest_difference(model, folder / f"{NAME}-{kind}.gguf", prompts)
        exact = kind == "F32" and family not in GELU
        allowed = 5e-2 if kind == "F16" and family in ROUNDED else 1e-2
        assert found < (1e-3 if exact else allowed), kind


@pytest.mark.parametrize(
    "family", ["llama", "llama with biases", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"]
)
def test_transformers_reads_the_same_weights(tmp_path: Path, family: str) -> None:
    """Its reader of GGUF undoes what the export does to each weight."""
    from transformers import AutoConfig, AutoModelForCausalLM

    base = noisy(tmp_path, family)
    folder = exported(tmp_path, base, quantizations=["F32"])
    config = AutoConfig.from_pretrained(base.path)  # it does not read all keys of GGUF
    found = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=f"{NAME}-F32.gguf", config=config, dtype=torch.float32
    )
    wanted = plain_model(base.path).state_dict()
    state = found.state_dict()
    assert set(state) == set(wanted)
    for name, weight in wanted.items():
        assert torch.allclose(state[name], weight, atol=1e-6), name


@needs_llama_cpp
def test_experts_that_are_stored_together(tmp_path: Path) -> None:
    """As some programs store mixtures: gate and up of all experts in one tensor."""
    base = noisy(tmp_path, "qwen3 mixture")
    wanted = expected(plain_model(base.path), PROMPTS)
    alone = exported(tmp_path / "alone", base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    weights = Path(base.path) / "model.safetensors"
    stored = read_tensors(weights)
    for layer in range(2):
        place = f"model.layers.{layer}.mlp.experts"

        def of(part: str, at: str = place) -> Any:
            return torch.stack([stored.pop(f"{at}.{i}.{part}.weight") for i in range(4)])

        stored[f"{place}.gate_up_proj"] = torch.cat([of("gate_proj"), of("up_proj")], dim=1)
        stored[f"{place}.down_proj"] = of("down_proj")
    write_tensors(stored, weights)
    file = exported(tmp_path / "together", base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    assert {n: t.tobytes() for n, t in tensors(file).items()} == {
        n: t.tobytes() for n, t in tensors(alone).items()
    }
    for row, answer in zip(wanted, log_probabilities(file, PROMPTS, VOCABULARY), strict=True):
        assert max(abs(float(row[t]) - v) for t, v in answer.items()) < 1e-3


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    base = noisy(tmp_path, "qwen3 mixture")
    weights = Path(base.path) / "model.safetensors"
    stored = read_tensors(weights)
    del stored["model.layers.1.mlp.experts.2.up_proj.weight"]
    write_tensors(stored, weights)
    with pytest.raises(
        StudioError, match=r"blk\.1\.ffn_up_exps\.weight has 3 experts, and the .* says 4"
    ):
        exported(tmp_path, base)


def test_the_router_of_a_mixture_is_not_quantized(tmp_path: Path) -> None:
    folder = exported(tmp_path, noisy(tmp_path, "qwen3 mixture"), quantizations=["Q8_0"])
    types = {t.name: t.tensor_type.name for t in read(folder / f"{NAME}-Q8_0.gguf").tensors}
    assert types["blk.0.ffn_gate_inp.weight"] == "F32"
    assert types["blk.0.ffn_gate_exps.weight"] == "Q8_0"


def test_a_stored_head_that_is_not_used_is_left_out(tmp_path: Path) -> None:
    """Some models with a shared matrix store it twice; transformers ignores the second."""
    base = noisy(tmp_path)
    weights = Path(base.path) / "model.safetensors"
    stored = read_tensors(weights)
    write_tensors({**stored, "lm_head.weight": torch.zeros(VOCABULARY, 32)}, weights)
    names = {t.name for t in read(exported(tmp_path, base) / f"{NAME}-Q8_0.gguf").tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names


def test_names_without_the_prefix_of_the_head() -> None:
    """GPT-2 is stored like this on the Hub."""
    names = Names(ARCHITECTURES["gpt2"], {"n_layer": 2})
    assert names.of("h.1.attn.c_attn.bias") == "blk.1.attn_qkv.bias"
    assert names.of("transformer.h.1.attn.c_attn.bias") == "blk.1.attn_qkv.bias"
    with pytest.raises(StudioError, match=r"h\.2\.attn\.c_attn\.bias has no place"):
        names.of("h.2.attn.c_attn.bias")


def test_the_program_imports_what_it_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import keeps weights, tokens, chat template, end token and the name of the pre-tokenizer."""
    from transformers import AutoTokenizer

    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    base = noisy(tmp_path)
    bpe_like("smollm").save_pretrained(base.path)
    file = exported(tmp_path, base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    folder, _ = import_file(make_context(tmp_path / "import", Recorder()), file)
    found, wanted = plain_model(folder).state_dict(), plain_model(base.path).state_dict()
    for name, weight in wanted.items():
        assert torch.allclose(found[name], weight, rtol=1e-2), name
    own, again = AutoTokenizer.from_pretrained(base.path), AutoTokenizer.from_pretrained(folder)
    assert again("abc abcab")["input_ids"] == own("abc abcab")["input_ids"]
    assert again.eos_token == own.eos_token
    assert again.chat_template == own.chat_template
    imported = base.model_copy(update={"path": str(folder), "source": str(file)})
    second = exported(tmp_path / "again", imported) / f"{NAME}-Q8_0.gguf"
    assert keys(second)["tokenizer.ggml.pre"] == "smollm"


def test_quantizations_share_one_reading(tmp_path: Path) -> None:
    from studio.training.model.weights_file import StoredWeights

    base = noisy(tmp_path)
    chosen = ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]
    reads: list[str] = []
    real = StoredWeights.tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            StoredWeights, "tensor", lambda self, name: (reads.append(name), real(self, name))[1]
        )
        folder = exported(tmp_path, base, quantizations=chosen)
    assert len(reads) == len(set(reads)) > 0
    exact = tensors(folder / f"{NAME}-F32.gguf")
    steps = {
        "F16": 1e-3,
        "BF16": 8e-3,
        "Q8_0": 1e-2,
        "Q5_1": 0.06,
        "Q5_0": 0.08,
        "Q4_1": 0.12,
        "Q4_0": 0.16,
    }
    for kind, allowed in steps.items():
        file = folder / f"{NAME}-{kind}.gguf"
        types = {t.name: t.tensor_type.name for t in read(file).tensors}
        assert types["blk.0.attn_q.weight"] == kind
        assert types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == "F32"
        # Of a shared matrix, the head decides.
        assert types["token_embd.weight"] == ("Q8_0" if kind[:2] in ("Q4", "Q5") else kind)
        # Rows of 48 are no multiple of 32.
        assert types["blk.0.ffn_down.weight"] == ("F16" if kind[0] == "Q" else kind)
        for name, values in tensors(file).items():
            assert np.abs(values - exact[name]).max() <= allowed * np.abs(exact[name]).max(), name


def test_the_size_is_known_before_writing(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    settings = VARIANT.settings.model_validate({"quantizations": ["Q8_0", "F16"]})
    needed = VARIANT.payload.size_with(base, settings)
    folder = exported(tmp_path, base, quantizations=["Q8_0", "F16"])
    written = sum(p.stat().st_size for p in folder.glob("*.gguf"))
    assert written <= needed < written + 100_000, "the bound for the keys of two files"


def test_what_the_file_says(tmp_path: Path) -> None:
    base = noisy(tmp_path, "qwen3")
    starter = base.model_copy(update={"source": "starter:smollm2-135m"})
    found = keys(exported(tmp_path, starter) / f"{NAME}-Q8_0.gguf")
    assert found["general.architecture"] == "qwen3"
    assert found["general.type"] == "model"
    assert found["general.name"] == "Small talk"
    assert found["general.license"] == "apache-2.0"
    assert found["general.size_label"].endswith("K")
    assert found["general.file_type"] == 7
    assert found["general.quantization_version"] == 2
    assert found["general.base_model.0.name"] == "SmolLM2-135M-Instruct"
    assert found["general.base_model.0.organization"] == "HuggingFaceTB"
    assert found["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert found["tokenizer.ggml.bos_token_id"] == START_ID
    assert found["tokenizer.ggml.eos_token_id"] == END_ID
    assert found["tokenizer.ggml.padding_token_id"] == PAD_ID
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["qwen3.attention.head_count_kv"] == 2
    assert found["qwen3.attention.key_length"] == 16


def test_the_card_says_how_to_run_it(tmp_path: Path) -> None:
    folder = exported(tmp_path, noisy(tmp_path), quantizations=["Q8_0", "Q4_0"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "llama-server -m Small-talk-Q8_0.gguf" in card
    assert "Small-talk-Q4_0.gguf" in card
    assert "library_name: gguf" in card
    assert "from_pretrained" not in card
    manifest = json.loads((folder / "lora-studio.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "gguf"
    assert manifest["quantizations"] == ["Q8_0", "Q4_0"]
    assert set(manifest["files"]) == {
        "README.md",
        "parity.json",
        f"{NAME}-Q8_0.gguf",
        f"{NAME}-Q4_0.gguf",
    }


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (["Q4_K_X"], "the quantization Q4_K_X is not one of F32, F16, BF16, Q8_0"),
        ([], "choose at least one quantization."),
    ],
)
def test_other_quantizations_are_a_problem(chosen: list[str], sentence: str) -> None:
    (problem,) = problems_in(GgufSettings, {"quantizations": chosen}, "e", "Export")
    assert problem.sentence.startswith(f"Export: {sentence}")
    assert GgufSettings(quantizations=["q8_0", "Q8_0", "f16"]).quantizations == ["Q8_0", "F16"]


@pytest.mark.parametrize(
    ("project", "name"),
    [
        ("Small talk", "Small-talk-Q8_0.gguf"),
        ("a/b\\c: d?", "a-b-c-d-Q8_0.gguf"),
        ("", "model-Q8_0.gguf"),
        ("…", "model-Q8_0.gguf"),
        ("x" * 200, "x" * 40 + "-Q8_0.gguf"),
    ],
)
def test_names_of_files(project: str, name: str) -> None:
    assert file_name(project, "Q8_0") == name


# ------------------------------------------------------------------ tokenizers


@needs_llama_cpp
@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "qwen2", "llama-bpe", "sentencepiece"])
def test_llama_cpp_splits_text_in_the_same_way(tmp_path: Path, kind: str) -> None:
    """The next token after a text is the same only if the text consists of the same tokens."""
    base = noisy(tmp_path)
    tokenizer = make_sentencepiece_tokenizer() if kind == "sentencepiece" else bpe_like(kind)
    tokenizer.save_pretrained(base.path)
    file = exported(tmp_path, base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    texts = [TEXT, "abc", "<|im_start|>user\nabc<|im_end|>\n"]
    model = plain_model(base.path)
    wanted = expected(model, [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts])
    for row, answer in zip(wanted, log_probabilities(file, texts, VOCABULARY), strict=True):
        assert max(abs(float(row[t]) - v) for t, v in answer.items()) < 1e-2


def bpe_like(name: str) -> Any:
    """The tiny tokenizer with the pre-tokenizer of a known one."""
    from tokenizers import Regex, pre_tokenizers

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    patterns = {"qwen2": rf"{words}|\p{{N}}|{rest}", "llama-bpe": rf"{words}|\p{{N}}{{1,3}}|{rest}"}
    if name in patterns:
        split = pre_tokenizers.Split(Regex(patterns[name]), "isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        both = pre_tokenizers.Sequence([split, bytes_only])
        return make_bpe_tokenizer(both, ignore_merges=name == "llama-bpe")
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return make_bpe_tokenizer(pre_tokenizers.Sequence([digits, plain]))
    return make_bpe_tokenizer(plain)


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_known_pre_tokenizers_are_named(name: str) -> None:
    assert vocabulary(bpe_like(name), VOCABULARY, "").pre == name


def test_an_unknown_pre_tokenizer_is_refused_unless_the_base_came_from_gguf() -> None:
    from tokenizers import pre_tokenizers

    own = make_bpe_tokenizer(pre_tokenizers.Whitespace())
    with pytest.raises(StudioError, match="does not know its pre-tokenizer"):
        vocabulary(own, VOCABULARY, "")
    assert vocabulary(own, VOCABULARY, "smollm").pre == "smollm"


def test_the_pre_tokenizer_of_an_imported_base_is_kept(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    (Path(base.path) / "source.json").write_text('{"pre_tokenizer": "smollm"}', encoding="utf-8")
    file = exported(tmp_path, base) / f"{NAME}-Q8_0.gguf"
    assert keys(file)["tokenizer.ggml.pre"] == "smollm"
    assert read_gguf_header(file).pre_tokenizer == "smollm"


def test_merges_keep_their_order(tmp_path: Path) -> None:
    found = keys(exported(tmp_path, noisy(tmp_path)) / f"{NAME}-Q8_0.gguf")
    assert found["tokenizer.ggml.merges"] == ["a b", "b c", "Ġ ab"]
    assert found["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert found["tokenizer.ggml.tokens"][-2:] == ["[PAD262]", "[PAD263]"]
    assert found["tokenizer.ggml.token_type"][-2:] == [5, 5]


def test_another_end_of_turn_is_written(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    tokenizer = make_bpe_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(base.path)
    found = keys(exported(tmp_path, base) / f"{NAME}-Q8_0.gguf")
    assert found["tokenizer.ggml.eos_token_id"] == PAD_ID
    assert found["tokenizer.ggml.eot_token_id"] == END_ID


def test_further_end_tokens_are_written_or_told(tmp_path: Path) -> None:
    """llama.cpp ends an answer at EOS, EOT and EOM, and at tokens that it knows by name."""
    base = noisy(tmp_path)
    generation = Path(base.path) / "generation_config.json"
    ends = [END_ID, PAD_ID, 40, 41]  # the second is known by its name
    generation.write_text(json.dumps({"eos_token_id": ends}), encoding="utf-8")
    recorder = Recorder()
    found = keys(exported(tmp_path / "a", base, recorder) / f"{NAME}-Q8_0.gguf")
    names = ("eos", "eot", "eom")
    assert [found[f"tokenizer.ggml.{n}_token_id"] for n in names] == [END_ID, 40, 41]
    assert "no place" not in sentences(recorder)
    generation.write_text(json.dumps({"eos_token_id": [*ends, 42]}), encoding="utf-8")
    exported(tmp_path / "b", base, recorder)
    token = found["tokenizer.ggml.tokens"][42]
    assert f"will not end an answer at {token}." in sentences(recorder)


def test_sentencepiece_scores_follow_the_merges() -> None:
    found = vocabulary(make_sentencepiece_tokenizer(), VOCABULARY, "")
    assert found.model == "llama"
    assert found.prefix
    score = dict(zip(found.tokens, found.scores, strict=True))
    kind = dict(zip(found.tokens, found.types, strict=True))
    assert score["ab"] > score["bc"] > score["▁ab"]
    assert kind["<0x41>"] == 6
    assert kind["<unk>"] == 2
    assert kind["<|im_start|>"] == 3
    assert kind["ab"] == 1


# ------------------------------------------------------------------ adapters


@needs_llama_cpp
@pytest.mark.parametrize(
    "family",
    ["llama", "qwen3", "gemma3", "phi3", "gpt2", "granite", "glm4", "cohere2", "qwen3 mixture"],
)
def test_an_adapter_on_its_base_computes_the_same_in_llama_cpp(tmp_path: Path, family: str) -> None:
    base = noisy(tmp_path, family)
    # Adapters on the weights of several experts have to be merged.
    layers = {"target_modules": ["q_proj", "o_proj"]} if "mixture" in family else {}
    adapter = random_adapter(tmp_path, base, size=0.2, alpha_pattern={"q_proj": 3}, **layers)
    base_file = exported(tmp_path / "base", base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    lora = exported(tmp_path / "lora", adapter) / f"{NAME}-F32-LoRA.gguf"
    assert largest_difference(plain_model(base.path), base_file, PROMPTS, lora) > 0.1
    assert largest_difference(plain_adapted(adapter), base_file, PROMPTS, lora) < 1e-2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "gpt2"])
def test_base_and_adapter_are_the_merged_model(tmp_path: Path, family: str) -> None:
    """W + alpha / rank · B·A of the files, by llama.cpp's rule for the scale."""
    base = noisy(tmp_path, family)
    adapter = random_adapter(tmp_path, base, size=0.2, rank_pattern={"v_proj": 2}, use_rslora=True)
    make_bpe_tokenizer().save_pretrained(adapter.path)
    whole = merged(tmp_path / "merged", adapter)
    alone = tensors(exported(tmp_path / "a", base, quantizations=["F32"]) / f"{NAME}-F32.gguf")
    wanted = tensors(exported(tmp_path / "b", whole, quantizations=["F32"]) / f"{NAME}-F32.gguf")
    file = exported(tmp_path / "c", adapter) / f"{NAME}-F32-LoRA.gguf"
    found, facts = tensors(file), keys(file)
    assert facts["general.type"] == "adapter"
    assert facts["adapter.type"] == "lora"
    for name in [n.removesuffix(".lora_a") for n in found if n.endswith(".lora_a")]:
        a, b = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
        alone[name] = alone[name] + facts["adapter.lora.alpha"] / a.shape[0] * (b @ a)
    assert set(alone) == set(wanted)
    for name, values in wanted.items():
        assert np.allclose(alone[name], values, atol=1e-4), name


@needs_llama_cpp
def test_an_adapter_of_an_embedding_of_its_own(tmp_path: Path) -> None:
    base = noisy(tmp_path, "llama with biases")
    adapter = random_adapter(
        tmp_path, base, size=0.2, target_modules=["embed_tokens", "q_proj", "lm_head"]
    )
    base_file = exported(tmp_path / "base", base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    lora = exported(tmp_path / "lora", adapter) / f"{NAME}-F32-LoRA.gguf"
    assert largest_difference(plain_adapted(adapter), base_file, PROMPTS, lora) < 1e-2


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_llama_cpp_cannot_load_is_refused(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    for config, reason in (
        ({"target_modules": ["embed_tokens", "q_proj"]}, "an embedding that the head shares"),
        ({"modules_to_save": ["norm"]}, "no adapters that change model"),
    ):
        adapter = random_adapter(tmp_path / "it", base, size=0.2, **config)
        with pytest.raises(StudioError, match=reason) as caught:
            exported(tmp_path, adapter)
        assert "Merge the adapter" in caught.value.hint


def test_an_adapter_is_not_quantized(tmp_path: Path) -> None:
    recorder = Recorder()
    adapter = random_adapter(tmp_path, noisy(tmp_path))
    folder = exported(tmp_path, adapter, recorder, quantizations=["Q4_0", "F16"])
    assert [p.name for p in folder.glob("*.gguf")] == [f"{NAME}-F16-LoRA.gguf"]
    assert "written in F16 instead of Q4_0" in sentences(recorder)


# ------------------------------------------------------------------ what cannot be written


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "mamba"}, "the architecture mamba is not supported"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "no RoPE scaling of the type dynamic"),
        ({"rope_scaling": {"type": "longrope"}}, "no RoPE scaling of the type longrope"),
        ({"hidden_act": "relu"}, "another activation than relu"),
        ({"quantization_config": {"quant_method": "fp8"}}, "stored quantized"),
        ({"partial_rotary_factor": 0.5}, "rotates whole heads"),
        (
            {"model_type": "gemma2", "hidden_size": 64, "query_pre_attn_scalar": 99},
            "scales the attention",
        ),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, "no separate head"),
        ({"model_type": "gemma3_text", "layer_types": ["full_attention"]}, "every 6th layer"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale of the attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding window in some layers"),
        ({"model_type": "qwen3_moe", "norm_topk_prob": False}, "normalizes the gates"),
        ({"model_type": "qwen2_moe", "norm_topk_prob": True}, "does not normalize the gates"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [0]}, "experts in every layer"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 1, 0, 1]}, "RoPE out in every 4th layer"),
        ({"model_type": "cohere", "use_qk_norm": True}, "no use_qk_norm"),
        ({"model_type": "stablelm", "qk_layernorm": True}, "no qk_layernorm"),
        (
            {"model_type": "olmoe", "num_attention_heads": 4, "num_key_value_heads": 2},
            "no grouped queries",
        ),
        ({"model_type": "exaone4", "num_hidden_layers": 64}, "another sliding window"),
        ({"model_type": "cohere2", "layer_types": ["full_attention"]}, "every 4th layer"),
    ],
)
def test_what_llama_cpp_computes_differently_is_refused(
    change: dict[str, Any], reason: str
) -> None:
    assert refusal({"model_type": "llama"}) == ""
    assert reason in refusal({"model_type": "llama", **change})


def test_an_unsupported_architecture_is_a_problem_before_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
    context = CheckContext(
        "e",
        "Export",
        tmp_path,
        upstream={"b": ("base_model", BaseModelSettings(model=str(folder)))},
        variants=load_registry().variants,
    )
    found = NODE.check(ExportSettings(format="gguf"), context)
    (problem,) = [p for p in found if p.code != "no_llama_cpp"]
    assert problem.sentence.startswith(
        "Export: the model cannot be written as GGUF: the architecture mamba is not supported"
    )
    assert problem.field == "format"
    assert not list(NODE.check(ExportSettings(), context))


def test_an_unknown_tokenizer_is_a_problem_before_the_run(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    base = noisy(tmp_path)
    upstream = {"b": ("base_model", BaseModelSettings(model=base.path))}
    context = CheckContext(
        "e", "Export", tmp_path, upstream=upstream, variants=load_registry().variants
    )

    def problems(form: str) -> list[Problem]:
        found = NODE.check(ExportSettings(format=form), context)
        return [p for p in found if p.code != "no_llama_cpp"]

    assert not problems("gguf")
    make_bpe_tokenizer(pre_tokenizers.Whitespace()).save_pretrained(base.path)
    (problem,) = problems("gguf")
    assert problem.code == "gguf_tokenizer"
    assert problem.sentence == (
        "Export: the tokenizer of the model cannot be written as GGUF: llama.cpp does not know its pre-tokenizer."
    )
    assert not problems("safetensors")
    (Path(base.path) / "source.json").write_text('{"pre_tokenizer": "smollm"}', encoding="utf-8")
    assert not problems("gguf")


def test_a_refused_model_leaves_nothing(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    config = Path(base.path) / "config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "hidden_act": "relu"}), encoding="utf-8")
    with pytest.raises(StudioError, match="another activation than relu"):
        exported(tmp_path, base)
    assert not (tmp_path / "out" / "step" / "export").exists()


def test_a_sliding_window_that_llama_cpp_ignores_is_told(tmp_path: Path) -> None:
    values = {**FAMILIES["mistral"][1], "sliding_window": 16}
    base = model_value(save_noisy(tmp_path / "model", "MistralConfig", values))
    recorder = Recorder()
    exported(tmp_path, base, recorder)
    assert "reads texts of more than 16 tokens differently" in sentences(recorder)


def test_a_full_disk_is_refused_before_writing(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    with small_disk(tmp_path / "stick", 20) as stick:
        context = make_context(tmp_path / "out", Recorder())
        settings = ExportSettings(check_rows=0, format="gguf", folder=str(stick / "talk"))
        with pytest.raises(StudioError) as caught:
            export(context, base.to_json(), settings)
        assert caught.value.code == "disk_full"
        assert "KiB needed" in str(caught.value)
        assert list(stick.iterdir()) == []


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    context = make_context(
        tmp_path / "out", recorder, stop=lambda: len(recorder.named("Progress")) > 2
    )
    base = noisy(tmp_path)
    with pytest.raises(Stopped):
        export(context, base.to_json(), ExportSettings(check_rows=0, format="gguf", folder="talk"))
    assert not list(tmp_path.rglob("*.gguf"))
    assert {e.get("unit") for e in recorder.named("Progress")} == {"MB"}

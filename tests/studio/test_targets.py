"""Which layers an adapter goes on, and what is said when settings and layers do not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.adapters.configure import check_method, describe
from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.model.layer_names import matches
from studio.model.layers import LinearModule, read_linear_modules
from studio.model.models import check_targets, fully_trained_choices
from studio.model.targets import choose
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.lora import LoraSettings
from studio.node_settings.merge import MergeSettings
from studio.nodes import merge
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.timing import cpu_limit
from tests.tiny import make_tiny_model

REGISTRY = load_registry()
STARTER = "starter:smollm2-135m"


def modules(blocks: int = 4, *extra: LinearModule) -> list[LinearModule]:
    """Layers of a small Llama."""
    names = {"self_attn.q_proj": (32, 32), "self_attn.v_proj": (32, 16), "mlp.down_proj": (64, 32)}
    found = [
        LinearModule(f"model.layers.{i}.{name}", *widths)
        for i in range(blocks)
        for name, widths in names.items()
    ]
    return [*found, *extra]


def names(**settings: Any) -> list[str]:
    """The layers that the settings choose; they must have no errors."""
    chosen = choose(modules(), LoraSettings(**settings), "it")
    assert chosen.errors == []
    return [m.name for m in chosen.layers]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 12),
        ({"layers": "1-2"}, 6),
        ({"layers": "0, 2-3", "target_modules": "q_proj"}, 3),
        ({"layers": "0-3/2", "target_modules": "q_proj"}, 2),
        ({"layers": "1-3 / 2, 0", "target_modules": "q_proj"}, 3),
        ({"exclude": "down_proj"}, 8),
        ({"exclude": "v_proj, model.layers.0.mlp.down_proj"}, 7),
        ({"target_modules": r"re:.*\.[13]\..*(q|v)_proj"}, 4),
    ],
)
def test_ranges_exceptions_and_expressions(settings: dict[str, Any], count: int) -> None:
    assert len(names(**settings)) == count


def test_names_stay_short_where_nothing_was_taken_away() -> None:
    """An adapter of an old project keeps its description."""
    short = choose(modules(), LoraSettings(target_modules="q,v"), "it").names
    assert short == ["q_proj", "v_proj"]
    assert choose(modules(), LoraSettings(target_modules="q_proj", layers="3"), "it").names == [
        "model.layers.3.self_attn.q_proj"
    ]


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"layers": "2-9"}, "layers", "it has no layer 4."),
        ({"layers": "some"}, "layers", "“some” is not a layer range."),
        ({"layers": "3-1"}, "layers", "“3-1” runs backwards; write 1-3."),
        ({"layers": "0-3/0"}, "layers", "is not a layer range"),
        ({"exclude": "k_proj"}, "exclude", "“k_proj” matches none of the chosen layers."),
        ({"exclude": "q_proj, v_proj, down_proj"}, "target_modules", "no layers are left"),
        ({"target_modules": "re:q_proj"}, "target_modules", "matches no linear layer"),
        ({"target_modules": "re:("}, "target_modules", "is not a regular expression"),
        ({"rank_pattern": "down_proj"}, "rank_pattern", "is not written as name=number"),
        (
            {"rank_pattern": "k_proj=8"},
            "rank_pattern",
            "“k_proj” matches none of the chosen layers.",
        ),
        ({"alpha_pattern": "q_proj=0"}, "alpha_pattern", "is not written as name=number"),
    ],
)
def test_what_matches_nothing_is_said(settings: dict[str, Any], field: str, said: str) -> None:
    (error, *_) = choose(modules(), LoraSettings(**settings), "it").errors
    assert error[0] == field
    assert said in error[1]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (r"(.+)+x", ""),
        (r".*.*.*.*.*.*.*x", ""),
        (r"(a|aa|\w|\.)+$[0-9]", "takes too long"),
        (r"(?:a|[a-z]|[a-z_.0-9])+[0-9]", "takes too long"),
        ("(" * 3000 + ")" * 3000, "is not a regular expression"),
        (r"a{99999999999999999999}", "is not a regular expression"),
        (r"(?P<n>.*)\.(?=.*mlp)(?:layers\.)?\d+\.(self_attn|mlp)\.[a-z_]{1,40}", ""),
        (r"(.*\.)?(q|v)_proj", ""),
    ],
)
def test_an_expression_always_ends(expression: str, said: str) -> None:
    """It is matched after each key that is typed."""
    layers = [LinearModule("model.layers.0.self_attn." + "a" * 60, 8, 8), *modules()]
    errors = choose(layers, LoraSettings(target_modules="re:" + expression), "it").errors
    assert said in errors[0][1] if said else not errors or "matches no" in errors[0][1]


@pytest.mark.parametrize("target", ["proj", "_proj", "roj", "attn.q_proj", "5.mlp.up_proj"])
def test_a_target_matches_whole_parts_of_a_name(target: str) -> None:
    """Not any end of it: “proj” is not q_proj, and layer 5 is not layer 15."""
    layers = [
        LinearModule("model.layers.15.self_attn.q_proj", 8, 8),
        LinearModule("model.layers.15.mlp.up_proj", 8, 8),
    ]
    assert not any(matches(m.name, target) for m in layers)
    chosen = choose(layers, LoraSettings(target_modules=[target]), "it")
    assert [t[1] for t in chosen.errors] == [f"“{target}” matches no linear layer of it."]
    (error,) = choose(layers, LoraSettings(exclude=target), "it").errors
    assert error[1] == f"“{target}” matches none of the chosen layers."


def test_up_proj_is_not_gate_up_proj() -> None:
    """Alone, and beside a layer of that name."""
    fused = LinearModule("model.layers.0.mlp.gate_up_proj", 8, 16)
    plain = LinearModule("model.layers.1.mlp.up_proj", 8, 8)
    assert choose([fused], LoraSettings(target_modules="up_proj"), "it").errors
    both = choose([fused, plain], LoraSettings(target_modules="up_proj"), "it")
    assert both.layers == [plain]
    ranked = choose([fused, plain], LoraSettings(rank_pattern="up_proj=4"), "it")
    assert ranked.ranks == {"up_proj": 4}
    assert choose([fused], LoraSettings(rank_pattern="up_proj=4"), "it").errors


def test_ranks_by_layer_are_escaped_for_peft() -> None:
    chosen = choose(modules(), LoraSettings(rank_pattern="mlp.down_proj=32, q_proj=4"), "it")
    assert chosen.ranks == {r"mlp\.down_proj": 32, "q_proj": 4}


def test_ranks_that_overlap_are_written_out() -> None:
    """PEFT saves them in the order of the alphabet; the first that was typed counts."""
    typed = "layers.1.mlp.down_proj=8, down_proj=32"
    chosen = choose(modules(2), LoraSettings(rank_pattern=typed), "it")
    assert chosen.ranks == {
        r"model\.layers\.1\.mlp\.down_proj": 8,
        r"model\.layers\.0\.mlp\.down_proj": 32,
    }


MIXTURE = [
    LinearModule(f"model.layers.{i}.{name}", 8, 8)
    for i in range(2)
    for name in (
        "self_attn.q_proj",
        "mlp.shared_expert.up_proj",
        *(f"mlp.experts.{e}.{p}_proj" for e in range(3) for p in ("gate", "up", "down")),
    )
]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {},
            [
                "q_proj",
                "model.layers.0.mlp.shared_expert.up_proj",
                "model.layers.1.mlp.shared_expert.up_proj",
                "experts.gate_up_proj",
                "experts.down_proj",
            ],
        ),
        ({"target_modules": "shared_expert.up_proj"}, ["shared_expert.up_proj"]),
        ({"target_modules": "q_proj, experts.down_proj"}, ["q_proj", "experts.down_proj"]),
        (
            {"target_modules": "experts.down_proj", "layers": "1"},
            ["model.layers.1.mlp.experts.down_proj"],
        ),
        (
            {"target_modules": r"re:.*\.0\.mlp\.experts\.gate_up_proj"},
            ["model.layers.0.mlp.experts.gate_up_proj"],
        ),
        (
            {"exclude": "shared_expert.up_proj, experts.gate_up_proj", "layers": "0"},
            ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.down_proj"],
        ),
    ],
)
def test_experts_are_named_by_the_weight_they_are_joined_in(
    settings: dict[str, Any], expected: list[str]
) -> None:
    chosen = choose(MIXTURE, LoraSettings(**settings), "it")
    assert chosen.errors == []
    assert chosen.names == expected
    kept = choose(MIXTURE, LoraSettings(target_modules=chosen.names), "it").layers
    assert kept == chosen.layers


FUSED = {
    "gpt2": [
        ("attn.c_attn", 8, 24),
        ("attn.c_proj", 8, 8),
        ("mlp.c_fc", 8, 32),
        ("mlp.c_proj", 32, 8),
    ],
    "phi3": [
        ("self_attn.qkv_proj", 8, 24),
        ("self_attn.o_proj", 8, 8),
        ("mlp.gate_up_proj", 8, 64),
        ("mlp.down_proj", 32, 8),
    ],
}


@pytest.mark.parametrize(
    ("family", "wanted", "last"),
    [
        ("gpt2", r"re:transformer\.h\.\d+\.attn\.c_attn", {"attn.c_attn"}),
        ("gpt2", "re:.*c_proj", {"attn.c_proj", "mlp.c_proj"}),
        ("gpt2", "attention", {"attn.c_attn", "attn.c_proj"}),
        ("gpt2", "q,v", {"attn.c_attn"}),
        ("phi3", "re:.*(qkv|gate_up)_proj", {"self_attn.qkv_proj", "mlp.gate_up_proj"}),
        ("phi3", "q,v", {"self_attn.qkv_proj"}),
        ("phi3", "re:qkv_proj", set()),
    ],
)
def test_fused_and_transposed_layers_by_expression_and_preset(
    family: str, wanted: str, last: set[str]
) -> None:
    """An expression is the whole name, as PEFT asks it."""
    prefix = "transformer.h" if family == "gpt2" else "model.layers"
    layers = [
        LinearModule(f"{prefix}.{i}.{name}", w, o, transposed=family == "gpt2")
        for i in range(2)
        for name, w, o in FUSED[family]
    ]
    chosen = choose(layers, LoraSettings(target_modules=wanted, layers="1"), "it")
    assert {m.name.removeprefix(f"{prefix}.1.") for m in chosen.layers} == last
    assert bool(chosen.errors) == (not last)


def test_the_kinds_of_layers() -> None:
    assert LinearModule("model.layers.0.mlp.experts.3.w1", 4, 4).kind == "expert"
    assert LinearModule("h.0.attn.c_attn", 4, 12, transposed=True).kind == "fused"


def problems(settings: LoraSettings, **base: Any) -> list[Problem]:
    """What the LoRA node says, wired to the starter model."""
    upstream: Any = {"base": ("base_model", BaseModelSettings(model=STARTER, **base))}
    context = CheckContext("lora", "LoRA", Path(), upstream=upstream, variants=REGISTRY.variants)
    return [*check_targets(settings, context), *check_method(settings, context)]


def test_no_method_complains_of_the_starter_model_at_its_defaults() -> None:
    """But for LoftQ, which is for 4 bits; and a check takes milliseconds."""
    methods = REGISTRY.variants["adapter"]
    with cpu_limit(0.1 * len(methods)):
        found = {m: problems(LoraSettings(method=m)) for m in methods}
    assert [p.code for p in found.pop("loftq")] == ["method_quantization"]
    assert {m: p for m, p in found.items() if p} == {}


@pytest.mark.parametrize(
    ("method", "own", "field", "said"),
    [
        ("c3a", {"block_size": 128}, "method_settings.block_size", "128 does not divide"),
        ("boft", {"block_size": 5}, "method_settings.block_size", "5 does not divide"),
        ("vblora", {"length": 100}, "method_settings.length", "100 does not divide"),
        ("road", {"group_size": 50}, "method_settings.group_size", "50 does not divide"),
        ("gralora", {"blocks": 5}, "method_settings.blocks", "5 does not divide"),
        ("bdlora", {"blocks": 3}, "method_settings.blocks", "3 does not divide"),
        ("osf", {"kept": 0.001}, "method_settings.kept", "no direction would stay frozen"),
        (
            "adamss",
            {"parts": 64, "rank": 4},
            "method_settings.parts",
            "need more than the 192 outputs",
        ),
        ("supertuning", {"percent": 0.0001}, "method_settings.percent", "is less than one"),
        ("fourierft", {"frequencies": 999_999}, "method_settings.frequencies", "more than the"),
        (
            "adalora",
            {"target_r": 16},
            "method_settings.target_r",
            "not lower than the initial rank 16",
        ),
    ],
)
def test_sizes_that_do_not_fit_the_layers(
    method: str, own: dict[str, Any], field: str, said: str
) -> None:
    (found,) = problems(LoraSettings(method=method, method_settings=own))
    assert (found.field, found.code, found.blocks) == (field, "method_layers", True)
    assert said in found.sentence


def test_a_rank_that_a_layer_does_not_have() -> None:
    """PSOFT turns directions of the weights themselves; keys and values have 192 of them."""
    (found,) = problems(LoraSettings(method="psoft", r=256))
    assert (found.field, found.code, found.blocks) == ("r", "method_layers", True)
    assert "has 192 directions, fewer than the rank 256" in found.sentence


def test_a_setting_without_effect_is_a_warning() -> None:
    (found,) = problems(LoraSettings(method="vera", alpha=64))
    assert (found.field, found.code, found.blocks) == ("alpha", "setting_unused", False)
    assert "VeRA does not use Alpha" in found.sentence


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantized_bases_are_refused_with_the_reason(quantization: str) -> None:
    (found,) = problems(LoraSettings(method="pissa"), quantization=quantization)
    assert (found.field, found.code) == ("method", "method_quantization")
    assert "initialized from directions of the base weights" in found.sentence
    assert problems(LoraSettings(method="lora"), quantization=quantization) == []


def test_a_merge_of_what_cannot_be_merged_is_a_problem_before_the_run() -> None:
    upstream: Any = {"lora": ("lora", LoraSettings(method="alora"))}
    context = CheckContext("m", "Merge", Path(), upstream=upstream, variants=REGISTRY.variants)
    (found,) = merge.check(MergeSettings(), context)
    assert (found.code, found.blocks) == ("cannot_merge", True)
    assert "active in a part of the text only" in found.sentence


@pytest.mark.parametrize("method", ["dora", "vera", "pissa"])
def test_experts_and_transposed_layers_are_refused(tmp_path: Path, method: str) -> None:
    """Read from the model's files by the LoRA step, with what to do instead."""
    import numpy
    from safetensors.numpy import save_file

    folder = tmp_path / "model"
    folder.mkdir()
    save_file(
        {f"model.layers.0.mlp.experts.{i}.w1.weight": numpy.zeros((8, 8)) for i in range(2)},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(
        json.dumps({"model_type": "mixtral", "vocab_size": 99}), encoding="utf-8"
    )
    context = make_context(tmp_path, Recorder())
    with pytest.raises(StudioError, match="experts of a mixture") as caught:
        describe(context, model_value(folder).to_json(), LoraSettings(method=method))
    assert caught.value.field == "method"


def test_tokens_to_train_are_named_by_text_or_id(tmp_path: Path) -> None:
    """The tiny tokenizer has a token for each byte and three markers; the model some rows more."""
    model = model_value(make_tiny_model(tmp_path / "model")).to_json()
    recorder = Recorder()
    wanted = LoraSettings(trained_tokens="<|im_end|>, <|im_start|>, 263, 1")
    value = describe(make_context(tmp_path, recorder), model, wanted)
    assert value.trained_tokens == [1, 2, 263]
    assert "“<|im_end|>” (2)" in recorder.named("Notice")[0].get("sentence")
    for text, said in (
        ("cat", "“cat” is not a single token of this model: it consists of 3 tokens"),
        ("264", "no token 264"),
    ):
        with pytest.raises(StudioError, match=said) as caught:
            describe(make_context(tmp_path, Recorder()), model, LoraSettings(trained_tokens=text))
        assert (caught.value.field, caught.value.code) == ("trained_tokens", "unknown_token")


def test_a_token_is_not_trained_twice() -> None:
    (found,) = problems(LoraSettings(trained_tokens="5", modules_to_save="embed_tokens"))
    assert (found.field, found.code) == ("trained_tokens", "token_trained_twice")
    (unused,) = problems(LoraSettings(trained_tokens="5", method="ia3"))
    assert (unused.field, unused.severity) == ("trained_tokens", "warning")


def test_whole_modules_are_told_with_their_size(tmp_path: Path) -> None:
    """The tiny model shares its embedding with its head: 264 × 32 weights of 4 bytes."""
    model = model_value(make_tiny_model(tmp_path / "model")).to_json()
    recorder = Recorder()
    value = describe(
        make_context(tmp_path, recorder), model, LoraSettings(modules_to_save="lm_head")
    )
    assert value.modules_to_save == ["lm_head"]
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert "8,448 parameters" in sentences[0]
    assert "shares one matrix" in sentences[1]
    assert "Only “lm_head” is trained, so the two will differ" in sentences[1]
    with pytest.raises(StudioError, match="“heads” is not a module of"):
        describe(make_context(tmp_path, Recorder()), model, LoraSettings(modules_to_save="heads"))


@pytest.mark.parametrize("config", ["tied", "untied", "unsaid"])
def test_notices_about_tied_heads_are_true(config: str, tmp_path: Path) -> None:
    """What the class of the model does counts where the config says nothing; two trained copies are
    not one."""
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaForCausalLM,
    )

    folder = make_tiny_model(tmp_path / "model")
    if config == "unsaid":
        small = GPT2Config(vocab_size=264, n_positions=64, n_embd=32, n_layer=1, n_head=4)
        GPT2LMHeadModel(small).save_pretrained(folder)
        edit_config(folder, lambda c: c.pop("tie_word_embeddings", None))
    elif config == "untied":
        edit_config(folder, lambda c: c.update(tie_word_embeddings=False))
        LlamaForCausalLM(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    real = AutoModelForCausalLM.from_pretrained(folder)
    shared = real.get_input_embeddings().weight is real.get_output_embeddings().weight
    assert shared == (config != "untied")
    embedding = "wte" if config == "unsaid" else "embed_tokens"
    for names in (embedding, "lm_head", f"{embedding}, lm_head"):
        recorder = Recorder()
        describe(
            make_context(tmp_path, recorder),
            model_value(folder).to_json(),
            LoraSettings(modules_to_save=names),
        )
        said = [e.get("sentence") for e in recorder.named("Notice")]
        ties = [s for s in said if "shares one matrix" in s]
        assert len(ties) == shared
        if shared:
            expected = "Both are trained, each for itself" if "," in names else f"Only “{names}” is"
            assert expected in ties[0]


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(
    "target",
    [
        "lm_head",
        "embed_tokens",
        "model.embed_tokens",
        "wte",
        "transformer.wte",
        "embed_out",
        "embed_in",
    ],
)
def test_targets_at_the_ends_of_a_model_are_named_as_such(target: str) -> None:
    modules = [LinearModule("model.layers.0.self_attn.q_proj", 8, 8)]
    (error,) = choose(modules, LoraSettings(target_modules=["q_proj", target]), "it").errors
    assert error[0] == "target_modules"
    assert f" called “{target}”." in error[1]
    assert ("output head" in error[1]) == ("head" in target or "out" in target)
    assert "embed_tokens and lm_head" in error[2]


def test_a_tied_model_has_one_head(tmp_path: Path) -> None:
    """It is not in the files; its name is that of the architecture."""
    make_tiny_model(tmp_path)
    choices = fully_trained_choices(str(tmp_path), tmp_path)
    assert [c.name for c in choices] == ["embed_tokens", "lm_head"]
    assert all(c.tied for c in choices)


def test_a_model_that_changed_is_read_anew(tmp_path: Path) -> None:
    """The layers of a folder are kept between edits, for as long as its files stay the same."""
    import numpy
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 99}), encoding="utf-8")
    for count in (1, 3):
        weights = {f"layers.{i}.q_proj.weight": numpy.zeros((4, 4)) for i in range(count)}
        save_file(weights, tmp_path / "model.safetensors")
        assert len(read_linear_modules(tmp_path) or ()) == count
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 4}), encoding="utf-8")
    assert read_linear_modules(tmp_path) is None, "each of them has as many rows as a vocabulary"

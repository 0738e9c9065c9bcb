"""The language of layer ranges, and the block that a weight is in."""

from __future__ import annotations

import pytest

from studio.model.layer_names import block_and_part, block_number
from studio.model.layers import LinearModule
from studio.model.targets import choose
from studio.node_settings.layer_range import LayerRangeError, chosen_layers, layer_numbers
from studio.node_settings.lora import LoraSettings
from studio.node_settings.train import TrainSettings

RANGES = [
    ("all", None),
    ("last 2", {4, 5}),
    ("Last 99", {0, 1, 2, 3, 4, 5}),
    ("first 2", {0, 1}),
    ("0-2, 5", {0, 1, 2, 5}),
    ("0-5/2", {0, 2, 4}),
    ("0, last 1", {0, 5}),
]
REFUSED = ["1..3", "2-", "all,1", "last", "last 0", "0-3/0", "1,,2", "-3"]


@pytest.mark.parametrize(("words", "layers"), [*RANGES, ("7", set())])
def test_words_for_layers(words: str, layers: set[int] | None) -> None:
    """Of a model with six layers."""
    assert chosen_layers(words, 6) == layers


@pytest.mark.parametrize(("words", "layers"), RANGES)
def test_both_fields_read_the_same_language(words: str, layers: set[int] | None) -> None:
    assert TrainSettings(trained_layers=words).trained_layers == words
    modules = [LinearModule(f"model.layers.{n}.mlp.up_proj", 8, 8) for n in range(6)]
    chosen = choose(modules, LoraSettings(layers=words), "it")
    assert chosen.errors == []
    wanted = set(range(6)) if layers is None else layers
    assert {block_number(m.name) for m in chosen.layers} == wanted


@pytest.mark.parametrize("words", [*REFUSED, "7-3", "0, 7-3"])
def test_other_words_are_refused(words: str) -> None:
    """Never taken for “all”, nor for no layer."""
    with pytest.raises(LayerRangeError):
        layer_numbers(words, 6)
    with pytest.raises(ValueError, match=r"not a layer range|runs backwards; write 3-7"):
        TrainSettings(trained_layers=words)
    modules = [LinearModule(f"model.layers.{n}.mlp.up_proj", 8, 8) for n in range(9)]
    (error, *_) = choose(modules, LoraSettings(layers=words), "it").errors
    assert error[0] == "layers"


def test_nothing_is_not_all() -> None:
    with pytest.raises(LayerRangeError):
        layer_numbers("", 6)


def test_the_last_layers_are_the_models_even_where_some_have_no_such_part() -> None:
    """A hybrid has attention in some of its blocks only."""
    modules = [LinearModule(f"model.layers.{n}.mlp.up_proj", 8, 8) for n in range(6)]
    modules += [LinearModule(f"model.layers.{n}.self_attn.q_proj", 8, 8) for n in (0, 4)]
    chosen = choose(modules, LoraSettings(target_modules="q_proj", layers="last 2"), "it")
    assert (chosen.errors, chosen.names) == ([], ["model.layers.4.self_attn.q_proj"])


def test_blocks_of_weights() -> None:
    """In the naming of several families."""
    names = {
        "model.layers.12.mlp.up_proj.weight": 12,
        "transformer.h.3.attn.c_attn.weight": 3,
        "model.layers.7.mlp.experts.3.w1": 7,
        "model.embed_tokens.weight": None,
        "lm_head.weight": None,
        "gpt_neox.layers.0.x.weight": 0,
        "parts.1.layers.8.x.weight": 8,
        "model.stack.5.q.weight": 5,
    }
    assert {n: block_number(n) for n in names} == names
    assert block_and_part("model.layers.12.mlp.up_proj") == (12, "mlp.up_proj")
    assert block_and_part("lm_head") == (None, "lm_head")

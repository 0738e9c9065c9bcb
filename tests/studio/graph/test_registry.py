"""The registry: built-in things, things from outside, and things that do not load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.graph.node_type import Variant
from studio.graph.registry import EXTENSIONS_VARIABLE, Registry, load_registry
from studio.graph.schema import NoSettings, fields_of
from tests.studio.runs import toys

MODULE = """
from studio.graph.node_type import NodeType, Variant
from studio.graph.schema import NoSettings

def make(name):
    return NodeType(name, name, 1, "Toys", "A toy.", NoSettings, lambda context, inputs, settings: {})

NODE = make("one_toy")
VARIANTS = [Variant("exporter", "papyrus", "Papyrus", "Writes on papyrus.")]
hidden = make("hidden_toy")
nonsense = 7
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[callable]:
    """Loads a fresh registry with extensions from a module on the path."""
    (tmp_path / "lora_toy_extension.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(names: str) -> Registry:
        monkeypatch.setenv(EXTENSIONS_VARIABLE, names)
        load_registry.cache_clear()
        return load_registry()

    yield load
    load_registry.cache_clear()


def test_a_module_from_outside(loaded) -> None:
    registry = loaded("lora_toy_extension")
    assert registry.failures == ()
    assert registry.node_type("one_toy")
    assert registry.node_type("hidden_toy") is None
    assert registry.variant("exporter", "papyrus")
    assert registry.node_type("train")


def test_one_object_of_a_module(loaded) -> None:
    registry = loaded("lora_toy_extension:hidden, lora_toy_extension:VARIANTS")
    assert registry.node_type("hidden_toy")
    assert registry.node_type("one_toy") is None
    assert registry.variant("exporter", "papyrus")


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module",
        "lora_toy_extension:gone",
        "lora_toy_extension:nonsense",
        "studio.nodes.train",
    ],
)
def test_a_broken_extension_is_told_and_the_rest_works(loaded, name: str) -> None:
    registry = loaded(f"{name},lora_toy_extension")
    (sentence,) = registry.failures
    assert name in sentence
    assert registry.node_type("one_toy")


def test_an_id_that_is_taken_is_refused() -> None:
    registry = Registry().with_nodes(toys.NODES)
    with pytest.raises(ValueError, match="registered twice"):
        registry.with_nodes([toys.SOURCE])
    variant = Variant("exporter", "x", "X", "X.")
    with pytest.raises(ValueError, match="registered twice"):
        registry.with_variants([variant, variant])


def test_choices_have_an_order_and_unknown_ones_no_settings() -> None:
    variants = [Variant("adapter", i, i, "A.", order=o) for i, o in (("b", 2), ("c", 1), ("a", 2))]
    registry = Registry().with_variants(variants)
    assert [v.id for v in registry.choices("adapter")] == ["c", "a", "b"]
    assert registry.choices("nothing") == ()
    lora = load_registry().node_type("lora")
    assert lora is not None
    (spec,) = [s for s in fields_of(lora.settings) if s.meta.variant]
    assert registry.variant_settings(spec, "gone") is NoSettings

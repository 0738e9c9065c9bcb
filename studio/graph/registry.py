"""The registry finds node types and variants: one file each, here or in another package.

Built-in ones are the modules of ``studio.nodes``, ``studio.data.formats``, ``studio.adapters`` (with
its package ``research``), ``studio.objectives`` and ``studio.exporters``; each module has a constant
``NODE`` or ``VARIANT``.
Third parties publish the same objects through the entry-point groups ``lora_studio.nodes`` and
``lora_studio.variants``; while one is being written, ``LORA_STUDIO_EXTENSIONS`` names modules to
load without installing them (``module`` or ``module:object``, several with commas). A broken
extension is reported, never fatal.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from studio.graph.node_type import NodeType, Variant
from studio.graph.schema import FieldSpec, NoSettings, Settings, fields_of

T = TypeVar("T")

KINDS = {
    "format": "studio.data.formats",
    "adapter": "studio.adapters",
    "objective": "studio.objectives",
    "exporter": "studio.exporters",
}
NODE_GROUP = "lora_studio.nodes"
VARIANT_GROUP = "lora_studio.variants"
EXTENSIONS_VARIABLE = "LORA_STUDIO_EXTENSIONS"


@dataclass(frozen=True)
class Registry:
    """Every known node type by id, and every variant by kind and id."""

    nodes: Mapping[str, NodeType[Settings]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)
    failures: tuple[str, ...] = ()

    def node_type(self, type_id: str) -> NodeType[Settings] | None:
        """The node type with this id, or ``None`` when it is not installed."""
        return self.nodes.get(type_id)

    def variant(self, kind: str, variant_id: str) -> Variant | None:
        """The variant of this kind and id, or ``None``."""
        return self.variants.get(kind, {}).get(variant_id)

    def choices(self, kind: str) -> tuple[Variant, ...]:
        """The variants of a kind in the order they are offered."""
        found = self.variants.get(kind, {}).values()
        return tuple(sorted(found, key=lambda v: (v.order, v.title)))

    def variant_settings(self, spec: FieldSpec, chosen: str) -> type[Settings]:
        """The settings model of the variant chosen in a field (``NoSettings`` if unknown)."""
        variant = self.variant(spec.meta.variant, chosen)
        return variant.settings if variant else NoSettings

    def with_nodes(self, extra: Iterable[NodeType[Settings]]) -> Registry:
        """A registry that also knows these node types; a duplicate ID raises ``ValueError``."""
        nodes = dict(self.nodes)
        for node_type in extra:
            _add(nodes, node_type.id, node_type)
        return Registry(nodes, self.variants, self.failures)

    def with_variants(self, extra: Iterable[Variant]) -> Registry:
        """A registry that also knows these variants; a duplicate ID raises ``ValueError``."""
        variants = {kind: dict(found) for kind, found in self.variants.items()}
        for variant in extra:
            _add(variants.setdefault(variant.kind, {}), variant.id, variant)
        return Registry(self.nodes, variants, self.failures)


def _add(table: dict[str, T], key: str, value: T) -> None:
    if key in table:
        raise ValueError(f"“{key}” is registered twice")
    table[key] = value


def variant_fields(model: type[Settings]) -> dict[str, str]:
    """Fields of a settings model that choose a variant: name -> kind."""
    return {s.name: s.meta.variant for s in fields_of(model) if s.meta.variant}


@lru_cache(maxsize=1)
def load_registry() -> Registry:
    """The built-in node types and variants, then those of installed extensions."""
    registry = Registry(variants={kind: {} for kind in KINDS})
    registry = registry.with_nodes(_constants("studio.nodes", "NODE"))
    for package in KINDS.values():
        registry = registry.with_variants(_constants(package, "VARIANT"))
    return _with_extensions(registry)


def _constants(package: str, name: str) -> list[Any]:
    """The constant ``name`` of every module of a package and of the packages inside it."""
    root = importlib.import_module(package)
    modules = sorted(
        m.name
        for m in pkgutil.walk_packages(root.__path__, f"{package}.")
        if not m.name.rpartition(".")[2].startswith("_")
    )
    loaded = map(importlib.import_module, modules)
    return [getattr(module, name) for module in loaded if hasattr(module, name)]


def _with_extensions(registry: Registry) -> Registry:
    failures: list[str] = []
    for name, load in _extensions():
        try:
            for item in _items(load()):
                registry = _with(registry, item)
        except Exception as error:  # an extension may fail in any way; the studio must open
            failures.append(f"The extension {name} could not be loaded: {error}")
    return Registry(registry.nodes, registry.variants, tuple(failures))


def _extensions() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and loader of everything from outside: installed packages, then named modules."""
    points = entry_points()  # reads the metadata of every installed package: once for both groups
    for group in (NODE_GROUP, VARIANT_GROUP):
        for point in points.select(group=group):
            yield point.value, point.load
    for name in os.environ.get(EXTENSIONS_VARIABLE, "").split(","):
        if name.strip():
            yield name.strip(), partial(_load_module, name.strip())


def _load_module(name: str) -> list[Any]:
    """The object that ``module:object`` names; of a bare module its ``NODE``, ``VARIANT``,
    ``NODES`` and ``VARIANTS``."""
    module_name, colon, attribute = name.partition(":")
    module = importlib.import_module(module_name)
    if colon:
        return _items(getattr(module, attribute))
    names = ("NODE", "VARIANT", "NODES", "VARIANTS")
    return [item for n in names if hasattr(module, n) for item in _items(getattr(module, n))]


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _with(registry: Registry, item: Any) -> Registry:
    if isinstance(item, NodeType):
        return registry.with_nodes([item])
    if isinstance(item, Variant):
        return registry.with_variants([item])
    raise TypeError(f"{item!r} is neither a NodeType nor a Variant")

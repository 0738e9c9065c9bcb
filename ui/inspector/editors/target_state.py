"""The state of the target dialog: the settings of a LoRA node that select its layers.

It is separate from the widgets: every control changes it and every count is read from it, so that
the dialog shows what the node does (``studio.model.targets.choose`` decides both). It does not
depend on Qt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from studio.estimate.formulas import FORMULAS
from studio.model.layer_names import block_number, taker
from studio.model.layer_pattern import PATTERN
from studio.model.layers import LinearModule
from studio.model.shapes import Linear, joined_linears
from studio.model.targets import (
    Chosen,
    FullyTrainedModule,
    choose,
    listed,
    named_number,
)
from studio.node_settings.lora import LoraSettings
from ui.inspector.editors.layers import checked_of, kinds, written

WRITTEN = (
    "target_modules",
    "layers",
    "exclude",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
)
"""The settings that the dialog writes."""

_NO_PATTERNS: dict[str, Any] = {"rank_pattern": "", "alpha_pattern": ""}


@dataclass
class TargetState:
    """``values`` are the node's settings, those that it has; ``r`` and ``alpha`` apply to layers
    without overrides. Layers have the names of their rows: an expert that of its joined weight."""

    modules: Sequence[LinearModule]
    values: Mapping[str, Any]
    parts: Sequence[FullyTrainedModule] = ()
    ticked: set[str] = field(init=False)
    strange: list[str] = field(init=False)
    expression: str = field(init=False)
    by_expression: bool = field(init=False)
    layers: str = field(init=False)
    exclude: str = field(init=False)
    ranks: dict[str, int] = field(init=False)
    alphas: dict[str, int] = field(init=False)
    fully_trained: list[str] = field(init=False)
    before: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.values.get("target_modules")
        self.by_expression = isinstance(wanted, str) and wanted.startswith(PATTERN)
        self.expression = str(wanted).removeprefix(PATTERN) if self.by_expression else ""
        names, strange = checked_of(wanted, self.modules)
        self.ticked = {r.name for r in self.rows if names.issuperset(r.aliases)}
        self.strange = [] if self.by_expression else strange
        if self.by_expression and not self.modules:  # shown as entered
            self.by_expression, self.strange = False, [str(wanted)]
        self.layers, self.exclude = self._text("layers"), self._text("exclude")
        self.ranks = self._numbers("rank_pattern")
        self.alphas = self._numbers("alpha_pattern")
        self.fully_trained = listed(self._text("modules_to_save"))
        self.before = self.settings()

    @cached_property
    def rows(self) -> list[Linear]:
        """The layers of the model, experts joined; ``aliases`` are their names in its files."""
        return joined_linears(self.modules)

    @cached_property
    def blocks(self) -> tuple[int, int] | None:
        """The first and last block number, if the model has blocks."""
        found = [n for r in self.rows if (n := block_number(r.name)) is not None]
        return (min(found), max(found)) if found else None

    @property
    def r(self) -> int:
        return int(self.values.get("r") or 0)

    @property
    def alpha(self) -> int:
        return int(self.values.get("alpha") or 0)

    def target_modules(self) -> str | list[str]:
        """The setting: an expression, a preset, or names of kinds and layers."""
        if self.by_expression:
            return PATTERN + self.expression
        if len(self.strange) == 1 and self.strange[0].startswith(PATTERN):
            return self.strange[0]
        found = written(self.ticked, self.rows, self.modules)
        if not self.strange:
            return found
        if isinstance(found, str):  # a preset cannot be joined with names
            found = written(self.ticked, self.rows, self.modules, named=True)
        return list(dict.fromkeys([*found, *self.strange]))

    def chosen(self) -> Chosen:
        """The targets selected by these settings; unknown if no layers are known."""
        if not self.modules:
            return Chosen([], [])
        settings = LoraSettings.model_construct(**self._where(), **_NO_PATTERNS)
        ends = [LinearModule(f"model.{p.name}", 1, 1, end="part") for p in self.parts]
        return choose(self.modules, settings, "the model", ends)

    def adapted(self, chosen: Chosen) -> list[Linear]:
        """The rows that get an adapter."""
        taken = {m.name for m in chosen.layers}
        return [r for r in self.rows if taken.issuperset(r.aliases)]

    def matched(self) -> set[str]:
        """The rows that are checked, by hand or by the expression."""
        if not self.by_expression:
            return set(self.ticked)
        names, _ = checked_of(PATTERN + self.expression, self.modules)
        return {r.name for r in self.rows if names.issuperset(r.aliases)}

    def nothing_is_ticked(self) -> bool:
        """Whether the user has unchecked all layers."""
        return bool(self.modules) and not (self.by_expression or self.ticked or self.strange)

    def tick(self, names: Iterable[str]) -> None:
        """Select by hand from now on; the expression is kept but not used."""
        self.ticked, self.by_expression = set(names), False

    def rank_of(self, row: Linear) -> int:
        return self.ranks.get(row.name, self.r)

    def alpha_of(self, row: Linear) -> int:
        return self.alphas.get(row.name, self.alpha)

    def parameters(self, row: Linear) -> int | None:
        """The trained parameters of a row; ``None`` if there is no formula."""
        formula = FORMULAS.get(str(self.values.get("method") or "lora"))
        own = self.values.get("method_settings")
        if formula is None or not self.r:
            return None
        return formula(row, self.rank_of(row), own if isinstance(own, Mapping) else {})

    def fully_trained_parameters(self) -> int:
        """Parameters of the fully trained modules."""
        return sum(p.parameters for p in self.parts if p.name in self.fully_trained)

    def settings(self) -> dict[str, Any]:
        """The settings of the node for this selection."""
        rows = self.adapted(self.chosen())
        found = {
            **self._where(),
            "rank_pattern": pattern_words(rows, self.rows, self.ranks, self.r),
            "alpha_pattern": pattern_words(rows, self.rows, self.alphas, self.alpha),
            "modules_to_save": ", ".join(self.fully_trained),
        }
        return {name: found[name] for name in WRITTEN if name in self.values}

    def changes(self) -> dict[str, Any]:
        """The changed settings; the others stay as entered."""
        return {n: v for n, v in self.settings().items() if v != self.before[n]}

    def _where(self) -> dict[str, Any]:
        return {
            "target_modules": self.target_modules(),
            "layers": self.layers,
            "exclude": self.exclude,
        }

    def _text(self, name: str) -> str:
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def _numbers(self, name: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in listed(self._text(name)):
            target, number = named_number(part)
            fits = taker([target])
            if number is not None:
                found |= {
                    r.name: number for r in self.rows if r.name not in found and _any(fits, r)
                }
        return found


def _any(fits: Any, row: Linear) -> bool:
    return fits(row.name) or any(map(fits, row.aliases))


def pattern_words(
    rows: Sequence[Linear], every: Sequence[Linear], own: Mapping[str, int], default: int
) -> str:
    """Ranks or alphas in the format of the setting: single layers first, then kinds. The first
    matching name applies."""
    single: list[str] = []
    by_kind: list[str] = []
    names = {r.name for r in rows}
    for kind, members in kinds(every).items():
        numbers = {m.name: own.get(m.name, default) for m in members if m.name in names}
        if not numbers:
            continue
        ((usual, _),) = Counter(numbers.values()).most_common(1)
        single += [f"{name}={n}" for name, n in numbers.items() if n != usual]
        by_kind += [f"{kind}={usual}"] if usual != default else []
    return ", ".join(single + by_kind)


def typed_names(text: str) -> list[str]:
    """Names separated by commas; an expression may contain commas."""
    return [text.strip()] if text.strip().startswith(PATTERN) else listed(text)

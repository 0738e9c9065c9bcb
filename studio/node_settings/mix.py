"""The settings of the Mix node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting

PORTS = ("a", "b", "c", "d")


def _weight(port: str) -> Any:
    return setting(
        1.0,
        f"Weight of {port.upper()}",
        f"How much of the mix comes from data set {port.upper()}, beside "
        "the other weights: 2 and 1 give two rows of one to one row of the other. 0 leaves it out.",
        ge=0.0,
        le=1000.0,
        shown_if={"mode": "weights"},
    )


def _count(port: str) -> Any:
    return setting(
        0,
        f"Rows of {port.upper()}",
        f"How many training rows of data set {port.upper()} are used, drawn by the seed.",
        unit="rows",
        ge=0,
        special={0: "all"},
        shown_if={"mode": "counts"},
    )


class MixSettings(Settings):
    """How much of each data set goes into the mix."""

    mode: Literal["all", "weights", "counts"] = setting(
        "all",
        "Mix",
        "Whether all rows are used, a share of each data set by weights, or a number of rows "
        "of each. Training and validation rows are mixed separately and never change sides.",
        choice_labels={"all": "All rows", "weights": "By weights", "counts": "By numbers of rows"},
    )
    weight_a: float = _weight("a")
    weight_b: float = _weight("b")
    weight_c: float = _weight("c")
    weight_d: float = _weight("d")
    fit: Literal["shrink", "repeat"] = setting(
        "shrink",
        "To meet the weights",
        "Shrink uses fewer rows of the data sets that have too many. "
        "Repeat uses all rows, and those of small data sets several times; rows seen often are learnt "
        "by heart. Validation rows are never repeated.",
        choice_labels={"shrink": "Use fewer rows", "repeat": "Repeat rows"},
        shown_if={"mode": "weights"},
    )
    max_repeats: int = setting(
        4,
        "Most repeats",
        "A row is used at most so many times; up to 4 passes hurt little. Where that "
        "does not reach a weight, it is told.",
        unit="times",
        ge=1,
        le=100,
        advanced=True,
        shown_if={"mode": "weights"},
    )
    count_a: int = _count("a")
    count_b: int = _count("b")
    count_c: int = _count("c")
    count_d: int = _count("d")
    seed: int = setting(
        0,
        "Seed",
        "Another number draws other rows.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
        shown_if={"mode": ["weights", "counts"]},
    )

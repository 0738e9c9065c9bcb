"""The settings of the Mix node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting

PORTS = ("a", "b", "c", "d")


def _weight(port: str) -> Any:
    return setting(
        1.0,
        f"Weight of {port.upper()}",
        f"Weight of dataset {port.upper()} in the mix, relative to the other weights. With "
        "weights 2 and 1, the first dataset contributes two rows for every row of the second. 0 "
        "excludes it.",
        ge=0.0,
        le=1000.0,
        shown_if={"mode": "weights"},
    )


def _count(port: str) -> Any:
    return setting(
        0,
        f"Rows of {port.upper()}",
        f"Number of training rows of dataset {port.upper()} to use, sampled with the seed.",
        unit="rows",
        ge=0,
        special={0: "all"},
        shown_if={"mode": "counts"},
    )


class MixSettings(Settings):
    """How much of each dataset goes into the mix."""

    mode: Literal["all", "weights", "counts"] = setting(
        "all",
        "Mix",
        "Use all rows, mix the datasets by weight, or use a fixed number of rows from each. "
        "Training and validation rows are mixed separately.",
        choice_labels={
            "all": "All rows",
            "weights": "By weights",
            "counts": ("Fixed number of rows"),
        },
    )
    weight_a: float = _weight("a")
    weight_b: float = _weight("b")
    weight_c: float = _weight("c")
    weight_d: float = _weight("d")
    fit: Literal["shrink", "repeat"] = setting(
        "shrink",
        "Method",
        "Use fewer rows subsamples the datasets that have more rows than needed. Repeat rows uses "
        "all rows and repeats those of small datasets; rows seen often may be memorized. "
        "Validation rows are never repeated.",
        choice_labels={"shrink": "Use fewer rows", "repeat": "Repeat rows"},
        shown_if={"mode": "weights"},
    )
    max_repeats: int = setting(
        4,
        "Maximum repeats",
        "Maximum number of times a row is used. Up to 4 repeats usually do little harm. If a "
        "weight cannot be reached within this limit, a notice says so.",
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
        "Seed for sampling rows.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
        shown_if={"mode": ["weights", "counts"]},
    )

"""The settings of the Adapter Mix node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting

PORTS = ("a", "b", "c", "d")

TRUNCATED = ["svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
"""Methods whose result is truncated to a rank."""

PRUNED = ["ties", "dare_linear", "dare_ties", "magnitude_prune"]

Method = Literal["linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"]


def _weight(port: str) -> Any:
    return setting(
        1.0,
        f"Weight of {port.upper()}",
        f"Factor of the change by adapter {port.upper()}. 1 applies it as it was trained, 0.5 half of it, 0 leaves it "
        "out, and a negative weight subtracts it. Weights are not normalized: adapters of the same task usually have "
        "weights with the sum 1.",
        ge=-10.0,
        le=10.0,
        step=0.05,
        port=port,
    )


class AdapterMixSettings(Settings):
    """How the adapters are combined, and on which rows weights are compared."""

    method: Method = setting(
        "linear",
        "Method",
        "Linear and concatenation add the weighted changes exactly; linear removes directions that are not needed, "
        "concatenation keeps all A and B. SVD truncates the sum to a rank. TIES keeps the largest values of each "
        "change and adds those with the majority sign. DARE drops random values and rescales the others. Magnitude "
        "prune keeps the largest values.",
        choice_labels={
            "linear": "Linear",
            "cat": "Concatenation",
            "svd": "SVD",
            "ties": "TIES",
            "dare_linear": "DARE (linear)",
            "dare_ties": "DARE (TIES)",
            "magnitude_prune": "Magnitude prune",
        },
    )
    weight_a: float = _weight("a")
    weight_b: float = _weight("b")
    weight_c: float = _weight("c")
    weight_d: float = _weight("d")
    density: float = setting(
        0.5,
        "Density",
        "Fraction of the values of each change that is kept. Typical values are 0.2 to 0.7.",
        gt=0.0,
        le=1.0,
        step=0.05,
        shown_if={"method": PRUNED},
    )
    majority_sign: Literal["total", "frequency"] = setting(
        "total",
        "Majority sign",
        "How the sign of a value is elected. Total uses the sum of the values, frequency counts the adapters. A "
        "negative weight turns the sign of its adapter first.",
        choice_labels={"total": "Total", "frequency": "Frequency"},
        shown_if={"method": ["ties", "dare_ties"]},
        advanced=True,
    )
    r: int = setting(
        0,
        "Rank (r)",
        "Highest rank of a layer of the result. 0 uses the highest rank of the adapters. A higher rank keeps more of "
        "the change and makes a larger file; the kept share is shown.",
        ge=0,
        le=1024,
        special={0: "highest of the adapters"},
        shown_if={"method": TRUNCATED},
    )
    max_rank: int = setting(
        64,
        "Maximum rank of a converted adapter",
        "An adapter that is not a LoRA (DoRA, OFT, trained tokens, ...) is first converted to one by a singular value "
        "decomposition to at most this rank; the kept share is shown.",
        ge=1,
        le=512,
        advanced=True,
    )
    seed: int = setting(
        0,
        "Seed",
        "Seed for the values that DARE drops.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
        shown_if={"method": ["dare_linear", "dare_ties"]},
    )
    choose: Literal["own", "best"] = setting(
        "own",
        "Weights to use",
        "The weights above, or those of the table with the lowest loss on the connected rows.",
        choice_labels={"own": "The weights above", "best": "Lowest loss of the table"},
        group="Comparison of weights",
    )
    points: int = setting(
        5,
        "Values to try",
        "Number of weights in the table, each of which takes one pass over the rows. With two adapters, from only the "
        "first to only the second, with the same sum of weights; otherwise all weights are multiplied by 0 to 1.5. 0 "
        "compares only the weights above.",
        ge=0,
        le=21,
        group="Comparison of weights",
    )
    rows: int = setting(
        100,
        "Rows",
        "Number of validation rows on which the loss is computed, evenly spaced. 0 uses all rows.",
        unit="rows",
        ge=0,
        special={0: "all"},
        group="Comparison of weights",
    )
    batch_size: int = setting(
        8,
        "Batch size",
        "Rows per forward pass.",
        unit="rows",
        ge=1,
        le=512,
        advanced=True,
        group="Comparison of weights",
    )

"""The Mix node: two to four data sets become one, as they are, by weights or by numbers of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import DATASET, input_, output
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext

PORTS = ("a", "b", "c", "d")


def _weight(port: str) -> Any:
    return setting(
        1.0, f"Weight of {port.upper()}", f"How much of the mix comes from data set {port.upper()}, beside "
        "the other weights: 2 and 1 give two rows of one to one row of the other. 0 leaves it out.",
        ge=0.0, le=1000.0, shown_if={"mode": "weights"},
    )  # fmt: skip


def _count(port: str) -> Any:
    return setting(
        0, f"Rows of {port.upper()}", f"How many training rows of data set {port.upper()} are used, drawn by "
        "the seed.", unit="rows", ge=0, special={0: "all"}, shown_if={"mode": "counts"},
    )  # fmt: skip


class MixSettings(Settings):
    """How much of each data set goes into the mix."""

    mode: Literal["all", "weights", "counts"] = setting(
        "all", "Mix", "Whether all rows are used, a share of each data set by weights, or a number of rows "
        "of each. Training and validation rows are mixed separately and never change sides.",
        choice_labels={"all": "All rows", "weights": "By weights", "counts": "By numbers of rows"},
    )  # fmt: skip
    weight_a: float = _weight("a")
    weight_b: float = _weight("b")
    weight_c: float = _weight("c")
    weight_d: float = _weight("d")
    fit: Literal["shrink", "repeat"] = setting(
        "shrink", "To meet the weights", "Shrink uses fewer rows of the data sets that have too many. "
        "Repeat uses all rows, and those of small data sets several times; rows seen often are learnt "
        "by heart. Validation rows are never repeated.",
        choice_labels={"shrink": "Use fewer rows", "repeat": "Repeat rows"}, shown_if={"mode": "weights"},
    )  # fmt: skip
    max_repeats: int = setting(
        4, "Most repeats", "A row is used at most so many times; up to 4 passes hurt little. Where that "
        "does not reach a weight, it is told.", unit="times", ge=1, le=100, advanced=True,
        shown_if={"mode": "weights"},
    )  # fmt: skip
    count_a: int = _count("a")
    count_b: int = _count("b")
    count_c: int = _count("c")
    count_d: int = _count("d")
    seed: int = setting(
        0, "Seed", "Another number draws other rows.", ge=0, le=2**31 - 1, advanced=True,
        shown_if={"mode": ["weights", "counts"]},
    )  # fmt: skip


def check(settings: MixSettings, context: CheckContext) -> Iterable[Problem]:
    """Weights that leave nothing over."""
    ports = [p for p in PORTS if p in context.inputs]
    weights = [getattr(settings, f"weight_{p}") for p in ports]
    if settings.mode == "weights" and ports and not any(weights):
        yield context.problem(
            "all weights are 0, so that no row is used.", f"weight_{ports[0]}",
            hint="Give at least one data set a weight.", code="no_weight",
        )  # fmt: skip


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: MixSettings
) -> Mapping[str, Any]:
    """Draw the rows and write them down as one data set."""
    from studio.training.data.mix import mix_datasets

    return {"dataset": mix_datasets(context, inputs, settings).to_json()}


_LABELS = {"all": "all rows", "weights": "by weights", "counts": "by numbers of rows"}

NODE = NodeType(
    id="mix", title="Mix", version=1, category="Data", icon="layers",
    help="Joins data sets. Each row keeps the file and line it comes from.",
    settings=MixSettings, run=run, check=check,
    inputs=tuple(
        input_(p, DATASET, f"Data set {p.upper()}", required=p in ("a", "b")) for p in PORTS
    ),
    outputs=(output("dataset", DATASET, "Mixed data set", "Train and validation rows of all."),),
    summary=lambda s: _LABELS[s.mode],
)  # fmt: skip

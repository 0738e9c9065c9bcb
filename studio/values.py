"""What flows along wires: small frozen descriptions with paths, never tensors.

They are JSON in the run folder, so that a finished step can be read back and any later step can
run in another process. Paths are absolute.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

DType = Literal["float32", "bfloat16", "float16"]


class Value(BaseModel):
    """Base of the descriptions; ``to_json`` and ``model_validate`` are exact inverses."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_json(self) -> dict[str, Any]:
        """The description as JSON data."""
        return self.model_dump(mode="json")


class DatasetValue(Value):
    """Rows in one canonical shape, split and written down.

    ``path`` is a folder with ``train`` and, if there are validation rows, ``validation``: Arrow
    datasets as ``datasets.load_from_disk`` reads them, with the columns of
    ``studio.data.canonical``: a row has ``messages``, or ``prompt`` and ``completion``, or
    ``text``; the other columns are null. It also has ``line``: where the row stood in its source
    file (1-based), and ``source``: which file. ``shape`` says what can be trained on it:
    preferences and labels wait for objectives of their own. ``skipped`` counts bad rows that were
    left out because the user chose so.
    """

    kind: Literal["dataset"] = "dataset"
    path: str
    format: str
    shape: Literal["messages", "prompt", "text", "preference", "label"] = "messages"
    skipped: int = 0
    train_rows: int
    validation_rows: int
    sha256: str
    sources: list[str]


class ModelValue(Value):
    """A causal language model in a local folder that plain transformers loads.

    ``source`` is what the user chose (``starter:...``, a folder, a hub id), ``revision`` the commit
    it was pinned to (or the sha256 of what a starter was made from). ``dtype`` is the dtype to load
    it in, ``stored_dtype`` that of its files if it is known to be another one, ``attention`` the
    implementation of attention (``auto``: the model's own choice). ``weights_sha256`` identifies the
    weights. ``merged_from`` describes adapters that were merged into it, oldest first.
    """

    kind: Literal["model"] = "model"
    path: str
    source: str
    revision: str | None = None
    dtype: DType
    stored_dtype: DType | None = None
    quantization: str = "none"
    double_quant: bool = True
    attention: str = "auto"
    weights_sha256: str
    parameters: int
    merged_from: list[dict[str, Any]] = []
    base: ModelValue | None = None


FULL_FINE_TUNING = "whole"
"""The method of a training without a LoRA node, as runs and adapters' descriptions name it."""


class AdaptedModelValue(Value):
    """A model together with the LoRA configuration to train on it. ``target_modules`` holds the
    names that matched in the model (suffixes as PEFT takes them). ``rank_pattern`` and
    ``alpha_pattern`` give some of them a rank and alpha of their own; ``modules_to_save`` are trained
    as a whole and saved with the adapter; of ``trained_tokens`` (ids) only the embedding is.
    ``continues`` is the adapter whose weights the training starts from; its own config applies, and the
    other fields describe it."""

    kind: Literal["adapted_model"] = "adapted_model"
    model: ModelValue
    method: str
    r: int
    alpha: int
    dropout: float
    bias: str
    target_modules: list[str]
    method_settings: dict[str, Any] = {}
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, int] = {}
    modules_to_save: list[str] = []
    trained_tokens: list[int] = []
    continues: AdapterValue | None = None


class MixedSource(Value):
    """An adapter that became part of another one: the title of its node, its weight, its share of the summed norms of
    all changes (0-1), how much of its change the form of a LoRA keeps (0-1), the cosines of its change with those of
    all sources, and its own description."""

    title: str
    weight: float
    share: float
    kept: float
    cosines: list[float]
    adapter: dict[str, Any] = {}


class MixedLoss(Value):
    """The loss of one combination: a weight for each source, and the mean loss per label token."""

    weights: list[float]
    loss: float


class Mixture(Value):
    """How an adapter was combined from others. ``kept`` is the share of the combined change that its rank holds (0-1),
    ``losses`` are those of several weights on ``rows`` validation rows; none were computed without rows."""

    method: str
    sources: list[MixedSource]
    kept: float
    losses: list[MixedLoss] = []
    rows: int = 0

    def shown(self) -> dict[str, Any]:
        """Without the descriptions of the sources, for the events of a run."""
        return self.model_dump(mode="json", exclude={"sources": {"__all__": {"adapter"}}})


class AdapterValue(Value):
    """An adapter on disk, with everything a model card needs.

    ``metrics`` are the last and best figures of the run; ``train`` the settings it was trained with. An adapter that
    was loaded has neither, and no dataset; ``source`` is the folder or Hub ID it comes from, ``revision`` its commit.
    ``mixture`` says what it was combined from.
    """

    kind: Literal["adapter"] = "adapter"
    path: str
    model: AdaptedModelValue
    dataset: DatasetValue | None
    train: dict[str, Any]
    metrics: dict[str, float]
    reload_difference: float
    source: str = ""
    revision: str | None = None
    mixture: Mixture | None = None


AdaptedModelValue.model_rebuild()


class ReportValue(Value):
    """A measured comparison: ``measures`` maps a measure to its value before and after (0-1)."""

    kind: Literal["report"] = "report"
    path: str
    rows: int
    measures: dict[str, dict[str, float]]


_VALUES: dict[str, type[Value]] = {
    "dataset": DatasetValue,
    "model": ModelValue,
    "adapted_model": AdaptedModelValue,
    "adapter": AdapterValue,
    "report": ReportValue,
}


def check_value(data: Any) -> None:
    """Raise ``ValueError`` for JSON data of one of these kinds that does not describe such a value.
    Other kinds belong to extensions."""
    known = _VALUES.get(str(data.get("kind"))) if isinstance(data, dict) else None
    if known is not None:
        known.model_validate(data)

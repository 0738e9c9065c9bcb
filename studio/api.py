"""What an extension imports: the public, stable names of LoRA Studio.

An extension is a module with a constant ``NODE`` or ``VARIANT``; ``ARCHITECTURE.md`` shows a complete
one of each kind, and the tests run them as they stand there. Names in ``__all__`` keep their meaning
from version to version; any other module may change. Nothing here imports torch: import it, and peft,
inside the functions that need it.
"""

from __future__ import annotations

from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    column,
    text,
)
from studio.errors import Problem, Stopped, StudioError
from studio.graph.context import StepContext
from studio.graph.node_type import CheckContext, Fact, NodeType, Variant
from studio.graph.ports import (
    ADAPTED_MODEL,
    ADAPTER,
    DATASET,
    MODEL,
    REPORT,
    Port,
    PortType,
    input_,
    output,
)
from studio.graph.schema import NoSettings, Settings, setting
from studio.values import AdaptedModelValue, AdapterValue, DatasetValue, ModelValue, ReportValue
from studio.variants.exporter import Exportable, Exporter
from studio.variants.lora_method import (
    Hooks,
    LoraMethod,
    TrainingFacts,
    lora_config,
    own_settings,
    peft_config,
)
from studio.variants.objective import LossOptions, Objective

__all__ = [
    "ADAPTED_MODEL",
    "ADAPTER",
    "DATASET",
    "MODEL",
    "NOT_MINE",
    "REPORT",
    "AdaptedModelValue",
    "AdapterValue",
    "Canonical",
    "CheckContext",
    "DatasetValue",
    "Detection",
    "Exportable",
    "Exporter",
    "Fact",
    "Hooks",
    "LoraMethod",
    "LossOptions",
    "ModelValue",
    "NoSettings",
    "NodeType",
    "Objective",
    "Port",
    "PortType",
    "Problem",
    "ReportValue",
    "Row",
    "RowError",
    "RowFormat",
    "Settings",
    "StepContext",
    "Stopped",
    "StudioError",
    "TrainingFacts",
    "Variant",
    "column",
    "input_",
    "lora_config",
    "output",
    "own_settings",
    "peft_config",
    "setting",
    "text",
]

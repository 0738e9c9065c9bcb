"""Which editor a field gets: by its widget first, then by its kind."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from studio.graph.schema import FieldSpec
from ui.inspector.editors.base import Editor, FieldContext
from ui.inspector.editors.check_list import CheckListEditor
from ui.inspector.editors.choices import ChoiceEditor
from ui.inspector.editors.model import ModelEditor
from ui.inspector.editors.paths import AdapterEditor, PathEditor
from ui.inspector.editors.plain import (
    DataEditor,
    LineEditor,
    ListEditor,
    NamesEditor,
    NumberEditor,
    ParagraphEditor,
    SwitchEditor,
)
from ui.inspector.editors.schedule import ScheduleEditor
from ui.inspector.editors.target_modules import TargetModulesEditor

BY_WIDGET: dict[str, type[Editor]] = {
    "file": PathEditor,
    "adapter": AdapterEditor,
    "folder": PathEditor,
    "model": ModelEditor,
    "target_modules": TargetModulesEditor,
    "multiline": ParagraphEditor,
    "names": NamesEditor,
    "schedule": ScheduleEditor,
}
BY_KIND: dict[str, type[Editor]] = {
    "bool": SwitchEditor,
    "int": NumberEditor,
    "float": NumberEditor,
    "choice": ChoiceEditor,
    "list": ListEditor,
    "object": DataEditor,
    "str": LineEditor,
}


def editor_for(
    spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
) -> Editor:
    """The editor of one field; ``path`` is its dotted name."""
    kind = ChoiceEditor if spec.meta.variant else BY_KIND[spec.kind]
    if spec.kind == "list" and spec.choices:
        kind = CheckListEditor
    return BY_WIDGET.get(spec.meta.widget, kind)(spec, path, context, parent)

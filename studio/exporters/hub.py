"""The Hub exporter: the files of the safetensors or GGUF exporter, uploaded to the Hugging Face Hub.

They are written to a folder and checked like those of every export; the upload starts from that folder, which stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.export_folder.copy_files import folder_size
from studio.export_folder.hub import is_offline
from studio.exporters import gguf, safetensors
from studio.graph.node_type import CheckContext, Variant
from studio.node_settings.export import GgufSettings, HubSettings, SafetensorsSettings
from studio.system import hub_token
from studio.values import AdapterValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.export_folder.parity import Check
    from studio.graph.context import StepContext


def write(context: StepContext, value: Exportable, settings: HubSettings, folder: Path) -> Written:
    """Write the files into ``folder``. Raises ``StudioError`` for what cannot be uploaded later."""
    from studio.training.export.hub import prepare

    prepare(context, value, settings)
    if settings.content == "gguf":
        written = gguf.write(context, value, _gguf(settings), folder)
        command = written.command
        if not isinstance(value, AdapterValue):
            command = f"llama-server -hf {settings.repository}:{settings.quantizations[0]}"
        return replace(written, place=settings.repository, command=command)
    own = SafetensorsSettings(form=settings.form, max_rank=settings.max_rank)
    written = safetensors.write(context, value, own, folder)
    return replace(written, place=settings.repository)


def publish(
    context: StepContext,
    value: Exportable,
    settings: HubSettings,
    folder: Path,
    checks: Sequence[Check],
) -> dict[str, Any]:
    """Upload ``folder``; returns the address for the artifact."""
    from studio.training.export.hub import upload

    return upload(context, value, settings, folder, checks)


def check(context: CheckContext) -> Iterable[Problem]:
    """Whether repository and token are known, and the Hub may be reached."""
    _, own = context.project.get(context.node, ("", None))
    given: dict[str, Any] = getattr(own, "format_settings", {})
    if not str(given.get("repository") or "").strip():
        yield context.problem(
            "the repository on the Hub is missing.",
            "format_settings.repository",
            hint="Enter it as owner/name, such as your user name and a name for the model.",
            code="no_repository",
        )
    if is_offline(os.environ):
        yield context.problem(
            "the Hub cannot be used, because its offline mode is on.",
            "format",
            hint="Unset the environment variables HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or choose another format.",
            code="hub_offline",
        )
    elif hub_token.is_known() is False:
        yield context.problem(
            "there is no token for the Hub on this computer.",
            "format_settings.repository",
            hint=hub_token.HOW,
            code="no_token",
        )
    if given.get("content") == "gguf":
        yield from gguf.check(context)


def _gguf(settings: HubSettings) -> GgufSettings:
    return GgufSettings(quantizations=settings.quantizations, max_rank=settings.max_rank)


def _size(value: Exportable, settings: HubSettings) -> int:
    if settings.content == "gguf":
        from studio.training.export.gguf import needed_bytes

        return needed_bytes(value, _gguf(settings))
    return folder_size(Path(value.path))


def _kind(value: Exportable, settings: HubSettings) -> str:
    if settings.content == "gguf":
        return "adapter_gguf" if isinstance(value, AdapterValue) else "gguf"
    return safetensors.kind(value)


VARIANT = Variant(
    kind="exporter",
    id="hub",
    title="Hugging Face Hub",
    order=40,
    help="Writes a Safetensors folder or GGUF files, checks them, and uploads them to a repository of the Hugging "
    "Face Hub. It needs a token with write access; the files also stay on this computer.",
    settings=HubSettings,
    payload=Exporter(
        ("model", "adapter"),
        write,
        lambda v: folder_size(Path(v.path)),
        safetensors.kind,
        size_with=_size,
        kind_with=_kind,
        check=check,
        publish=publish,
    ),
)

"""Uploads a finished export to the Hugging Face Hub.

The upload runs in a child process (``hub_upload``), so that it can be stopped at once. It gets the token in its
environment. Files that the repository has already are not uploaded again, so that an interrupted upload continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.export_folder.archive import files_with_paths
from studio.export_folder.hub import BRANCH, MESSAGE, is_offline
from studio.export_folder.model_card import base_name
from studio.export_folder.parity import Check, needs_hint, sentence_of, worst
from studio.graph.context import StepContext
from studio.node_settings.export import HubSettings
from studio.system.hub_token import HOW, Token, find_token
from studio.system.number_text import quantity
from studio.training.fetch.child import Ended, python, run_child
from studio.values import AdapterValue
from studio.variants.exporter import Exportable

_PROGRAM = "studio.training.export.hub_upload"
_FIELDS = {
    "no_such_repository": "format_settings.repository",
    "no_write_access": "format_settings.repository",
    "hub_public": "format_settings.private",
    "hub_too_large": "format_settings.content",
}


def prepare(context: StepContext, value: Exportable, settings: HubSettings) -> None:
    """Raise ``StudioError`` for what the upload would refuse, before anything is written."""
    del context
    if not settings.repository:
        raise StudioError(
            "the repository on the Hub is missing.",
            hint="Enter it as owner/name.",
            field="format_settings.repository",
            code="no_repository",
        )
    _token()
    local = isinstance(value, AdapterValue) and base_name(value.model.model) is None
    if settings.content == "safetensors" and settings.form == "as_trained" and local:
        raise StudioError(
            "the adapter as trained names the folder of its base model, which only exists on this computer.",
            title="The adapter cannot be uploaded as it was trained",
            hint="Choose the adapter form Portable, or a base model of the Hub.",
            field="format_settings.form",
            code="path_in_upload",
        )


def upload(
    context: StepContext,
    value: Exportable,
    settings: HubSettings,
    folder: Path,
    checks: Sequence[Check],
) -> dict[str, Any]:
    """Upload the files of ``folder``; returns ``url``, ``repository`` and ``commit``.

    Raises ``StudioError`` if the check of the export has failed, if a file names a folder of this computer, and for
    everything that the Hub refuses; the folder is not changed.
    """
    _refuse_failed(context, settings, folder, checks)
    _refuse_paths(context, value, folder)
    token = _token()
    repository, branch = settings.repository, settings.branch or BRANCH
    context.phase("upload", f"Uploading to {repository}")
    ended = _run(context, settings, folder, branch, token)
    if ended.code or "url" not in ended.said:
        raise _error(ended, token, folder)
    said = ended.said
    _tell(context, said, repository, branch)
    return {"url": str(said["url"]), "repository": repository, "commit": str(said["commit"])}


def _token() -> Token:
    if is_offline():
        raise StudioError(
            "the Hub cannot be used, because its offline mode is on.",
            hint="Unset the environment variables HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.",
            field="format",
            code="hub_offline",
        )
    found = find_token()
    if found is None:
        raise StudioError(
            "there is no token for the Hub on this computer.",
            hint=HOW,
            field="format_settings.repository",
            code="no_token",
        )
    return found


def _refuse_failed(
    context: StepContext, settings: HubSettings, folder: Path, checks: Sequence[Check]
) -> None:
    verdict = worst([check.verdict for check in checks])
    if verdict == "red":
        failed = next(check for check in checks if check.verdict == "red").to_json()
        if not settings.upload_failed:
            raise StudioError(
                f"nothing was uploaded, because the check of the export failed: {sentence_of(failed)}",
                title="The export was not uploaded",
                hint=f"{needs_hint(failed)} The export is in {folder}. “Upload despite failed check” uploads it "
                "as it is.".strip(),
                field="format_settings.upload_failed",
                code="upload_blocked",
            )
        context.notice("The export is uploaded although its check failed, as its settings say.")
    elif verdict in ("", "not_proven"):
        context.notice(
            "The export is uploaded without a proof that it answers as the trained model.",
            needs_hint(checks[0].to_json()) if checks else "",
        )


def _refuse_paths(context: StepContext, value: Exportable, folder: Path) -> None:
    """Raise ``StudioError`` if a file names a folder of this computer."""
    base = value.model.model if isinstance(value, AdapterValue) else value
    places = [value.path, base.path, str(context.project_dir), str(context.checkpoints)]
    named = files_with_paths(folder, more=places)
    if named:
        raise StudioError(
            f"nothing was uploaded, because {', '.join(named)} names a folder of this computer.",
            title="The export was not uploaded",
            hint=f"The export is in {folder}. Choose the adapter form Portable, merge the adapter, or choose a base "
            "model of the Hub.",
            field="format_settings.form",
            code="path_in_upload",
        )


def _run(
    context: StepContext, settings: HubSettings, folder: Path, branch: str, token: Token
) -> Ended:
    visibility = "private" if settings.private else "public"
    message = settings.message or MESSAGE

    def on_message(said: Any) -> None:
        if "doing" in said:
            context.phase("upload", str(said["doing"]))
        elif "done" in said:
            context.progress("upload", said["done"], said["total"], "bytes")

    command = python("-m", _PROGRAM, str(folder), settings.repository, branch, visibility, message)
    return run_child(context, command, on_message=on_message, environment={"HF_TOKEN": token.text})


def _error(ended: Ended, token: Token, folder: Path) -> StudioError:
    """What went wrong, without the token, and where the export is."""
    code = str(ended.said.get("code", "upload_failed"))
    reason = str(ended.said.get("error") or f"the upload failed ({ended.reason})")
    hint = str(ended.said.get("hint") or ended.hint or "Resume the run to upload what is missing.")
    if code in ("token_refused", "no_write_access"):
        hint = f"The token comes from {token.source}. {hint}"
    return StudioError(
        f"{reason.replace(token.text, '***').rstrip('.')}.",
        title="The export was not uploaded",
        hint=f"{hint.replace(token.text, '***')} Nothing is lost: the export is in {folder}.",
        field=_FIELDS.get(code),
        code=code,
    )


def _tell(context: StepContext, said: Any, repository: str, branch: str) -> None:
    """What was uploaded, what was there already, and what the upload has replaced or removed."""
    where = repository if branch == BRANCH else f"{repository} (branch {branch})"
    new, same = int(said.get("uploaded", 0)), int(said.get("same", 0))
    if new:
        there = f"; {quantity(same, 'file')} had not changed" if same else ""
        sentence = f"{quantity(new, 'file')} uploaded to {where}{there}: {said['url']}"
    else:
        sentence = (
            f"{where} has all files of this export already; nothing was uploaded: {said['url']}"
        )
    context.notice(sentence, level="info")
    replaced = [str(name) for name in said.get("replaced", [])]
    removed = [str(name) for name in said.get("removed", [])]
    before = str(said.get("before") or "")[:12]
    if replaced or removed:
        parts = [f"{', '.join(replaced)} replaced"] if replaced else []
        parts += [f"{', '.join(removed)} of the previous upload removed"] if removed else []
        context.notice(
            f"In {where}: {'; '.join(parts)}.",
            f"The earlier versions are in its history, at commit {before}.",
            "info" if said.get("ours") else "warning",
        )
    if said.get("stays_private"):
        context.notice(
            f"{repository} existed already and stays private.",
            "Its visibility can be changed on its page on the Hub.",
        )

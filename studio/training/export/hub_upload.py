"""Uploads a folder to a repository of the Hub. Run as a program: ``hub_upload FOLDER REPOSITORY BRANCH VISIBILITY
MESSAGE``, with the token in ``HF_TOKEN``.

Prints JSON lines: what it does, the bytes uploaded, and the address or the error. Large files are uploaded one by one,
and one commit adds all of them, so that the repository never holds a part of an export. Files whose content the
repository has already are left out, and the Hub keeps what was uploaded before the commit, so that a second call
uploads only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub import errors as hub
from huggingface_hub.hf_api import RepoFile

from studio.export_folder.folder import MANIFEST
from studio.export_folder.hub import Refused, explain

_BLOCK = 8 * 1024 * 1024
_EVERY_S = 0.2
_SMALL = 64 * 1024


def tell(**message: Any) -> None:
    """Print one JSON line for the parent process."""
    print(json.dumps(message), flush=True)


class Ended(Exception):
    """The upload cannot go on."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.sentence)
        self.refused = refused


class Meter:
    """Reports the bytes of all files: those of finished ones, and of the present one."""

    def __init__(self, total: int) -> None:
        self.total, self.finished = total, 0
        self._last = 0.0

    def at(self, done: int) -> None:
        """``done`` bytes of the present file."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            tell(done=min(self.finished + done, self.total), total=self.total)

    def end(self, size: int) -> None:
        """The present file is complete."""
        self.finished += size
        tell(done=self.finished, total=self.total)


class Addition(CommitOperationAdd):
    """A file to add, which counts the bytes that are read for the upload."""

    meter: Meter | None = None

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        """The open file; ``with_tqdm`` is set where it is uploaded."""
        with super().as_file() as file:
            meter = self.meter
            if with_tqdm and meter is not None:
                read = file.read

                def counted(size: int = -1) -> bytes:
                    data = read(size)
                    meter.at(file.tell())
                    return data

                file.read = counted
            yield file


@dataclass
class Plan:
    """What differs between the folder and the repository."""

    changed: list[str]
    same: list[str]
    replaced: list[str]
    removed: list[str]
    ours: bool
    before: str


def upload(folder: Path, repository: str, branch: str, private: bool, message: str) -> None:
    """Upload the folder and print its address. Raises ``Ended``, or an error of the client."""
    api = HfApi(token=os.environ["HF_TOKEN"])
    tell(doing=f"Connecting to the Hub for {repository}")
    _refuse_reader(api.whoami(), repository)
    stays_private = _ensure(api, repository, branch, private)
    tell(doing=f"Comparing with {repository}")
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    plan = _plan(api, repository, branch, files)
    commit = plan.before
    if plan.changed or plan.removed:
        commit = _commit(api, repository, branch, files, plan, message)
        _verify(api, repository, branch, files)
    url = f"{api.endpoint}/{repository}" + ("" if branch == "main" else f"/tree/{branch}")
    tell(
        url=url,
        commit=commit,
        uploaded=len(plan.changed),
        same=len(plan.same),
        replaced=plan.replaced,
        removed=plan.removed,
        before=plan.before,
        ours=plan.ours,
        stays_private=stays_private,
    )


def _refuse_reader(account: dict[str, Any], repository: str) -> None:
    role = (account.get("auth") or {}).get("accessToken", {}).get("role")
    if role == "read":
        raise Ended(explain(403, "it is a token for reading only", repository))


def _ensure(api: HfApi, repository: str, branch: str, private: bool) -> bool:
    """Create repository and branch if they do not exist; whether a repository that should be public is private."""
    try:
        # Not create_repo(exist_ok=True) alone: without the right to create, it does not say why.
        info = api.model_info(repository)
    except hub.RepositoryNotFoundError:
        api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
        info = api.model_info(repository)
    if private and not info.private:
        raise Ended(
            Refused(
                "hub_public",
                f"{repository} is public on the Hub, and the setting Private is on",
                "Choose another repository, make this one private on its page on the Hub, or turn Private off.",
            )
        )
    if branch != "main":
        api.create_branch(repository, branch=branch, exist_ok=True)
    return not private and bool(info.private)


def _plan(api: HfApi, repository: str, branch: str, files: dict[str, Path]) -> Plan:
    before = str(api.model_info(repository, revision=branch).sha or "")
    there = _there(api, repository, branch)
    same = [name for name, path in files.items() if name in there and is_same(path, there[name])]
    changed = [name for name in files if name not in same]
    replaced = [name for name in changed if name in there]
    earlier = _earlier(repository, branch, api.token) if MANIFEST in there else None
    removed = [name for name in earlier or () if name in there and name not in files]
    return Plan(changed, same, replaced, removed, earlier is not None, before)


def _there(api: HfApi, repository: str, branch: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(repository, recursive=True, revision=branch)
    return {item.path: item for item in tree if isinstance(item, RepoFile)}


def is_same(path: Path, there: RepoFile) -> bool:
    """Whether a file has the content of one in the repository, by size and hash (of git, or SHA-256 of large files)."""
    size = path.stat().st_size
    if size != there.size:
        return False
    if there.lfs is not None:
        return _digest(path, hashlib.sha256()) == there.lfs.sha256
    head = hashlib.sha1(b"blob %d\0" % size)
    return _digest(path, head) == there.blob_id


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


def _earlier(repository: str, branch: str, token: Any) -> list[str] | None:
    """The files of the previous upload, by its manifest; ``None`` if it is not one of ours."""
    with tempfile.TemporaryDirectory() as place:
        found = hf_hub_download(repository, MANIFEST, revision=branch, local_dir=place, token=token)
        try:
            data = json.loads(Path(found).read_text(encoding="utf-8"))
            return [str(name) for name in data["files"]]
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _commit(
    api: HfApi,
    repository: str,
    branch: str,
    files: dict[str, Path],
    plan: Plan,
    message: str,
) -> str:
    """Upload the changed files and commit them; returns the commit."""
    sizes = {name: files[name].stat().st_size for name in plan.changed}
    meter = Meter(sum(sizes.values()))
    additions = []
    tell(doing=f"Uploading to {repository}")
    with _counted_chunks(meter):
        for names in _groups(sizes):
            group = [
                Addition(path_in_repo=name, path_or_fileobj=str(files[name])) for name in names
            ]
            for addition in group:
                addition.meter = meter
            try:
                api.preupload_lfs_files(
                    repository, group, revision=branch, free_memory=False, gitignore_content=""
                )
            except Exception as error:
                found = refused(error, repository, names[0] if len(names) == 1 else "")
                raise (Ended(found) if found is not None else error) from error
            meter.end(sum(sizes[name] for name in names))
            additions += group
    tell(doing=f"Committing to {repository}")
    done = api.create_commit(
        repository,
        [*additions, *(CommitOperationDelete(path_in_repo=name) for name in plan.removed)],
        commit_message=message,
        revision=branch,
        parent_commit=plan.before or None,
    )
    return str(done.oid)


def _groups(sizes: dict[str, int]) -> list[list[str]]:
    """The small files together, and each large one alone, so that one that is complete is kept."""
    small = [name for name, size in sizes.items() if size < _SMALL]
    return [*([small] if small else []), *([n] for n in sizes if n not in small)]


@contextmanager
def _counted_chunks(meter: Meter) -> Iterator[None]:
    """Files of the storage Xet are read outside Python: its progress reports the bytes, instead of bars."""
    from huggingface_hub.utils import _xet_progress_reporting as reporting

    class Reporter:
        def __init__(self, *args: Any, **options: Any) -> None:
            del args, options

        def update_progress(self, group: Any, items: Any = None) -> None:
            del items
            meter.at(int(getattr(group, "total_bytes_completed", 0)))

        def close(self) -> None:
            """Nothing to close."""

    usual = reporting.XetUploadProgressReporter
    reporting.XetUploadProgressReporter = Reporter
    try:
        yield
    finally:
        reporting.XetUploadProgressReporter = usual


def _verify(api: HfApi, repository: str, branch: str, files: dict[str, Path]) -> None:
    """Raise ``Ended`` if a file of the repository is not the one on this computer."""
    tell(doing=f"Verifying {repository}")
    there = _there(api, repository, branch)
    wrong = [n for n, path in files.items() if n not in there or not is_same(path, there[n])]
    if wrong:
        raise Ended(
            Refused(
                "upload_damaged",
                f"{', '.join(wrong)} in {repository} is not the file of the export after the upload",
                "Resume the run to upload it again.",
            )
        )


# ------------------------------------------------------------------ errors


def refused(error: BaseException, repository: str, file: str = "") -> Refused | None:
    """The meaning of an error of the client while ``file`` is uploaded; ``None`` if it is neither of the Hub nor of the
    connection."""
    from httpx2 import HTTPError

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 20:
        chain.append(cause)
    for each in chain:
        if isinstance(each, Ended):
            return each.refused
        if isinstance(each, ValueError) and "metadata" in str(each):
            return Refused(
                "card_refused",
                f"the Hub refuses the model card: {_last_line(each)}",
                "Report this as an error of LoRA Studio. The export itself can be used.",
            )
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(each, hub.HfHubHTTPError) and status is not None:
            said = str(getattr(each, "server_message", None) or "")
            return explain(int(status), said, repository, file=file, wait_s=_wait(response))
    for each in chain:
        if isinstance(each, (HTTPError, ConnectionError, TimeoutError)):
            return explain(None, str(each) or type(each).__name__, repository, file=file)
    return None


def _wait(response: Any) -> float | None:
    text = str(response.headers.get("Retry-After") or "")
    return float(text) if text.isdigit() else None


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip(" -")


def main(arguments: Sequence[str], run: Callable[..., None] = upload) -> int:
    """Upload as the command line says; returns the exit code."""
    folder, repository, branch, visibility, message = arguments
    try:
        run(Path(folder), repository, branch, visibility == "private", message)
    except Exception as error:
        found = refused(error, repository)
        if found is None:
            words = str(error).strip().splitlines() or [type(error).__name__]
            found = Refused("upload_failed", f"the upload failed: {words[0]}", "")
        tell(code=found.code, error=found.sentence, hint=found.hint)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

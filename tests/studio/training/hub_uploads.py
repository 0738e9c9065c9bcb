"""A stand-in for the side of the Hub that takes uploads, on the loopback: repositories with branches, storage of large
files, tokens, and faults on demand.

It speaks what ``huggingface_hub`` speaks: whoami, create, tree, preupload, the batch API of Git LFS with single and
multipart uploads, and commits. What it has stored is read from ``repositories``. With a folder ``xet``, large files go
there instead: the client of Xet stores them itself, and the test says in ``large`` what they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

LARGE = (".safetensors", ".gguf")
FIRST = "1" * 40


@dataclass
class Fault:
    """An answer instead of the usual one: a status, or ``drop`` to cut the connection after ``after`` bytes."""

    path: str
    method: str = ""
    status: int | str = 500
    message: str = ""
    times: int = 1_000
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0


@dataclass
class Repository:
    """Files by branch; ``commits`` holds message and author's branch, the newest last."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    heads: dict[str, str] = field(default_factory=lambda: {"main": FIRST})
    commits: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the main branch."""
        return self.branches["main"]


class Hub:
    """The state of the stand-in. ``owners`` are those for whom the token may write."""

    def __init__(self, token: str = "hf_right", role: str = "write", chunk: int = 0) -> None:
        self.token, self.role, self.chunk = token, role, chunk
        self.owners = {"someone", "team"}
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.stored: list[int] = []  # bytes of each upload of a large file or of a part of it
        self.endpoint = ""
        self.xet = ""
        self.on_request: Any = None

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault of this request, if it is to have one."""
        for one in self.faults:
            if one.times > 0 and (one.method in ("", method)) and re.search(one.path, path):
                if one.skip > 0:
                    one.skip -= 1
                    continue
                one.times -= 1
                return one
        return None

    def uploads(self) -> int:
        """How often the content of a large file, or of a part of it, was sent."""
        return sum(1 for line in self.asked if line.startswith("PUT "))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65_536

    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    # ------------------------------------------------------------ answers

    def _serve(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.on_request is not None:
            self.hub.on_request(self.command, path)
        fault = self.hub.fault(self.command, path)
        if fault is not None and fault.status == "drop":
            self._drop(fault.after)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if fault is not None:
            self._error(int(fault.status), fault.message, **fault.headers)
            return
        if path.startswith("/lfs/"):  # signed addresses: no token
            self._store(path, body)
            return
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._error(401, "Invalid username or password.")
            return
        self._api(path, body)

    def _drop(self, after: int) -> None:
        self.rfile.read(after)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _send(self, data: Any, **headers: str) -> None:
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _error(self, status: int, message: str, code: str = "", **headers: str) -> None:
        content = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # ------------------------------------------------------------ the Hub

    def _api(self, path: str, body: bytes) -> None:
        if path == "/api/whoami-v2":
            auth = {"type": "access_token", "accessToken": {"role": self.hub.role}}
            self._send({"type": "user", "name": "someone", "auth": auth})
        elif path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._batch(found[1], json.loads(body))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif found := re.match(r"/api/models/([^/]+/[^/]+)/xet-write-token/", path):
            self._model(found[1], "xet", "main", body)
        elif found := re.match(r"/api/models/([^/]+/[^/]+)(?:/(\w+)(?:/(.+))?)?$", path):
            self._model(found[1], found[2] or "", found[3] or "main", body)
        else:
            self._error(404, f"no such address: {path}")

    def _create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or "someone"
        name = f"{owner}/{asked['name']}"
        if owner not in self.hub.owners:
            words = f'You don\'t have the rights to create a model under the namespace "{owner}".'
            self._error(403, words)
        elif name in self.hub.repositories:
            self._error(409, "You already created this model repo")
        else:
            self.hub.repositories[name] = Repository(asked.get("visibility") == "private")
            self._send({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def _model(self, name: str, what: str, revision: str, body: bytes) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._error(404, "Repository not found", "RepoNotFound")
            return
        if what == "xet":
            self._grant()
            return
        if what == "branch":
            repository.branches[revision] = dict(repository.files)
            repository.heads[revision] = repository.heads["main"]
            self._send({})
            return
        if revision not in repository.branches:
            self._error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return
        files = repository.branches[revision]
        if what in ("", "revision"):
            siblings = [{"rfilename": n} for n in files]
            facts = {"id": name, "sha": repository.heads[revision], "private": repository.private}
            self._send({**facts, "siblings": siblings})
        elif what == "tree":
            self._send([_entry(n, content) for n, content in files.items()])
        elif what == "preupload":
            self._send({"files": [_mode(f["path"], files) for f in json.loads(body)["files"]]})
        elif what == "commit":
            self._commit(name, repository, revision, body)

    def _grant(self) -> None:
        place, ends = f"local://{self.hub.xet}", int(time.time()) + 3600
        headers = {"X_Xet_Cas_Url": place, "X_Xet_Access_Token": "t"}
        headers["X_Xet_Token_Expiration"] = str(ends)
        self._send({"casUrl": place, "exp": ends, "accessToken": "t"}, **headers)

    def _batch(self, name: str, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            entry = dict(one)
            if one["oid"] not in self.hub.large:
                entry["actions"] = {"upload": self._action(one["oid"], one["size"])}
            objects.append(entry)
        self._send({"transfer": "basic", "objects": objects})

    def _action(self, oid: str, size: int) -> dict[str, Any]:
        address = f"{self.hub.endpoint}/lfs/{oid}"
        chunk = self.hub.chunk
        if not chunk or size <= chunk:
            return {"href": address}
        parts = range(1, -(-size // chunk) + 1)
        header = {str(n): f"{address}/{n}" for n in parts}
        return {"href": f"{address}/complete", "header": {"chunk_size": str(chunk), **header}}

    def _store(self, path: str, body: bytes) -> None:
        oid, _, part = path.removeprefix("/lfs/").partition("/")
        if part == "complete":
            stored = self.hub.parts.pop(oid)
            content = b"".join(stored[p["partNumber"]] for p in json.loads(body)["parts"])
        elif part:
            self.hub.stored.append(len(body))
            self.hub.parts.setdefault(oid, {})[int(part)] = body
            self._send({}, ETag=hashlib.md5(body).hexdigest())
            return
        else:
            self.hub.stored.append(len(body))
            content = body
        if hashlib.sha256(content).hexdigest() != oid:
            self._error(400, "the content does not have this hash")
            return
        self.hub.large[oid] = content
        self._send({})

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(repository.branches[branch])
        message = ""
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                message = value["summary"]
                parent = value.get("parentCommit")
                if parent is not None and parent != repository.heads[branch]:
                    self._error(412, "A commit has happened since. Please refresh and try again.")
                    return
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        repository.branches[branch] = files
        repository.commits.append(message)
        head = hashlib.sha1(f"{branch}{len(repository.commits)}".encode()).hexdigest()
        repository.heads[branch] = head
        address = f"{self.hub.endpoint}/{name}/commit/{head}"
        self._send({"success": True, "commitOid": head, "commitUrl": address})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(name)
        content = repository.branches.get(revision, {}).get(file) if repository else None
        if repository is None or content is None:
            self._error(404, "Entry not found", "EntryNotFound")
            return
        etag = f'"{_git_hash(content)}"'
        self._send(content, ETag=etag, X_Repo_Commit=repository.heads[revision])

    def log_message(self, *args: Any) -> None:
        """Nothing: a test reads no server log."""


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
    entry["oid"] = _git_hash(content)
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return entry


def _mode(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    large = name.endswith(LARGE)
    found: dict[str, Any] = {"path": name, "uploadMode": "lfs" if large else "regular"}
    found["shouldIgnore"] = False
    if name in files:
        content = files[name]
        found["oid"] = hashlib.sha256(content).hexdigest() if large else _git_hash(content)
    return found


@contextmanager
def hub_for_uploads(**options: Any) -> Iterator[Hub]:
    """Serve an empty Hub; its ``endpoint`` is for ``HF_ENDPOINT``."""
    hub = Hub(**options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_variables(hub: Hub) -> dict[str, str]:
    """The environment in which a client uses the stand-in, with its token."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }

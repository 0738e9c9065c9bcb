"""A stand-in for the hub: one folder served under one model id, on the loopback.

It answers the few requests that ``huggingface_hub`` makes to look a model up and to fetch files.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, folder: Path, repo: str, pace_s: float, data: dict[str, Any] | None, *args: Any
    ) -> None:
        self.folder, self.repo, self.pace_s, self.data = folder, repo, pace_s, data
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        path, _, query = self.path.partition("?")
        if path == "/api/models":
            words = parse_qs(query).get("search", [""])[0]
            found = [self._info()] if words.lower() in self.repo.lower() else []
            return self._send(json.dumps(found).encode(), "application/json", body)
        if path.startswith(f"{self._api()}/tree/"):
            return self._send(json.dumps(self._tree()).encode(), "application/json", body)
        if path.startswith(self._api()):
            revision = path.rpartition("/revision/")[2] if "/revision/" in path else "main"
            if revision not in ("main", COMMIT):
                return self._refuse("RevisionNotFound", "Invalid rev id")
            return self._send(json.dumps(self._info()).encode(), "application/json", body)
        prefix = f"{'' if self.data is None else '/datasets'}/{self.repo}/resolve/{COMMIT}/"
        file = self.folder / path.removeprefix(prefix)
        if path.startswith(prefix) and file.is_file():
            return self._send(file.read_bytes(), "application/octet-stream", body)
        return self._refuse("RepoNotFound", "Repository not found")

    def _info(self) -> dict[str, Any]:
        siblings = [{"rfilename": n, "size": p.stat().st_size} for n, p in self._files().items()]
        return {
            "id": self.repo,
            "modelId": self.repo,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": ["license:apache-2.0"],
            "safetensors": {"parameters": {"F32": 27_000}, "total": 27_000},
            "config": {
                "architectures": ["LlamaForCausalLM"],
                "tokenizer_config": {"chat_template": "{{ messages }}"},
            },
            "downloads": 0,
            "likes": 0,
            "siblings": siblings,
            "cardData": self.data or {},
        }

    def _tree(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "file",
                "path": n,
                "size": p.stat().st_size,
                "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
            }
            for n, p in self._files().items()
        ]

    def _api(self) -> str:
        return f"/api/{'models' if self.data is None else 'datasets'}/{self.repo}"

    def _files(self) -> dict[str, Path]:
        found = (p for p in sorted(self.folder.rglob("*")) if p.is_file())
        return {p.relative_to(self.folder).as_posix(): p for p in found}

    def _send(self, content: bytes, kind: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not body:
            return
        if self.pace_s and len(content) > 10_000:
            self.wfile.write(content[:5_000])
            self.wfile.flush()
            threading.Event().wait(self.pace_s)
            content = content[5_000:]
        self.wfile.write(content)

    def _refuse(self, code: str, words: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", words)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: a test reads no server log."""


@contextmanager
def serve_hub(
    folder: Path, repo: str, pace_s: float = 0.0, data: dict[str, Any] | None = None
) -> Iterator[str]:
    """Serve ``folder`` as ``repo``; yields the endpoint. ``pace_s`` makes large files slow. With
    ``data``, the fields of its card, it is a data set and not a model."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, folder, repo, pace_s, data))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

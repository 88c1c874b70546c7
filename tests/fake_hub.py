"""A hub for the tests: as much of Hugging Face's HTTP interface, on loopback, as fetching a repository takes."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 100_000
"""From this size on a file is stored as the hub stores large ones: with its checksum in the listing."""


class FakeHub(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repository = repository
        self.files = files
        self.asked: list[tuple[str, str]] = []
        """Names of files that were fetched, and the range that was asked for."""
        self.strangers: list[str] = []
        """Paths that were asked for and have nothing to do with the repository."""
        self.breaks_off: dict[str, int] = {}
        """By file: after so many bytes, each time it is fetched from its start."""
        self.damages: set[str] = set()
        """Files of which a byte is changed on the way."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.server.repository}/tree/"):
            entries = [{"type": "file", "path": name, "oid": "0" * 40, "size": len(content)} for name, content in self._listed()]
            self._json([{**entry, **self._lfs(str(entry["path"]))} for entry in entries], body)
        elif path.startswith(f"/api/models/{self.server.repository}"):
            siblings = [
                {"rfilename": name, "size": len(content), "blobId": "0" * 40, **self._lfs(name)} for name, content in self._listed()
            ]
            about = {
                "id": self.server.repository,
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
            }
            self._json(about, body)
        elif path.startswith(f"/{self.server.repository}/resolve/{COMMIT}/"):
            self._file(path.removeprefix(f"/{self.server.repository}/resolve/{COMMIT}/"), body)
        else:
            self.server.strangers.append(path)
            self.send_error(404)

    def _listed(self) -> list[tuple[str, bytes]]:
        return sorted(self.server.files.items())

    def _lfs(self, name: str) -> dict[str, Any]:
        content = self.server.files[name]
        if len(content) < LARGE_BYTES:
            return {}
        digest = hashlib.sha256(content).hexdigest()
        return {"lfs": {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 134}}

    def _file(self, name: str, body: bool) -> None:
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        digest = hashlib.sha256(content).hexdigest()
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        self.server.asked.append((name, self.headers.get("Range", "")))
        if name in self.server.damages:
            content = content[:-1] + bytes([content[-1] ^ 1])
        end = self.server.breaks_off.get(name, len(content))
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True

    def _json(self, value: Any, body: bool) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fake_hub(repository: str, files: dict[str, bytes]) -> Iterator[FakeHub]:
    with FakeHub(repository, files) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()

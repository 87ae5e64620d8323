"""A stand-in for the Hugging Face hub's API on this machine, which keeps all that it is sent."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

OID = "c" * 40
LARGE = (".safetensors", ".parquet", ".gguf")
LOOKED_UP = "/api/agent-harnesses"  # by the hub's client for itself: once a day, and without a token


@dataclass
class StandIn:
    """What the stand-in was asked and has, and how it is to answer.

    Attributes:
        url: where it is.
        private: of repositories by name.
        there: names of files that a repository has already.
        refusals: status and message for the beginning of a request, such as `POST /api/repos/create`.
        asked: requests in order, such as `GET /api/whoami-v2`.
        tokens: those of all requests but uploads of large files and what the client looks up for itself.
        made: what was sent to make repositories.
        files: what has arrived, by name; large ones by way of the store `stored`, by digest.
        commits: heads of commits.
        served: what can be downloaded, by its path, such as `/ada/pruned/resolve/main/mask.json`.
        moved: where a path leads instead.
    """

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    there: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    made: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    served: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)

    def answer(self, asked: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON for a request."""
        method, path = asked.split()
        if path.startswith("/store/"):
            self.stored[path.removeprefix("/store/")] = body
            return 200, {}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "ada", "orgs": [{"name": "engine"}]}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._created(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            ways = [{**one, "actions": {"upload": {"href": f"{self.url}/store/{one['oid']}"}}} for one in wanted]
            return 200, {"transfer": "basic", "objects": ways}
        repo = "/".join(path.split("/")[3:5])
        if method in ("GET", "HEAD") and path not in (f"/api/models/{repo}", f"/api/datasets/{repo}"):
            return 404, {"error": "Not found"}
        if method == "GET":
            names = [{"rfilename": name} for name in self.there]
            return 200, {"id": repo, "sha": OID, "private": self.private[repo], "siblings": names}
        if "/preupload/" in path:
            names = [one["path"] for one in json.loads(body)["files"]]
            mode = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
            return 200, {"files": [{"path": one, "uploadMode": mode[one], "shouldIgnore": False} for one in names]}
        assert "/commit/" in path, asked
        self._committed(body)
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/{OID}", "commitOid": OID, "hookOutput": ""}

    def _created(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        self.made.append(wanted)
        repo = f"{wanted['organization']}/{wanted['name']}"
        if repo in self.private:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}
        self.private[repo] = wanted.get("visibility") == "private" or wanted.get("private") is True
        return 200, {"url": f"{self.url}/{repo}"}

    def _committed(self, body: bytes) -> None:
        for line in body.splitlines():
            one = json.loads(line)
            if one["key"] == "header":
                self.commits.append(one["value"])
            elif one["key"] == "file":
                self.files[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            else:
                assert one["key"] == "lfsFile"
                content = self.stored[one["value"]["oid"]]
                assert hashlib.sha256(content).hexdigest() == one["value"]["oid"]
                assert len(content) == one["value"]["size"]
                self.files[one["value"]["path"]] = content


def downloaded(hub: StandIn, handler: BaseHTTPRequestHandler) -> bool:
    """Send a file, or where it is instead; whether there is one."""
    path = handler.path.partition("?")[0]
    content = hub.served.get(path)
    if content is None and path not in hub.moved:
        return False
    handler.send_response(200 if content is not None else 302)
    if content is None:
        handler.send_header("Location", hub.moved[path])
    else:
        handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("X-Repo-Commit", OID)
    handler.send_header("Content-Length", str(len(content or b"")))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content or b"")
    return True


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Serve on a free port of this machine."""
    hub = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._body()
            asked = f"{self.command} {self.path.partition('?')[0]}"
            hub.asked.append(asked)
            if downloaded(hub, self):
                return
            if not self.path.startswith(("/store/", LOOKED_UP)):
                hub.tokens.add(self.headers.get("Authorization", ""))
            refused = next((one for start, one in hub.refusals.items() if asked.startswith(start)), None)
            status, answer = hub.answer(asked, body) if refused is None else (refused[0], {"error": refused[1]})
            content = json.dumps(answer).encode()
            self.send_response(status)
            if refused is not None:
                self.send_header("X-Error-Message", refused[1])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

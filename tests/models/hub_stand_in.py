"""A stand-in of the Hugging Face hub: a real local HTTP server with the hub's file layout, API and failures.

It serves what huggingface_hub asks for when models are listed and downloaded: `resolve` with ETag, commit, linked size
and ranges, and the API's `revision`, `tree` and `refs`. It can be told to fail, some times or always.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import transformers.utils.hub

_LARGE = {".safetensors", ".bin", ".pth", ".pt"}
"""What the hub keeps outside git, and announces with a linked ETag and size."""


@dataclass
class Failure:
    """How a request fails.

    Attributes:
        kind: "status", "truncated" (the connection ends in the middle of the body), "short" (a body that ends where
            it says it does, but before the size that the hub announced), or "slow".
        match: regular expression that the path, such as `/org/model/resolve/<commit>/config.json`, must contain.
        times: how often; None is always.
        status: of "status".
        code: `X-Error-Code` of "status", such as "GatedRepo".
        seconds: of "slow".
    """

    kind: str
    match: str = ""
    times: int | None = None
    status: int = 503
    code: str | None = None
    seconds: float = 0.5


@dataclass
class _Repository:
    refs: dict[str, str] = field(default_factory=dict[str, str])
    commits: dict[str, Path] = field(default_factory=dict[str, Path])


class HubStandIn:
    """The server; `add` fills it, `failures` says what goes wrong, `requests` tells what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, _Repository] = {}
        self.failures: list[Failure] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """The endpoint, the same while the server is down."""
        return f"http://127.0.0.1:{self._port}"

    def add(self, name: str, revision: str, folder: Path) -> str:
        """Publish a folder as a branch of a repository; returns its commit, which follows from its content."""
        digest = hashlib.sha1(name.encode())
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
        commit = digest.hexdigest()
        repository = self.repositories.setdefault(name, _Repository())
        repository.commits[commit] = folder
        repository.refs[revision] = commit
        return commit

    def fail(self, kind: str, match: str = "", **details: Any) -> Failure:
        """Let requests fail from now on; take the failure out of `failures` to end it."""
        failure = Failure(kind, match, **details)
        self.failures.append(failure)
        return failure

    def environment(self, home: Path) -> dict[str, str]:
        """What points another process here, with an empty cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
        }

    def downloads(self, name: str, file: str) -> int:
        """How often a file was sent, of any revision."""
        return sum(bool(re.search(rf"^GET /{name}/resolve/\w+/{file}", request)) for request in self.requests)

    def start(self) -> None:
        """Serve, on the same port as before if it was stopped."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), partial(_Handler, self))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be unreachable."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self.connections):
                with suppress(OSError):  # closed by its other end
                    connection.shutdown(socket.SHUT_RDWR)

    def take_failure(self, path: str, kinds: tuple[str, ...]) -> Failure | None:
        """The failure that this request meets, counted."""
        with self._lock:
            for failure in self.failures:
                if failure.kind in kinds and failure.times != 0 and re.search(failure.match, path):
                    failure.times = None if failure.times is None else failure.times - 1
                    return failure
        return None


class _Refused(Exception):
    def __init__(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, code)
        self.status, self.code, self.headers = status, code, headers or {}


class _Handler(BaseHTTPRequestHandler):
    """Answers for `hub`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubStandIn, *request: Any) -> None:
        self.hub = hub
        super().__init__(*request)  # answers before it returns

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        super().finish()
        self.hub.connections.discard(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        slow = self.hub.take_failure(path, ("slow",))
        if slow is not None:
            time.sleep(slow.seconds)
        try:
            failure = self.hub.take_failure(path, ("status",))
            if failure is not None:
                raise _Refused(failure.status, failure.code)
            if path.startswith("/api/models/"):
                self._send(json.dumps(_api(self.hub, path.removeprefix("/api/models/"))).encode(), with_body)
            else:
                self._file(path, with_body)
        except _Refused as refused:
            body = json.dumps({"error": refused.code or "failed"}).encode()
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(body, with_body, refused.status, {**headers, **refused.headers})

    def _file(self, path: str, with_body: bool) -> None:
        match = re.fullmatch(r"/((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)", path)
        if match is None:
            raise _Refused(404, "RepoNotFound")
        commit, folder = _find(self.hub, match[1], match[2])
        file = folder / match[3]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not file.is_file():
            raise _Refused(404, "EntryNotFound", headers)
        content = file.read_bytes()
        headers["ETag"] = f'"{_oid(file)}"'
        if file.suffix in _LARGE:
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(content))}
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], with_body, 206 if start else 200, headers, path)

    def _send(
        self,
        body: bytes,
        with_body: bool,
        status: int = 200,
        headers: dict[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        broken = None if path is None or not with_body else self.hub.take_failure(path, ("truncated", "short"))
        sent = body if broken is None else body[: len(body) // 2]
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        announced = sent if broken is not None and broken.kind == "short" else body
        self.send_header("Content-Length", str(len(announced)))
        self.end_headers()
        if with_body:
            self.wfile.write(sent)
        if broken is not None and broken.kind == "truncated":
            self.close_connection = True


def _api(hub: HubStandIn, path: str) -> Any:
    """The JSON that the hub's API answers with."""
    match = re.fullmatch(r"((?:[^/]+/)??[^/]+)(?:/(refs|revision|tree)(?:/([^/]+)(?:/(.+))?)?)?/?", path)
    if match is None:
        raise _Refused(404, "RepoNotFound")
    name, what, revision, below = match.groups()
    commit, folder = _find(hub, name, revision or "main") if what != "refs" else _any(hub, name)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if what == "refs":
        refs = hub.repositories[name].refs.items()
        branches = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": target} for ref, target in refs]
        return {"branches": branches, "tags": [], "converts": []}
    if below is not None and not (folder / below).is_dir():
        raise _Refused(404, "EntryNotFound", {"X-Repo-Commit": commit})
    if what == "tree":
        files = [file for file in files if file.is_relative_to(folder / (below or ""))]
        return [_tree_entry(file, folder) for file in files]
    siblings = [{"rfilename": str(file.relative_to(folder)), "size": file.stat().st_size} for file in files]
    return {"id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "siblings": siblings}


def _tree_entry(file: Path, folder: Path) -> dict[str, Any]:
    size = file.stat().st_size
    entry: dict[str, Any] = {"type": "file", "path": str(file.relative_to(folder)), "size": size, "oid": _oid(file)}
    if file.suffix in _LARGE:
        entry["lfs"] = {"oid": _oid(file), "size": size, "pointerSize": 134}
    return entry


def _oid(file: Path) -> str:
    hashed = hashlib.sha256 if file.suffix in _LARGE else hashlib.sha1
    return hashed(file.read_bytes()).hexdigest()


def _any(hub: HubStandIn, name: str) -> tuple[str, Path]:
    if name not in hub.repositories:
        raise _Refused(404, "RepoNotFound")
    return next(iter(hub.repositories[name].commits.items()))


def _find(hub: HubStandIn, name: str, revision: str) -> tuple[str, Path]:
    """Commit and folder of a branch or commit."""
    _any(hub, name)
    repository = hub.repositories[name]
    commit = repository.refs.get(revision, revision)
    if commit not in repository.commits:
        raise _Refused(404, "RevisionNotFound")
    return commit, repository.commits[commit]


@contextmanager
def serving() -> Iterator[HubStandIn]:
    """A hub that is up."""
    hub = HubStandIn()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


def connect(monkeypatch: pytest.MonkeyPatch, hub: HubStandIn, home: Path) -> None:
    """Let huggingface_hub of this process, and what builds on it, use the stand-in and an empty cache."""
    constants: Any = huggingface_hub.constants
    cache = home / "hub"
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_OFFLINE": False,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")
    forget_connections()


def forget_connections() -> None:
    """Let clients be made anew, for another endpoint."""
    huggingface_hub.close_session()
    transformers.utils.hub._hf_api = None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[HubStandIn]:
    """A hub that is up and that this process uses; import it into a test file to have it there."""
    with serving() as running:
        connect(monkeypatch, running, tmp_path / "hf")
        yield running
    forget_connections()


FillRepository = Callable[[Path, int], None]
"""Writes the files of one revision into a folder, from a seed."""


def publish(hub: HubStandIn, name: str, revisions: list[str], fill: FillRepository, folder: Path) -> dict[str, str]:
    """A repository whose revisions really differ; returns their commits. The last one is also `main`."""
    commits: dict[str, str] = {}
    for seed, revision in enumerate(revisions):
        place = folder / name.replace("/", "--") / revision
        place.mkdir(parents=True)
        fill(place, seed)
        commits[revision] = hub.add(name, revision, place)
        hub.add(name, "main", place)
    return commits


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are counted elsewhere; nobody has to wait for them."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))

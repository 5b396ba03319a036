"""Downloads against a server on loopback that can do everything wrong."""

import hashlib
import http.server
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from ofa_tf.errors import DownloadError
from ofa_tf.zoo import default_cache, download, fetch, file_sha256

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, "u1").tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 4_000_000


@dataclass
class Reply:
    """What the server does with one request; the last one is kept for all further requests.

    Args:
        content: the file.
        headers: replace those it sends, or drop them where the value is None.
        status: None for 200 or 206.
        cut: it closes the connection after so many bytes of the body.
        stall: it then waits for this event first.
        ranges: whether it knows them.
        if_range: whether it knows that too.
        chunked: it sends no length, but pieces.
    """

    content: bytes = CONTENT
    headers: dict = field(default_factory=dict)
    status: int | None = None
    cut: int | None = None
    stall: threading.Event | None = None
    ranges: bool = True
    if_range: bool = True
    chunked: bool = False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        replies = self.server.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        etag = reply.headers.get("ETag", f'"{hashlib.sha256(reply.content).hexdigest()}"')
        body, headers, status = reply.content, {"ETag": etag, "Connection": "close"}, 200
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and reply.ranges and (self.headers.get("If-Range") == etag or not reply.if_range):
            first = int(start[1])
            status, body = (206, body[first:]) if first < len(body) else (416, b"")
            headers["Content-Range"] = f"bytes {first}-{len(reply.content) - 1}/{len(reply.content)}"
        headers |= {"Transfer-Encoding": "chunked"} if reply.chunked else {"Content-Length": str(len(body))}
        self.send_response(reply.status or status)
        for name, value in {**headers, **reply.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        body = body[: reply.cut]
        if reply.chunked:
            pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
            ended = [b"0\r\n\r\n"] if reply.cut is None else []
            body = b"".join([*(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), *ended])
        self.wfile.write(body)
        if reply.stall is not None:
            self.wfile.flush()
            reply.stall.wait(30)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.requests = [Reply()], []
        self.url = f"http://127.0.0.1:{self.server_port}/nets/supernet.pth"

    def handle_error(self, *_):  # clients that hang up
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


@pytest.fixture
def get(server, tmp_path):
    """Fetches the server's file into a cache."""

    def get_file(*replies, **arguments):
        if replies:
            server.replies = list(replies)
        return fetch(server.url, tmp_path / "cache", **{"max_bytes": LIMIT, "timeout_s": 10, **arguments})

    return get_file


def names(tmp_path) -> set[str]:
    """What the cache holds, without the hash that the names start with."""
    return {path.name.partition("-")[2] for path in (tmp_path / "cache").iterdir()}


def test_whole_file_is_cached(server, get, tmp_path):
    seen = []
    path = get(progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-supernet.pth")
    assert names(tmp_path) == {"supernet.pth", "supernet.pth.json"}
    document = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert document == {"schema": 1, "url": server.url, "size_bytes": len(CONTENT), "sha256": SHA256}
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert get() == get(sha256=SHA256.upper()) == path
    assert len(server.requests) == 1


def test_damaged_cache_is_fetched_again(server, get):
    path = get()
    path.write_bytes(CONTENT[:-1] + b"x")
    assert get().read_bytes() == CONTENT
    path.with_name(f"{path.name}.json").write_text("{")
    assert get().read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_addresses_do_not_share_a_file(server, get, tmp_path):
    first = get()
    server.replies = [Reply(b"other")]
    second = fetch(f"{server.url}?width=1.2", tmp_path / "cache", max_bytes=LIMIT)
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"other")


def test_resumes_after_cut_connections(server, get, tmp_path):
    seen = []
    path = get(Reply(cut=1_000_000), Reply(cut=500_000), Reply(), progress=lambda done, _: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=1000000-", "bytes=1500000-"]
    assert seen == sorted(seen)
    assert names(tmp_path) == {"supernet.pth", "supernet.pth.json"}


def test_gives_up_and_goes_on_in_the_next_run(server, get, tmp_path):
    with pytest.raises(
        DownloadError, match=r"in 5 attempts \(.*1000 of 3000000 bytes\); the next run resumes it"
    ) as caught:
        get(Reply(cut=1000), Reply(cut=0))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == {"supernet.pth.part", "supernet.pth.part.json"}
    assert len(server.requests) == download.ATTEMPTS
    assert get(Reply()).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize(
    "second",
    [
        Reply(ranges=False),
        Reply(CONTENT[::-1]),
        Reply(CONTENT[::-1], if_range=False),
        Reply(ranges=False, status=206, headers={"Content-Range": "bytes 0-2999999/3000000"}),
        Reply(headers={"Content-Range": "nonsense"}),
        Reply(status=416, headers={"Content-Length": "0"}, cut=0),
    ],
    ids=[
        "ranges ignored",
        "another version",
        "a part of another version",
        "another range",
        "no range",
        "unsatisfiable",
    ],
)
def test_starts_over_where_resuming_is_not_safe(get, second):
    content = second.content
    assert get(Reply(cut=1_000_000), second, Reply(content)).read_bytes() == content


def test_without_etag_or_date_it_starts_over(server, get):
    assert get(Reply(cut=1_000_000, headers={"ETag": None}), Reply()).read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_a_date_is_as_good_as_an_etag(server, get):
    headers = {"ETag": None, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    get(Reply(cut=1_000_000, headers=headers), Reply())
    assert server.requests[1]["If-Range"] == headers["Last-Modified"]


def test_a_part_that_is_already_whole(get, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "file_sha256", fail)
        with pytest.raises(KeyboardInterrupt):
            get()
    assert get().read_bytes() == CONTENT


def test_without_a_length(server, get):
    assert get(Reply(cut=1_000_000, chunked=True), Reply(chunked=True)).read_bytes() == CONTENT
    assert server.requests[1]["Range"].startswith("bytes=")


@pytest.mark.parametrize("reply", [Reply(), Reply(chunked=True)])
def test_too_large(server, get, tmp_path, reply):
    with pytest.raises(DownloadError, match="at most 2000000 are accepted"):
        get(reply, max_bytes=2_000_000)
    assert names(tmp_path) == set()
    assert len(server.requests) == 1


def test_length_that_lies(get, tmp_path):
    with pytest.raises(DownloadError, match="3000000 of 3500000 bytes"):
        get(Reply(headers={"Content-Length": "3500000"}))
    assert get(Reply(headers={"Content-Length": "1000"}), sha256=None).stat().st_size == 1000
    with pytest.raises(DownloadError, match="sha256"):
        get(Reply(headers={"Content-Length": "1000"}), sha256=SHA256)
    assert "supernet.pth.part" not in names(tmp_path)


def test_wrong_hash(get, tmp_path):
    with pytest.raises(DownloadError, match=f"has the sha256 {SHA256}, not {'0' * 64}, and was discarded"):
        get(sha256="0" * 64)
    assert names(tmp_path) == set()


def test_busy_server_is_asked_again(server, get):
    assert get(Reply(status=503, cut=0), Reply(status=429, cut=0), Reply()).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_not_found(server, get):
    with pytest.raises(DownloadError, match=r"could not be downloaded: the server answers 404 Not Found\.$"):
        get(Reply(status=404))
    assert len(server.requests) == 1


def test_no_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
        with pytest.raises(DownloadError, match=r"no connection to 127.0.0.1 \(Connection refused\)\.$"):
            fetch(url, tmp_path, max_bytes=LIMIT)
    with pytest.raises(DownloadError, match=r"no connection to nowhere.invalid \(.+\)\.$"):
        fetch("http://nowhere.invalid/a", tmp_path, max_bytes=LIMIT)


def test_a_silent_server_times_out(server, get):
    stall = threading.Event()
    try:
        with pytest.raises(DownloadError, match="timed out"):
            get(Reply(cut=1000, stall=stall), timeout_s=0.1)
    finally:
        stall.set()
    assert len(server.requests) == download.ATTEMPTS


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/a", "/etc/passwd", "", "http://", "http://host/a b", "http://host:99999/"]
)
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(DownloadError, match="must be an http or https address"):
        fetch(url, tmp_path, max_bytes=LIMIT)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,a"])
def test_redirects_elsewhere_are_refused(server, get, tmp_path, target):
    with pytest.raises(DownloadError, match=re.escape(target)):
        get(Reply(status=302, headers={"Location": target}))
    assert names(tmp_path) == set()
    assert len(server.requests) == 1


def test_redirects_are_followed(server, get):
    assert get(Reply(status=302, cut=0, headers={"Location": "/elsewhere"}), Reply()).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_redirect_from_https_to_http_is_refused():
    request = download.urllib.request.Request("https://host/a")
    with pytest.raises(DownloadError, match="refused"):
        download._Redirects().redirect_request(request, None, 302, "Found", {}, "http://host/a")


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match="could not be stored"):
        fetch(server.url, tmp_path / "cache", max_bytes=LIMIT)


def test_killed_half_way(server, get, tmp_path):
    stall = threading.Event()
    server.replies = [Reply(cut=2_000_000, stall=stall), Reply()]
    code = f"from ofa_tf.zoo import fetch; fetch({server.url!r}, {str(tmp_path / 'cache')!r}, max_bytes={LIMIT})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            part = next((tmp_path / "cache").glob("*.part"), None) if (tmp_path / "cache").is_dir() else None
            if part is not None and part.stat().st_size > 1_900_000:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        status = process.wait(10)
        stall.set()
    assert status == -signal.SIGKILL
    assert names(tmp_path) == {"supernet.pth.part", "supernet.pth.part.json"}
    assert get().read_bytes() == CONTENT
    assert int(server.requests[1]["Range"].strip("bytes=-")) > 1_900_000


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OFA_TF_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("OFA_TF_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "ofa-tf"


def test_file_sha256(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert file_sha256(tmp_path / "a") == SHA256

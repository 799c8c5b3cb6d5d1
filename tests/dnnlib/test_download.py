"""Downloads from a server on this machine: good ones, and all that can go wrong."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dnnlib.download import download
from dnnlib.errors import UserError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/truncated" else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def fetch(url: str, path: Path, sha256: str = SHA256[:8], most: int = len(CONTENT)) -> None:
    download(url, path, sha256, most, show=False)


@pytest.mark.parametrize("name", ["good", "moved", "endless"])
def test_what_comes_is_kept(server: str, name: str, tmp_path: Path) -> None:
    fetch(f"{server}/{name}", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


CASES = {
    "good": ({"sha256": "00000000"}, rf"SHA-256 {SHA256[:8]}, not 00000000, of 256000 bytes"),
    "absent": ({}, "the server says 404"),
    "truncated": ({}, r"cannot be fetched \(.*; or copy the file to "),
    "endless": ({"most": len(CONTENT) - 1}, "more than 255999 bytes"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("old", [None, b"old"])
def test_what_is_wrong_leaves_the_place_as_it_was(server: str, name: str, old: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    changes, words = CASES[name]
    with pytest.raises(UserError, match=f"^fetch: {server}/{name}: {words}"):
        fetch(f"{server}/{name}", path, **changes)  # type: ignore[arg-type]
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if old is None else [old])


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^fetch: http://127\.0\.0\.1:9/x: cannot be fetched \(.*refused\); or copy"
    ) as told:
        fetch("http://127.0.0.1:9/x", tmp_path / "file")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(f"{server}/good", tmp_path / "file" / "below")

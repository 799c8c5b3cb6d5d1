"""Fetching into the cache, and what is said about it."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnnlib.files import sha256_bytes
from metrics.detectors import main
from metrics.public_files import FILES, kept, kept_at

CONTENT = b"weights"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where the files of the table lie, or should, by their names in it; all have the same content."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name, file in FILES.items():
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            monkeypatch.setitem(FILES, name, file._replace(url=url, sha256=sha256_bytes(CONTENT)[:8], most=100))
        yield folder
        server.shutdown()
        thread.join()


def run(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(main, arguments)
    return found.exit_code, found.stdout, found.stderr


def test_fetched_once(served: Path) -> None:
    (served / "vgg16").write_bytes(CONTENT)
    assert kept("vgg16") is None and run("list")[1].count("not here") == 3
    code, out, _ = run("fetch", "vgg16")
    assert code == 0 and str(kept_at("vgg16")) in out and kept_at("vgg16").read_bytes() == CONTENT
    assert kept("vgg16") == kept_at("vgg16")
    (served / "vgg16").unlink()
    assert run("fetch", "vgg16")[:2] == (0, f"vgg16: is at {kept_at('vgg16')} already\n")
    assert f" here: {kept_at('vgg16')}\n" in run("list")[1] and run("list")[1].count("not here") == 2


def test_a_damaged_one_is_told_and_fetched_again(served: Path) -> None:
    kept_at("vgg16").parent.mkdir(parents=True)
    kept_at("vgg16").write_bytes(b"half")
    assert "damaged: fetch it again" in run("list")[1]
    (served / "vgg16").write_bytes(CONTENT)
    assert run("fetch", "vgg16")[0] == 0 and kept_at("vgg16").read_bytes() == CONTENT


def test_all_goes_on_behind_one_that_fails(served: Path) -> None:
    for name in ("vgg16", "lpips"):
        (served / name).write_bytes(CONTENT)
    code, out, err = run("fetch", "all")
    told = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert code == 2 and kept("inception") is None and kept("vgg16") and kept("lpips") and len(out.splitlines()) == 2
    assert len(told) == 1 and "/inception: the server says 404" in told[0]
    (served / "inception").write_bytes(b"x" * 101)
    assert "more than 100 bytes" in run("fetch", "inception")[2]
    (served / "inception").write_bytes(b"other")
    assert "SHA-256" in run("fetch", "inception")[2] and kept("inception") is None


def test_unknown_names_are_refused() -> None:
    code, _, err = run("fetch", "xception")
    assert code == 2 and "'inception'" in err and "'all'" in err


def test_the_public_names_carry_the_first_digits_of_their_hashes() -> None:
    """As their publishers name them; of lpips's file the hash was taken from the package."""
    for name in ("inception", "vgg16"):
        assert FILES[name].file.endswith(f"-{FILES[name].sha256}.pth") and FILES[name].url.endswith(FILES[name].file)
    assert len(FILES["lpips"].sha256) == 64

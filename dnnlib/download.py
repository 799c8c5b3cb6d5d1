"""Files from the network: whole, of the expected content, or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import requests
from tqdm import tqdm

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_path
from dnnlib.progress import progress

TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20


def download(url: str, path: StrPath, sha256: str, most: int, option: str = "fetch", show: bool = True) -> None:
    """Writes what is at a URL to `path`, atomically.

    sha256: the content's, or its first digits. most: bytes that it may have; more are not read.
    Raises UserError, starting with `option`, where it cannot be had, or is not what it should be; then `path` is as it
    was.
    """
    where, digest = f"{option}: {url}", hashlib.sha256()
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT) as response, atomic_path(path) as temporary:
            if response.status_code != requests.codes.ok:
                raise UserError(f"{where}: the server says {response.status_code} {response.reason}")
            length = int(response.headers.get("Content-Length") or 0)
            size, name = 0, Path(path).name
            bar: tqdm[None] = progress(desc=name, total=length or None, unit="B", show=show)
            with open(temporary, "wb") as file, bar:
                bar.unit_scale = True
                for block in response.iter_content(BLOCK):
                    size += len(block)
                    if size > most:
                        raise UserError(f"{where}: more than {most} bytes, which the file has not; nothing was kept")
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
            if not digest.hexdigest().startswith(sha256):
                found = digest.hexdigest()[: len(sha256)]
                raise UserError(f"{where}: SHA-256 {found}, not {sha256}, of {size} bytes; nothing was kept")
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{where}: cannot be fetched ({_reason(error)}); or copy the file to {path}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words: requests wraps what urllib3 wraps."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__

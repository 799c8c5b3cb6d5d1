"""What is printed is also kept: a tee from stdout and stderr to a log file."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Tee(io.TextIOBase):
    """Writes to a stream and to a file. Progress bars (lines that end in a carriage return) stay off the file."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> int:
        self._stream.write(text)
        if "\r" not in text:
            self._file.write(text)
            self._file.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
        self._file.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Copies all that is printed inside the block to the end of `path`."""
    with (
        open(path, "a", encoding="utf-8") as file,
        contextlib.redirect_stdout(_Tee(sys.stdout, file)),
        contextlib.redirect_stderr(_Tee(sys.stderr, file)),
    ):
        yield

"""What is printed is also kept: a tee from stdout and stderr to a log file."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click


class Tee(io.TextIOBase):
    """Writes to a stream and to a file. Progress bars (lines that end in a carriage return) and colours stay off the
    file."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self.stream = stream
        self.file = file

    def write(self, text: str) -> int:
        self.stream.write(text)
        if "\r" not in text:
            self.file.write(click.unstyle(text))
            self.file.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()
        self.file.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Copies all that is printed inside the block to the end of `path`."""
    with (
        open(path, "a", encoding="utf-8") as file,
        contextlib.redirect_stdout(Tee(sys.stdout, file)),
        contextlib.redirect_stderr(Tee(sys.stderr, file)),
    ):
        yield

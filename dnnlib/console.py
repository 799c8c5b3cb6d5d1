"""What a command says: results on stdout; on stderr what happens on the way, warnings and errors.

--quiet leaves out what happens on the way, --json makes each result one line of JSON. Colours are for terminals, and
for nobody where NO_COLOR is set (no-color.org). docs/command-lines.md is the user's page.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

import click
from tqdm import tqdm

from dnnlib.files import finite
from dnnlib.logger import Tee

# Each process has bars of its own. tqdm's lock between processes would be left behind by one that is killed.
tqdm.set_lock(threading.RLock())


class Manner(NamedTuple):
    """Of this process; `torch_utils.launch` hands it on to others."""

    quiet: bool = False
    json: bool = False


_manner = Manner()


def manner() -> Manner:
    return _manner


def behave(**changes: bool) -> None:
    """From now on. changes: fields of Manner."""
    global _manner
    _manner = _manner._replace(**changes)


def hush_dependencies() -> None:
    """matplotlib tells that it looks for fonts, and where it keeps what it has found when there is no home."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def result(value: Mapping[str, Any], text: str) -> None:
    """Prints what the command was called for: in words, or as a line of JSON with the same figures."""
    click.echo(json.dumps(finite(dict(value)), allow_nan=False, ensure_ascii=False) if _manner.json else text)


def tell(text: str) -> None:
    """A line about what happens on the way. With --quiet a log file gets it alone."""
    if not _manner.quiet:
        _write(text, sys.stderr)
    elif isinstance(sys.stderr, Tee):
        _write(text, sys.stderr.file)


def warn(text: str) -> None:
    """A line that says what makes a result worth less, or what will fail later. --quiet does not silence it."""
    _write(f"{_coloured('Warning:', 'yellow')} {text}", sys.stderr)


def fail(text: str) -> None:
    """The line that says why there is no result."""
    _write(f"{_coloured('Error:', 'red')} {text}", sys.stderr)


def _coloured(word: str, colour: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    return word if plain else click.style(word, fg=colour, bold=True)


def _write(text: str, stream: TextIO) -> None:
    tqdm.write(text, file=stream)  # above a progress bar, where there is one
    stream.flush()

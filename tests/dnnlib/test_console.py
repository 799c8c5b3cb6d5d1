"""What goes to stdout, stderr and a log; colours; and the options that every command has."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dnnlib import console
from dnnlib.cli import Command, Group, option
from dnnlib.logger import log_to
from dnnlib.progress import progress
from dnnlib.version import VERSION


@click.command(cls=Command)
@option("--data", required=True)
@option("--outdir", required=True)
def command(data: str, outdir: str) -> None:
    """Do something."""
    for _ in progress(range(3), desc="work"):
        console.tell("on the way")
    console.warn("doubtful")
    console.result({"data": data, "value": math.nan, "name": "ü"}, "in words")


@click.group(cls=Group)
def group() -> None:
    """Several."""


@group.command("one")
def one() -> None:
    """One of them."""
    console.result({"one": 1}, "one")


GIVEN = ["--data", "a", "--outdir", "b"]


@pytest.fixture(autouse=True)
def usual_manner() -> Iterator[None]:
    yield
    console.behave(quiet=False, json=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_results_on_stdout_and_all_else_on_stderr() -> None:
    found = CliRunner().invoke(command, GIVEN)
    assert found.stdout == "in words\n"
    assert found.stderr.count("on the way\n") == 3 and "work: 100%" in found.stderr
    assert "Warning: doubtful\n" in found.stderr


def test_quiet_leaves_results_and_warnings() -> None:
    found = CliRunner().invoke(command, [*GIVEN, "--quiet"])
    assert (found.stdout, found.stderr) == ("in words\n", "Warning: doubtful\n")


def test_json_is_one_line_without_nan() -> None:
    found = CliRunner().invoke(command, [*GIVEN, "--json", "-q"])
    assert found.stdout.count("\n") == 1
    assert json.loads(found.stdout) == {"data": "a", "value": None, "name": "ü"}
    assert CliRunner().invoke(group, ["one", "--json"]).stdout == '{"one": 1}\n'


def test_a_log_gets_what_quiet_leaves_out(tmp_path: Path) -> None:
    console.behave(quiet=True)
    with log_to(tmp_path / "log.txt"):
        console.tell("on the way")
        console.warn("doubtful")
    assert (tmp_path / "log.txt").read_text() == "on the way\nWarning: doubtful\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "\x1b[33m\x1b[1mWarning:\x1b[0m doubtful\n"),
        ({"NO_COLOR": ""}, "\x1b[33m\x1b[1mWarning:\x1b[0m doubtful\n"),  # empty is as if it were not set
        ({"NO_COLOR": "1"}, "Warning: doubtful\n"),
        ({"TERM": "dumb"}, "Warning: doubtful\n"),
    ],
)
def test_colours_are_for_terminals(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with log_to(tmp_path / "log.txt"):
        console.warn("doubtful")
    assert terminal.getvalue() == expected
    assert (tmp_path / "log.txt").read_text() == "Warning: doubtful\n"


def test_the_version_stands_on_the_script_alone() -> None:
    assert CliRunner().invoke(command, ["--version"]).stdout.endswith(f" of arcbifacegan {VERSION}\n")
    assert CliRunner().invoke(group, ["--version"]).stdout.endswith(f" of arcbifacegan {VERSION}\n")
    assert "--version" not in CliRunner().invoke(group, ["one", "--help"]).stdout


def test_all_that_is_missing_is_named_at_once() -> None:
    found = CliRunner().invoke(command, [])
    assert found.exit_code == 2 and found.stderr == "Error: --data, --outdir: needed (command --help tells more)\n"
    found = CliRunner().invoke(group, [])
    assert found.exit_code == 2 and found.stderr == "Error: one of one is needed (group --help tells more)\n"

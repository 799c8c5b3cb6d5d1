"""What holds for every script: help and mistakes without waiting for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [*sorted(path.stem for path in ROOT.glob("*.py")), "metrics.detectors", "dnnlib.completion"]
HEAVY = ("torch", "scipy", "matplotlib", "requests")

# Runs a command line within the process, and tells its status and what is loaded that must not be.
PROGRAM = f"""
import importlib, sys
command = importlib.import_module(sys.argv[1]).main
try:
    command(sys.argv[2:])
except SystemExit as ended:
    print(ended.code, *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


def called(module: str, *line: str) -> tuple[str, str]:
    """Output, and the last line on stderr."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, module, *line], cwd=ROOT, capture_output=True, text=True)
    return ended.stdout, ended.stderr.splitlines()[-1]


def lines() -> list[tuple[str, ...]]:
    """Each script, and each command of those that have several."""
    found: list[tuple[str, ...]] = []
    for module in MODULES:
        command: click.Command = __import__(module, fromlist=["main"]).main
        found += [(module,), *((module, name) for name in getattr(command, "commands", ()))]
    return found


@pytest.mark.parametrize("line", lines(), ids=" ".join)
def test_help_loads_nothing_heavy(line: tuple[str, ...]) -> None:
    out, ended = called(*line, "--help")
    assert out.startswith("Usage: ") and ended == "0"


@pytest.mark.parametrize("line", lines(), ids=" ".join)
def test_a_mistake_is_told_without_loading_anything_heavy(line: tuple[str, ...]) -> None:
    _, ended = called(*line, "--no-such-option")
    assert ended == "2"

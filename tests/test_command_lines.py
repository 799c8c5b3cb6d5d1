"""What holds for every script: help and mistakes without waiting for torch, and one way to say something."""

from __future__ import annotations

import ast
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


def speakers(path: Path) -> list[str]:
    """Calls that print by other ways than dnnlib.console."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [name for name in calls if name in ("print", "click.echo", "click.secho", "tqdm.write")]


def test_all_is_said_through_the_console() -> None:
    """Which knows of --quiet and --json, and what goes to stdout."""
    rooms = ("commands", "torch_utils", "training", "arcface", "metrics", "example_faces", "generation", "reproduction")
    files = [*ROOT.glob("*.py"), *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    assert len(files) > 100 and not {str(path.relative_to(ROOT)): found for path in files if (found := speakers(path))}


def test_an_argument_that_is_missing_is_named() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "metrics.detectors", "fetch"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2 and ended.stderr.startswith("Error: {inception|vgg16|lpips|all}: needed")

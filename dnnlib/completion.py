"""Command line: what makes a shell complete the scripts' options, choices and files at the tab key.

    .venv/bin/python -m dnnlib.completion bash >> ~/.bashrc

click tells what may follow (`dnnlib.cli` asks it so where COMPLETE_VARIABLE is set); complete.bash, complete.zsh and
complete.fish ask it. A shell runs the scripts of this checkout alone, never another file of the same name.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from dnnlib.cli import Command

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
ARRAYS = "_arcbifacegan_root={root}\n_arcbifacegan_python={python}\n_arcbifacegan_scripts=({scripts})\n"
SETTINGS = {
    "bash": ARRAYS,
    "zsh": ARRAYS,
    "fish": "set -g __arcbifacegan_root {root}\nset -g __arcbifacegan_python {python}\n"
    "set -g __arcbifacegan_scripts {scripts}\n",
}


def code_of(shell: str) -> str:
    """What the shell is to read."""
    scripts = shlex.join(sorted(path.name for path in ROOT.glob("*.py")))
    settings = SETTINGS[shell].format(root=shlex.quote(str(ROOT)), python=shlex.quote(sys.executable), scripts=scripts)
    return settings + (FOLDER / f"complete.{shell}").read_text(encoding="utf-8")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(SETTINGS)))
def main(shell: str) -> None:
    """Print what makes bash, zsh or fish complete the scripts; it belongs at the end of ~/.bashrc, ~/.zshrc or
    ~/.config/fish/config.fish."""
    click.echo(code_of(shell), nl=False)


if __name__ == "__main__":
    main()

"""Command lines in one manner: hyphened names with underscore aliases, one-line errors, exit status 2."""

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from dnnlib.errors import SharedUserError, UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
LONGEST_LINE = 2000
LINGER_SECONDS = 2.0  # a launcher ends all processes as soon as one leaves: the one that tells comes first


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """click.option with two habits: each `--two-words` is also accepted as `--two_words`, and defaults are shown."""
    aliases = [f"--{name[2:].replace('-', '_')}" for name in names if name.startswith("--") and "-" in name[2:]]
    aliases = [alias for alias in aliases if alias not in names]
    attributes.setdefault("show_default", True)
    return click.option(*names, *aliases, cls=_Option, **attributes)


class _Option(click.Option):
    """An option whose help lists the hyphened names only: the aliases work, but would double every line.

    An empty text, as an unset variable of a shell script gives, is refused rather than taken for the default, and so is
    NaN.
    """

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        if value == "" or (isinstance(value, (list, tuple)) and "" in value):  # one of several
            raise UserError(f"{self.opts[0]}: the value is empty; give one, or leave the option out")
        found = super().process_value(ctx, value)
        if isinstance(found, float) and math.isnan(found):  # which passes every test for a range
            raise UserError(f"{self.opts[0]}: {value} is no number; one is needed")
        return found

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown = [name for name in self.opts if not (name.startswith("--") and "_" in name)]
        everything, self.opts = self.opts, shown or self.opts
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = everything


def refuse_others(allowed: set[str], why: str) -> None:
    """Raises UserError for an option of the running command that was given and is none of the allowed parameters."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in allowed and context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"{parameter.opts[0]}: {why}")


def _one_line(text: str) -> str:
    """White space becomes blanks; what a terminal would obey, as in a hostile file's name, is written out, and what
    is longer than a screen is cut."""
    words = " ".join(text.split())
    words = words if len(words) <= LONGEST_LINE else f"{words[:LONGEST_LINE]}..."
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in words)


def explain(error: BaseException) -> int:
    """Tells the user what ends the program, a fault of ours with its traceback, and returns the exit status.

    What all processes of a launcher share (torchrun sets RANK and WORLD_SIZE) only the first one tells.
    """
    first = "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"
    if isinstance(error, (click.ClickException, SharedUserError)) and not first:
        time.sleep(LINGER_SECONDS)
        return EXIT_USER_ERROR
    if isinstance(error, click.ClickException):
        click.echo(f"Error: {_one_line(error.format_message())}", err=True)
        return EXIT_USER_ERROR
    if isinstance(error, UserError):
        click.echo(f"Error: {_one_line(str(error))}", err=True)
        return EXIT_USER_ERROR
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        if first:
            click.echo("Interrupted: what is finished stays; the same command goes on from there.", err=True)
        return EXIT_INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


class _OneLineErrors:
    """Mixin: runs the command, and answers the user's mistakes with one line on stderr and status 2."""

    def main(self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any) -> Any:
        if not standalone_mode:
            return super().main(args=args, standalone_mode=False, **extra)  # type: ignore[misc]
        try:
            result = super().main(args=args, standalone_mode=False, **extra)  # type: ignore[misc]
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(EXIT_USER_ERROR)
        except (click.ClickException, UserError, click.Abort, KeyboardInterrupt) as error:
            sys.exit(explain(error))
        sys.exit(result if isinstance(result, int) else 0)


class Command(_OneLineErrors, click.Command):  # type: ignore[misc]
    """A command of one script: `@click.command(cls=Command)`."""


class Group(_OneLineErrors, click.Group):  # type: ignore[misc]
    """A command with subcommands: `@click.group(cls=Group)`."""

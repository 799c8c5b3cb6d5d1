"""Command lines in one manner: hyphened names with underscore aliases, one-line errors, exit status 2, and --version,
--quiet and --json in all of them (dnnlib.console)."""

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from dnnlib import console
from dnnlib.errors import SharedUserError, UserError
from dnnlib.version import VERSION

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
COMPLETE_VARIABLE = "_ARCBIFACEGAN_COMPLETE"  # how a shell asks what may follow: dnnlib.completion
LONGEST_LINE = 2000
LINGER_SECONDS = 2.0  # a launcher ends all processes as soon as one leaves: the one that tells comes first


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """click.option with two habits: each `--two-words` is also accepted as `--two_words`, and defaults are shown."""
    aliases = [f"--{name[2:].replace('-', '_')}" for name in names if name.startswith("--") and "-" in name[2:]]
    aliases = [alias for alias in aliases if alias not in names]
    attributes.setdefault("show_default", True)
    return click.option(*names, *aliases, cls=_Option, **attributes)


def listed(*names: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What completes an option that takes several of these names with commas between them (shell_complete=)."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last)]

    return complete


class _Option(click.Option):
    """An option whose help lists the hyphened names only: the aliases work, but would double every line.

    An empty text, as an unset variable of a shell script gives, is refused rather than taken for the default, so are
    NaN and infinity.
    """

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        if value == "" or (isinstance(value, (list, tuple)) and "" in value):  # one of several
            raise UserError(f"{self.opts[0]}: the value is empty; give one, or leave the option out")
        found = super().process_value(ctx, value)
        if isinstance(found, float) and not math.isfinite(found):  # NaN passes every test for a range
            raise UserError(f"{self.opts[0]}: {value} is no finite number; one is needed")
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Choices and names as click has them; else what the metavar says: `FILE|latest` is the word or a file."""
        if (found := super().shell_complete(ctx, incomplete)) or self.metavar is None:
            return found
        words = self.metavar.split("|")
        found = [CompletionItem(word) for word in words if word.islower() and word.startswith(incomplete)]
        if {"FILE", "ZIP", "PATH", "REC", "TAR", "CSV"} & {*words}:
            return [*found, CompletionItem(incomplete, type="file")]
        return [*found, *([CompletionItem(incomplete, type="dir")] if {"DIR", "OUT", "RUN"} & {*words} else [])]

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
        context = error.ctx if isinstance(error, click.UsageError) else None
        help = f" ({context.command_path} --help tells more)" if context else ""
        console.fail(_one_line(error.format_message()) + help)
        return EXIT_USER_ERROR
    if isinstance(error, UserError):
        console.fail(_one_line(str(error)))
        return EXIT_USER_ERROR
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        if first:
            click.echo("Interrupted: what is finished stays; the same command goes on from there.", err=True)
        return EXIT_INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


# ----------------------------------------------------------------------------
# Commands.


def _behave(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    console.behave(**{str(parameter.name): value})


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"{context.info_name} of arcbifacegan {VERSION}")
        context.exit()


def _flag(*names: str, **attributes: Any) -> click.Option:
    return _Option(list(names), is_flag=True, expose_value=False, **attributes)


_VERSION = _flag("--version", is_eager=True, callback=_show_version, help="Print the version, and leave.")
_MANNERS = (
    _flag("--quiet", "-q", callback=_behave, help="No progress: results on stdout, warnings and errors on stderr."),
    _flag("--json", callback=_behave, help="Print each result as one line of JSON."),
)


class _Base(click.Command):
    """What commands and groups have in common: the user's mistakes are one line on stderr and status 2."""

    shared: tuple[click.Option, ...] = ()  # options beside those of its own

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)  # the last is --help
        known = {name for parameter in own for name in parameter.opts}
        first = (_VERSION,) if ctx.parent is None else ()
        return [*own[:-1], *(one for one in (*self.shared, *first) if not known & {*one.opts}), *own[-1:]]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Without the aliases with underscores, as in the help."""
        found = super().shell_complete(ctx, incomplete)
        return [item for item in found if not (item.value.startswith("--") and "_" in item.value)]

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        extra.setdefault("complete_var", COMPLETE_VARIABLE)
        console.hush_dependencies()
        if not standalone_mode:
            return super().main(args=args, standalone_mode=False, **extra)
        try:
            result = super().main(args=args, standalone_mode=False, **extra)
        except (click.ClickException, UserError, click.Abort, KeyboardInterrupt) as error:
            sys.exit(explain(error))
        sys.exit(result if isinstance(result, int) else 0)


class Command(_Base):
    """A command of one script: `@click.command(cls=Command)`."""

    shared = _MANNERS

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            found, _, _ = self.make_parser(ctx).parse_args(given)
            missing = [param.opts[0] for param in self.get_params(ctx) if param.required and param.name not in found]
            if not missing and error.param is not None:  # an argument: the parser names those that are not there, too
                missing = [error.param.make_metavar(ctx)]
            raise click.UsageError(f"{', '.join(missing)}: needed", ctx) from error


class Group(_Base, click.Group):
    """A command with subcommands: `@click.group(cls=Group)`."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise click.UsageError(f"one of {', '.join(self.commands)} is needed", ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Whole sentences, where click cuts them at the end of a line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(1000)) for name in sorted(self.commands)])

"""One-line errors, exit statuses, and underscore aliases."""

import click
import pytest
from click.testing import CliRunner

from dnnlib.cli import Command, option
from dnnlib.errors import UserError


@click.command(cls=Command)
@option("--gen-model", required=True, help="The generator.")
@option("--fail", default="no")
@option("--psi", type=click.FloatRange(0, 1), default=0.5)
def command(gen_model: str, fail: str, psi: float) -> None:
    """Do something."""
    if fail == "user":
        raise UserError("--gen-model: x: two\nlines")
    if fail == "sly":
        raise UserError("--gen-model: \x1b[2J\udca0 ü: hostile")
    if fail == "long":
        raise UserError("x" * 70000)
    if fail == "bug":
        raise RuntimeError("ours")
    click.echo(gen_model)


def test_underscores_are_accepted_but_not_advertised() -> None:
    runner = CliRunner()
    assert runner.invoke(command, ["--gen_model", "a"]).output == "a\n"
    assert "--gen_model" not in runner.invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gen-model", "a", "--fail", "user"],
        ["--gen-model", "a", "--psi", "nan"],
        ["--nonsense"],
        [],
        ["--gen-model", ""],
        ["--gen_model="],
    ],
)
def test_the_users_mistake_is_one_line_and_status_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_what_a_terminal_would_obey_is_written_out() -> None:
    result = CliRunner().invoke(command, ["--gen-model", "a", "--fail", "sly"])
    assert result.stderr == "Error: --gen-model: \\x1b[2J\\udca0 ü: hostile\n"
    assert len(CliRunner().invoke(command, ["--gen-model", "a", "--fail", "long"]).stderr) < 2100


def test_the_first_process_of_a_launcher_tells_what_all_have_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnnlib.cli.LINGER_SECONDS", 0.0)
    monkeypatch.setenv("RANK", "1")
    assert CliRunner().invoke(command, ["--nonsense"]).stderr.count("Error: ") == 1  # no launcher: RANK is another's
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(command, ["--nonsense"])
    assert (result.exit_code, result.stderr) == (2, "")
    mine = CliRunner().invoke(command, ["--gen-model", "a", "--fail", "user"])
    assert (mine.exit_code, mine.stderr) == (2, "Error: --gen-model: x: two lines\n")


def test_our_fault_keeps_its_traceback() -> None:
    result = CliRunner().invoke(command, ["--gen-model", "a", "--fail", "bug"])
    assert isinstance(result.exception, RuntimeError) and result.exit_code == 1

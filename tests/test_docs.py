"""What the documents name is there: options of the scripts, files, modules, pages and the headings in them."""

import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dnnlib.errors import UserError
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "pretrained/README.md"])
ROOMS = {path.name for path in ROOT.iterdir() if path.is_dir()}
KINDS = "py|md|h|cu|cpp|css|sh|png"  # of files in this repository
WRITTEN_BY_RUNS = ("out/", "build/")

SCRIPTS = {
    path.name: importlib.import_module(path.stem).main
    for path in sorted(ROOT.glob("*.py"))
    if "def main(" in path.read_text(encoding="utf-8")
}
# Pages that speak of other programs' options too (docker, Slurm): there, only what follows a script of ours counts.
OF_OTHERS = ("container.md", "distributed.md", "windows.md")
ELSEWHERE = {"--arch", "--no-deps", "--check"}  # options of python -m bench.NAME, pip and ruff

SHELL = {">", ">>", "|", "&&", ";"}  # ends a call


def options_of(command: click.Command) -> set[str]:
    """Of a command and all below it."""
    params = command.get_params(click.Context(command))  # those that all commands share, too
    own = {name for parameter in params for name in (*parameter.opts, *parameter.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(options_of, below))


def code_of(text: str) -> tuple[list[str], list[str]]:
    """(lines of fenced blocks, joined where a backslash ends them; spans within sentences)."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    return lines, [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]


def call_in(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The script that a line of shell calls, or its subcommand where one is named, and the words behind."""
    for place, word in enumerate(words):
        command, rest = SCRIPTS.get(word.rsplit("/", 1)[-1]), words[place + 1 :]
        if isinstance(command, click.Group) and rest and rest[0] in command.commands:
            return command.commands[rest[0]], rest[1:]
        if command is not None:
            return command, rest
    return None


def wrong_options(text: str, of_others: bool = False) -> Iterator[str]:
    """Those that the script before them has not or, where a line names none, that nothing has."""
    anything = ELSEWHERE.union(*map(options_of, SCRIPTS.values()))
    lines, spans = code_of(text)
    for code in (*lines, *spans):
        call = call_in(code.split())
        if call is None and of_others:
            continue
        allowed, words = (anything, code.split()) if call is None else (options_of(call[0]), call[1])
        for found in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", " ".join(words)):
            if found not in allowed:
                yield f"{found} in `{code}`"


def unparsed(text: str) -> Iterator[str]:
    """Lines of fenced blocks that their script would not take: an option is missing, a value is none of its choices.

    Lines with ... or [ ] in them are shortened, and say so.
    """
    for line in code_of(text)[0]:
        words = [] if re.search(r"\.\.\.|\[", line) else shlex.split(line.rstrip("\\'"), comments=True)
        call = call_in(list(itertools.takewhile(lambda word: word not in SHELL, words)))
        if call is not None:
            try:
                call[0].make_context("", call[1])
            except (click.ClickException, UserError) as error:
                yield f"{line}: {error}"


def missing_files(text: str) -> Iterator[str]:
    """Paths into this repository, scripts, and modules that `python -m` is to run."""
    lines, spans = code_of(text)
    for code in (*lines, *spans):
        for found in re.findall(rf"(?<![\w/.{{}}*-])[\w-]+(?:/[\w.-]+)*\.(?:{KINDS})\b", code):
            inside = found.split("/")[0] in ROOMS and not found.startswith(WRITTEN_BY_RUNS)
            if (inside or ("/" not in found and found.endswith(".py"))) and not list(ROOT.rglob(found)):
                yield f"{found} in `{code}`"
        for found in re.findall(r"python -m ([\w.]+)", code):
            path = ROOT.joinpath(*found.split("."))
            if path.parts[len(ROOT.parts)] in ROOMS and not (path.with_suffix(".py").exists() or path.is_dir()):
                yield f"{found} in `{code}`"


def missing_targets(text: str) -> Iterator[str]:
    """Of `make NAME`, those that the Makefile has not."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines, spans = code_of(text)
    for code in (*lines, *spans):
        yield from (f"make {name}" for name in re.findall(r"(?<![\w-])make ([a-z][\w-]*)", code) if name not in targets)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert list(wrong_options(text, page.name in OF_OTHERS)) == []
    assert list(unparsed(text)) == []
    assert list(missing_files(text)) == []
    assert list(missing_targets(text)) == []
    assert list(broken_links(page)) == []


def test_every_page_is_named_by_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in PAGES if path.parent.name == "docs" and f"docs/{path.name}" not in readme] == []


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One: two\n`train.py --kimg 1 --vis x` `--nowhere` `tests/none.py` `make nothing`\n"
        "[a](none.md) [b](#one-two) [c](#three)\n"
        "```\npython filter.py apply --data x \\\n    --out y\npython -m metrics.nothing\n```\n"
    )
    text = page.read_text()
    assert [found.split(" in ")[0] for found in wrong_options(text)] == ["--out", "--vis", "--nowhere"]
    assert [found.split(":")[0] for found in unparsed(text)] == ["python filter.py apply --data x      --out y"]
    assert [found.split(" in ")[0] for found in missing_files(text)] == ["metrics.nothing", "tests/none.py"]
    assert list(missing_targets(text)) == ["make nothing"]
    assert list(broken_links(page)) == ["none.md", "#three"]

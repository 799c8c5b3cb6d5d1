"""Stages: child processes of this project's command lines, and the record of those that are finished.

A stage names the files that it reads and the folders that it writes. It waits for every earlier stage that writes what
it reads, and takes as many slots (cores, or GPUs) as it needs. OUT/stages.json says of each which command it was, the
SHA-256 of what it read, how it ended and how long it took. A finished stage with the same command and the same inputs
is not run again; one with others is, after what it had written is removed. One that was stopped or failed goes on, by
the means of its own command line.

All commands run inside OUT, with paths relative to it: an experiment that is moved is the same one.
"""

from __future__ import annotations

import functools
import hashlib
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import LOCK, atomic_write_json, read_json, sha256_file

RECORD, LOGS = "stages.json", "logs"
DONE, RUNNING, STOPPED, FAILED = "done", "running", "stopped", "failed"


@dataclass(frozen=True)
class Newest:
    """An argument that is known when the stage begins: the newest file that matches the pattern, in OUT."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern

    def resolve(self, outdir: Path) -> str:
        found = sorted(outdir.glob(self.pattern), key=lambda path: (path.stat().st_mtime_ns, path))
        if not found:
            raise UserError(f"--outdir: {outdir / self.pattern}: there is no such file, though its stage is done")
        return found[-1].relative_to(outdir).as_posix()


Argument = str | Newest
Arguments = tuple[Argument, ...]


@dataclass(frozen=True)
class Stage:
    """One command.

    name: of the stage and its log. script: in the project's folder. arguments: what follows it. reads: files (or
    folders) whose content decides about a second run. writes: files and folders in OUT that are this stage's alone.
    slots: how many cores, or GPUs, it keeps busy.
    """

    name: str
    script: str
    arguments: Arguments
    reads: Arguments
    writes: tuple[str, ...]
    slots: int = 1

    def command(self, outdir: Path | None = None) -> list[str]:
        """Script and arguments; without `outdir` with patterns in place of what is not known yet."""
        return [self.script, *(_known(argument, outdir) for argument in self.arguments)]

    def line(self) -> str:
        """The command for people: what they would type in OUT."""
        return shlex.join(["python", *self.command()])


def _known(argument: Argument, outdir: Path | None) -> str:
    return argument.resolve(outdir) if isinstance(argument, Newest) and outdir is not None else str(argument)


def needed_by(stages: Sequence[Stage]) -> dict[str, set[str]]:
    """Stage -> the earlier stages that write what it reads."""
    found: dict[str, set[str]] = {}
    for number, stage in enumerate(stages):
        earlier = stages[:number]
        found[stage.name] = {
            other.name for other in earlier if any(_within(str(p), w) for p in stage.reads for w in other.writes)
        }
    return found


def _within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))


# ----------------------------------------------------------------------------
# What a stage has read.


@functools.cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    return sha256_file(path)


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files' names and sizes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


def inputs_of(stage: Stage, outdir: Path) -> dict[str, str]:
    """Path -> digest of what the stage reads. Raises UserError for a file that is not there."""
    names = [_known(argument, outdir) for argument in stage.reads]
    found = {}
    for name in names:
        try:
            found[name] = digest(outdir / name)
        except OSError as error:
            raise UserError(f"--outdir: {outdir / name}: {error.strerror or error}; {stage.name} reads it") from error
    return found


# ----------------------------------------------------------------------------
# The record.


class Record:
    """OUT/stages.json: what is known of each stage, by its name."""

    def __init__(self, outdir: Path, facts: dict[str, Any]) -> None:
        """facts: what the whole experiment is; another one in the same folder is refused.

        Raises UserError: `outdir` holds something else.
        """
        self.outdir, self.path = outdir, outdir / RECORD
        self.stages: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            known = read_json(self.path, "--outdir")
            if not isinstance(known, dict) or not isinstance(known.get("stages"), dict):
                raise UserError(f"--outdir: {self.path}: is no record of stages; name another folder")
            other = [name for name, value in facts.items() if known.get(name) != value]
            if other:
                mine, theirs = facts[other[0]], known.get(other[0])
                raise UserError(
                    f"--outdir: {outdir}: holds an experiment of --{other[0]} {theirs}, not {mine}; name another folder"
                )
            self.stages = known["stages"]
        elif outdir.exists() and (not outdir.is_dir() or any(path.name != LOCK for path in outdir.iterdir())):
            raise UserError(f"--outdir: {outdir}: is not empty and holds no experiment; name a new or empty folder")
        self.facts = facts

    def finished(self, stage: Stage) -> bool:
        """Whether it is done: the same command on the same inputs, and what it wrote is there."""
        known = self.stages.get(stage.name, {})
        return known.get("state") == DONE and self.same(stage) and all((self.outdir / p).exists() for p in stage.writes)

    def same(self, stage: Stage) -> bool:
        """Whether what is recorded is this command on these inputs."""
        known = self.stages.get(stage.name, {})
        try:
            return bool(
                known.get("command") == stage.command(self.outdir)
                and known.get("inputs") == inputs_of(stage, self.outdir)
            )
        except UserError:
            return False  # an input is missing; whatever made it comes first

    def begin(self, stage: Stage, log: str) -> None:
        """Notes that it runs. Of another command or other inputs, removes first what was written."""
        known = self.stages.get(stage.name, {})
        seconds = 0.0
        if known and self.same(stage) and known.get("state") != DONE:
            seconds = known.get("seconds", 0.0)  # it goes on
        elif known:
            remove([self.outdir / path for path in (*stage.writes, known.get("log", log))])
        self.stages[stage.name] = {
            "command": stage.command(self.outdir),
            "inputs": inputs_of(stage, self.outdir),
            "slots": stage.slots,
            "state": RUNNING,
            "seconds": seconds,
            "exit_code": None,
            "log": log,
        }
        self.save()

    def end(self, stage: Stage, state: str, seconds: float, exit_code: int | None) -> None:
        """Notes how it ended. seconds: of this run, which are added to those before."""
        known = self.stages[stage.name]
        known |= {"state": state, "seconds": round(known["seconds"] + seconds, 2), "exit_code": exit_code}
        self.save()

    def seconds(self, names: Iterable[str]) -> float:
        return sum(self.stages[name]["seconds"] for name in names if name in self.stages)

    def save(self) -> None:
        atomic_write_json(self.path, {"format": 1, **self.facts, "stages": self.stages})


def remove(paths: Iterable[Path]) -> None:
    """Files and folders with all that is in them; what is not there is no mistake."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

"""Stages as child processes: what is run again and what is not, failures, and what happens when somebody asks to stop.

The children are a script of a few lines: it writes one file that says what it read, and can fail or wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from dnnlib.files import LOCK
from reproduction.runner import Asked, Runner, StageFailed, last_line
from reproduction.stages import Newest, Record, Stage, digest, needed_by

CHILD = """
import os, pathlib, signal, sys, time
target, *sources = sys.argv[1:]
path = pathlib.Path(target)
path.parent.mkdir(parents=True, exist_ok=True)
with open("calls.txt", "a") as calls:
    calls.write(target + "\\n")
text = "".join(pathlib.Path(source).read_text() for source in sources)
if text.startswith("fail"):
    print("working\\rstill working")
    print("Error: --data: it is broken", flush=True)
    print("good bye")
    sys.exit(3)
if text.startswith("wait"):
    def leave(*_):
        path.with_name("saved").write_text("half")
        sys.exit(75)
    signal.signal(signal.SIGTERM, leave)
    path.with_name("waiting").write_text(str(os.getpid()))
    time.sleep(60)
path.write_text(text + target + os.environ.get("SLOTS", ""))
"""


def stage(name: str, *sources: str | Newest, slots: int = 1) -> Stage:
    return Stage(name, "child.py", (f"{name}/out", *sources), sources, (name,), slots)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "child.py").write_text(CHILD)
    out = tmp_path / "out"
    out.mkdir()
    return out


def make(folder: Path, stages: list[Stage], slots: int = 2, **more: object) -> tuple[Runner, list[str]]:
    """A runner over the folder as it is, and the lines that it will say."""
    said: list[str] = []
    record = Record(folder, {"scale": "mini"})
    record.save()

    def environment(own: Stage, taken: object) -> dict[str, str]:
        return {"SLOTS": str(own.slots)}

    return Runner(folder, record, stages, slots, environment, folder.parent, say=said.append, **more), said  # type: ignore[arg-type]


def names(said: list[str]) -> list[str]:
    """Of the stages that the lines are about."""
    return [line.split("] ")[1].split()[0] for line in said]


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    return path.read_text().split() if path.exists() else []


def test_stages_wait_for_what_they_read() -> None:
    first, second, other = stage("a"), stage("b", "a/out"), stage("c", Newest("b/*/best"), "ab")
    assert needed_by([first, second, other]) == {"a": set(), "b": {"a"}, "c": {"b"}}


def test_finished_stages_are_not_run_again(folder: Path) -> None:
    (folder.parent / "input").write_text("x")
    stages = [stage("a", "../input"), stage("b", "a/out"), stage("c", Newest("b/o*"), slots=2)]
    runner, said = make(folder, stages)
    runner.run()
    assert calls(folder) == ["a/out", "b/out", "c/out"]
    assert (folder / "c/out").read_text() == "xa/out1b/out1c/out2"
    assert names(said)[::2] == ["a", "b", "c"]
    known = json.loads((folder / "stages.json").read_text())
    assert known["scale"] == "mini" and known["stages"]["c"]["command"] == ["child.py", "c/out", "b/out"]
    assert known["stages"]["b"]["inputs"] == {"a/out": digest(folder / "a/out")}
    assert {one["state"] for one in known["stages"].values()} == {"done"}
    runner, said = make(folder, stages)
    runner.run()
    assert len(calls(folder)) == 3 and all("done before" in line for line in said)


def test_a_changed_input_or_command_runs_what_depends_on_it(folder: Path) -> None:
    (folder.parent / "input").write_text("x")
    stages = [stage("a", "../input"), stage("b", "a/out"), stage("c", "../input")]
    make(folder, stages)[0].run()
    (folder / "a/old").write_text("left over")
    stages[0] = Stage("a", "child.py", ("a/out", "../input", "../input"), ("../input",), ("a",))
    make(folder, stages)[0].run()
    assert calls(folder)[3:] == ["a/out", "b/out"]  # c reads the same, so it stays
    assert not (folder / "a/old").exists()  # of another command nothing remains
    (folder.parent / "input").write_text("y")
    os.utime(folder.parent / "input", (1, 1))
    make(folder, stages)[0].run()
    assert sorted(calls(folder)[5:]) == ["a/out", "b/out", "c/out"]


def test_a_rerun_that_writes_the_same_bytes_ends_there(folder: Path) -> None:
    (folder.parent / "input").write_text("x")
    stages = [stage("a", "../input"), stage("b", "a/out")]
    make(folder, stages)[0].run()
    (folder / "a/out").unlink()
    (folder / "a").rmdir()
    make(folder, stages)[0].run()
    assert calls(folder) == ["a/out", "b/out", "a/out"]


def test_a_failure_is_one_line_and_can_be_mended(folder: Path) -> None:
    (folder.parent / "input").write_text("fail")
    stages = [stage("a"), stage("b", "../input"), stage("c", "b/out")]
    with pytest.raises(StageFailed) as failed:
        make(folder, stages, slots=1)[0].run()
    log = folder / "logs/02-b.log"
    told = f"b: exit code 3: Error: --data: it is broken (log: {log}; the same command goes on from there)"
    assert str(failed.value) == told and failed.value.status == 3
    known = json.loads((folder / "stages.json").read_text())["stages"]
    assert (known["a"]["state"], known["b"]["state"], known["b"]["exit_code"]) == ("done", "failed", 3)
    assert "c" not in known
    (folder.parent / "input").write_text("mended")
    make(folder, stages)[0].run()
    assert calls(folder) == ["a/out", "b/out", "b/out", "c/out"]


def test_asked_to_stop_the_child_saves_and_goes_on_later(folder: Path) -> None:
    (folder.parent / "input").write_text("wait")
    stages = [stage("a", "../input"), stage("b", "a/out")]
    runner, _ = make(folder, stages, stopped=(folder / "a/waiting").exists)
    with pytest.raises(Asked):
        runner.run()
    assert (folder / "a/saved").read_text() == "half"
    known = json.loads((folder / "stages.json").read_text())["stages"]["a"]
    assert (known["state"], known["exit_code"]) == ("stopped", 75) and known["seconds"] > 0
    (folder / "a/waiting").unlink()
    record = Record(folder, {"scale": "mini"})
    record.begin(stages[0], "logs/01-a.log")  # the same command: nothing is removed, and its seconds count
    assert (folder / "a/saved").exists() and record.stages["a"]["seconds"] == known["seconds"]


def test_a_failure_stops_what_runs_beside_it(folder: Path) -> None:
    (folder.parent / "input").write_text("wait")
    (folder.parent / "later").write_text("fail")
    slow = stage("a", "../input")

    def sees_it_wait(line: str) -> None:
        if "b  ..." in line:
            while not (folder / "a/waiting").exists():
                time.sleep(0.02)

    runner, _ = make(folder, [slow, stage("b", "../later")])
    runner.say = sees_it_wait
    with pytest.raises(StageFailed, match="b: exit code 3"):
        runner.run()
    assert (folder / "a/saved").exists() and not runner.running
    assert runner.record.stages["a"]["state"] == "stopped"


def test_killed_in_the_middle_the_next_run_goes_on(folder: Path) -> None:
    """The runner itself is killed: no record of an end. Its child saves what it has and leaves, where the system can
    ask it to; elsewhere it is ended by hand."""
    (folder.parent / "input").write_text("wait")
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.reproduction.test_stages import make, stage
make(Path({str(folder)!r}), [stage("first"), stage("a", "../input", "first/out"), stage("b", "a/out")])[0].run()
"""
    child = subprocess.Popen([sys.executable, "-c", program])
    waiting = folder / "a/waiting"
    while not (waiting.exists() and waiting.read_text()):
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    if sys.platform == "linux":
        until = time.monotonic() + 20
        while not (folder / "a/saved").exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert (folder / "a/saved").read_text() == "half"
    else:
        os.killpg(int(waiting.read_text()), signal.SIGKILL)
    assert json.loads((folder / "stages.json").read_text())["stages"]["a"]["state"] == "running"
    (folder.parent / "input").write_text("go")
    stages = [stage("first"), stage("a", "../input", "first/out"), stage("b", "a/out")]
    make(folder, stages)[0].run()
    assert calls(folder) == ["first/out", "a/out", "a/out", "b/out"]


def test_where_nothing_can_be_noted_no_child_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the first of two children is put away: the other has ended all the same."""
    (folder.parent / "input").write_text("wait")
    both = [stage("a", "../input"), stage("b", "../input")]
    waiting = [folder / "a/waiting", folder / "b/waiting"]
    runner, _ = make(folder, both, stopped=lambda: all(path.exists() for path in waiting))
    children: list[subprocess.Popen[bytes]] = []

    def full(*_: object) -> None:
        children[:] = children or [one.child for one in runner.running]
        raise UserError("the disk is full")

    monkeypatch.setattr(runner.record, "end", full)
    with pytest.raises(UserError, match="the disk is full"):
        runner.run()
    assert all(child.poll() is not None for child in children) and (folder / "b/saved").exists()


def test_the_slots_limit_what_goes_at_a_time(folder: Path) -> None:
    """Of three independent stages on two slots the third begins when another has ended; one that wants both is not
    overtaken."""
    runner, said = make(folder, [stage("a"), stage("b", slots=2), stage("c")])
    runner.run()
    assert names(said) == ["a", "a", "b", "b", "c", "c"]
    runner, said = make(folder, [stage("d"), stage("e"), stage("f")])
    runner.run()
    assert names(said)[:2] == ["d", "e"]
    runner, _ = make(folder, [stage("g", slots=2)], slots=1)  # more than there are: all
    runner.run()
    assert (folder / "g/out").read_text() == "g/out2"


def test_another_experiment_or_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    make(folder, [stage("a")])[0].run()
    with pytest.raises(UserError, match="holds an experiment of --scale mini, not paper; name another folder"):
        Record(folder, {"scale": "paper"})
    with pytest.raises(UserError, match="is not empty and holds no experiment"):
        Record(tmp_path, {"scale": "mini"})
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / LOCK).touch()  # of a run that was killed before it wrote anything
    assert Record(tmp_path / "new", {"scale": "mini"}).stages == {}
    (folder / "stages.json").write_text("[]")
    with pytest.raises(UserError, match="is no record of stages"):
        Record(folder, {"scale": "mini"})


def test_what_a_finished_stage_should_have_written_is_missed_in_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no such file, though its stage is done"):
        make(folder, [stage("a"), stage("b", Newest("a/*.best"))])[0].run()


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text, last in (
        ("", "it said nothing"),
        ("one\ntwo\n", "two"),
        ("10%\r 20%\r", "20%"),
        ("Error: here\nbye\n", "Error: here"),
        ("x" * 20000 + "\nend", "end"),
    ):
        log.write_text(text)
        assert last_line(log) == last

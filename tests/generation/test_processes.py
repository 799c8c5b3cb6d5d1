"""Several processes, kills and stops: the same bytes, and nothing is made twice but the round in hand.

forked_runs.py does it with stand-ins for the networks; here is said what must have come of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from generation import writers
from tests.generation.test_selection import tree

ROOT = Path(__file__).resolve().parents[2]


def happened(what, folder):
    """(what the program tells, its standard error)"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "tests.generation.forked_runs", what, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
def test_one_two_and_three_processes_give_the_same_bytes(tmp_path):
    told, _ = happened("numbers", tmp_path)
    assert told["left"] == {"1": [0], "2": [0, 0], "3": [0, 0, 0]}
    alone, two, three = (tree(tmp_path / size) for size in ("1", "2", "3"))
    assert alone == two == three and len(alone) > 100
    assert not (tmp_path / "3" / ".parts").exists() and not (tmp_path / "3" / ".lock").exists()
    # Each process did something, and no round was made by two.
    people = {}
    for size, logs in told["rounds"].items():
        assert len(logs) == int(size) and all(logs)
        made = [line for lines in logs for line in lines]
        assert len(made) == len(set(made))
        people[size] = {line for line in made if not line.endswith(" 0")}
    assert people["1"] == people["2"] == people["3"]


@pytest.mark.slow
def test_twenty_kills_at_random(tmp_path):
    told, _ = happened("kills", tmp_path)
    *killed, last = told["sessions"]
    assert len(killed) == 20 and all(status == -9 for _, left in killed for status in left) and last[1] == [0]
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    # What was made again had been the last thing that a killed process began.
    made: set[str] = set()
    in_hand: set[str] = set()
    again = 0
    for processes, _ in told["sessions"]:
        logs = [told["rounds"][str(process)] for process in processes if str(process) in told["rounds"]]
        for line in [line for lines in logs for line in lines]:
            if line in made:
                assert line in in_hand, f"{line} was made twice, but was in nobody's hand"
                again += 1
        made |= {line for lines in logs for line in lines}
        in_hand = in_hand - {line for lines in logs for line in lines[:-1]} | {lines[-1] for lines in logs}
    assert again <= sum(len(processes) for processes, _ in killed)
    assert len(made) > 30


@pytest.mark.slow
def test_asked_to_stop_all_leave_with_75_and_others_go_on(tmp_path):
    told, err = happened("stops", tmp_path)
    # Beside two processes a second run is refused; one of the two is asked, and both leave.
    assert told["left"] == [[2], [75, 75], [75], [75, 75, 75], [0, 0], [0]]
    assert err.count(f"Error: --outdir: {tmp_path / 'stopped'}: another process is at work in it; end it first") == 1
    assert max(told["late"]) <= 2, "the one that was not asked looks before each round, too"
    made = [line for lines in told["rounds"].values() for line in lines]
    assert len(made) == len(set(made)), "what was in hand is finished before a process leaves"
    summary = json.loads((tmp_path / "stopped" / writers.SUMMARY).read_text())
    assert (summary["identities_kept"], summary["pairs_kept"]) == (10, 70)

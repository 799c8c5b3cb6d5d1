"""The Slurm script of docs/distributed.md, with a stand-in for Slurm: two nodes of one task each, on the CPU."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Starts the tasks, hands SIGUSR1 on to them, and returns the highest status.
SRUN = """
import os, signal, subprocess, sys
assert sys.argv[1] == "--kill-on-bad-exit=0"
tasks = []
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
for rank in range(2):
    task = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    tasks.append(subprocess.Popen(sys.argv[2:], env={**os.environ, **task}))
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """
import os, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("127.0.0.1\\nanother")
else:
    with open(os.environ["CALLS"], "a") as file:
        print(*sys.argv[1:], file=file)
"""


def program(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


@pytest.mark.slow
def test_the_job_saves_when_its_time_is_up_and_is_queued_again(tiny_data: Path, tmp_path: Path) -> None:
    found = re.search(r"```bash\n(.*?)```", (ROOT / "docs/distributed.md").read_text(), re.DOTALL)
    assert found is not None
    options = "--cfg tiny32 --fmaps 0.00390625 --batch 4 --tick 0.004 --snap 1000000 --workers 0 --device cpu"
    script = found[1].replace(".venv/bin/python", sys.executable).replace("--cfg paper256", options)
    script = script.replace("DATA", str(tiny_data)).replace("RUNS", str(tmp_path / "runs"))
    program(tmp_path / "srun", SRUN)
    program(tmp_path / "scontrol", SCONTROL)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    job = subprocess.Popen(["bash", "-c", script], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/stats.jsonl")):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()[1]
        time.sleep(0.05)
    (srun,) = psutil.Process(job.pid).children()
    srun.send_signal(signal.SIGUSR1)
    _, said = job.communicate(timeout=240)
    assert job.returncode == 75, said
    assert (tmp_path / "calls").read_text() == "requeue 1234567\n"
    assert len(list(tmp_path.glob("runs/*/training-state-*.pt"))) == 1

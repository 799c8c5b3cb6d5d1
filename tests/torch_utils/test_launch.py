"""Several processes on the CPU: what they agree on, and that the end of one is the end of all."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from tests.torch_utils import crew_work

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds within which a death must end all
START = 180  # more for processes to start in, where the machine is busy


@pytest.fixture(autouse=True)
def not_forever() -> Iterator[None]:
    """A crew that hangs must not hang the tests."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not over after {START + PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(START + PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_one_that_is_killed_ends_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        crew_work.run("killed", tmp_path, 2)
    assert left.value.code == 1
    assert capfd.readouterr().err == "Error: process 1 of 2 was killed by SIGKILL; is memory short?\n"


def test_three_agree_and_one_that_fails_ends_all_with_its_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        crew_work.run("agree_and_fail", tmp_path, 3)
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert told == {str(rank): f"{rank} from 0 True" for rank in range(3)}
    lines = capfd.readouterr().err.splitlines()
    assert left.value.code == 1 and lines[0].startswith("Traceback")
    assert lines[-2:] == ["ValueError: one too many", "Error: process 1 of 3 failed, as above"]


def test_the_mistake_that_one_sees_is_everybodys(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="^--data: none: no such folder$"):
        crew_work.run("lacks_its_file", tmp_path, 2)
    assert capfd.readouterr().err == ""


# ----------------------------------------------------------------------------
# Processes of their own.


def script(work: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.torch_utils.crew_work", "--work", work, "--folder", str(folder), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True, **pipes)  # type: ignore[call-overload]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def launcher(work: str, folder: Path, size: int) -> list[subprocess.Popen]:
    """As torchrun or srun would start them."""
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [script(work, folder, RANK=str(rank), LOCAL_RANK=str(rank), **world) for rank in range(size)]


def outcome(process: subprocess.Popen) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def written(path: Path) -> str:
    """What a process writes there, once it has."""
    while not (path.exists() and path.read_text()):
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.slow
def test_under_a_launcher_a_death_is_noticed_even_by_one_that_waits_for_nobody(tmp_path: Path) -> None:
    (survivor, said), (killed, _) = map(outcome, launcher("killed_behind_its_back", tmp_path, 2))
    assert (survivor, killed) == (1, -signal.SIGKILL)
    assert said.startswith("Error: process 0 ends, because another one is gone (") and said.count("\n") == 1


@pytest.mark.slow
def test_under_a_launcher_rank_0_alone_tells_the_mistake(tmp_path: Path) -> None:
    outcomes = list(map(outcome, launcher("lacks_its_file", tmp_path, 2)))
    assert outcomes == [(2, "Error: --data: none: no such folder\n"), (2, "")]


@pytest.mark.slow
@pytest.mark.parametrize("meeting", [["--master-addr", "127.0.0.1"], ["--rdzv-backend", "c10d"]])
def test_torchrun_starts_all_again_where_one_was_killed(meeting: list[str], tmp_path: Path) -> None:
    """It keeps its store: nobody may find in it what the dead have left there, addresses or counts."""
    endpoint = ["--master-port", free_port()] if "c10d" not in meeting else ["--rdzv-endpoint", "127.0.0.1:0"]
    work = ["-m", "tests.torch_utils.crew_work", "--work", "killed_once", "--folder", str(tmp_path)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    done = subprocess.run(
        [*torchrun, *meeting, *endpoint, *work], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted((tmp_path / str(rank)).read_text() for rank in range(2)) == ["1", "2"]


@pytest.mark.slow
def test_a_signal_to_the_parent_makes_all_leave_alike(tmp_path: Path) -> None:
    parent = script("works_until_asked", tmp_path, "--gpus", "2")
    for rank in range(2):
        written(tmp_path / f"pid-{rank}")
    parent.send_signal(signal.SIGUSR1)
    parent.send_signal(signal.SIGTERM)
    assert outcome(parent) == (75, "")
    rounds = {int(written(tmp_path / f"rounds-{rank}")) for rank in range(2)}
    assert len(rounds) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_a_killed_parent_leave_no_orphans(number: int, status: int, tmp_path: Path) -> None:
    parent = script("works_until_asked", tmp_path, "--gpus", "2")
    children = [int(written(tmp_path / f"pid-{rank}")) for rank in range(2)]
    parent.send_signal(number)
    said = outcome(parent)
    assert said[0] == status and "Traceback" not in said[1]
    while any(alive(child) for child in children):
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"

"""Dockerfile, .dockerignore and docker_run.sh, as far as they can be held without a container engine."""

import os
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CALLER = f"{os.getuid()}:{os.getgid()}" if hasattr(os, "getuid") else ""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="docker_run.sh is a program for bash")


# ----------------------------------------------------------------------------
# Dockerfile and .dockerignore.


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line]


def arguments(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


def allowed() -> list[str]:
    """What .dockerignore lets through of the checkout's first level."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*", "everything is kept out first"
    return [pattern[1:] for pattern in patterns if pattern.startswith("!")]


def tracked() -> set[str]:
    """Names of the first level that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {line.split("/")[0] for line in listed.stdout.splitlines()}


def test_the_base_is_an_argument_and_has_the_torch_of_the_requirements() -> None:
    (torch,) = re.findall(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [name for name, _ in instructions()][:2] == ["ARG", "FROM"]
    assert re.fullmatch(rf"BASE=pytorch/pytorch:{re.escape(torch)}-cuda\d+\.\d+-cudnn\d+-devel", arguments("ARG")[0])
    assert arguments("FROM") == ["${BASE}"]


def test_the_image_is_left_as_a_user_without_rights_and_fetches_nothing_by_address() -> None:
    (user,) = arguments("USER")
    assert int(user) > 0 and f"--uid {user}" in arguments("RUN")[-1]
    assert not arguments("ADD") and not any("http" in run or "curl" in run for run in arguments("RUN"))


def test_what_is_copied_exists_and_is_let_through() -> None:
    sources = [source for copy in arguments("COPY") for source in copy.split()[:-1]]
    assert {"requirements.txt", "torch_utils", "."} <= set(sources)
    for source in sources:
        assert source == "." or ((ROOT / source).exists() and source in allowed()), source


def test_all_code_enters_the_image_and_nothing_that_git_does_not_know() -> None:
    code = {path.name for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    known = tracked()
    if not known:
        pytest.skip("this is no git checkout")
    assert code & known - {"tests", "bench"} <= set(allowed())
    assert set(allowed()) <= known
    assert not any(fnmatch(name, pattern) for name in ("out", "data", "runs", ".git", ".venv") for pattern in allowed())


# ----------------------------------------------------------------------------
# docker_run.sh.


class Machine:
    """A checkout, a home and a PATH with stand-ins for programs, which write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.programs, self.home = folder / "a checkout", folder / "bin", folder / "home"
        for place in (self.checkout, self.programs, self.home):
            place.mkdir()
        shutil.copy(ROOT / "docker_run.sh", self.checkout)
        for name in ("bash", "env", "dirname", "id", "grep", "mkdir"):
            (self.programs / name).symlink_to(str(shutil.which(name)))

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (self.programs / name).chmod(0o755)

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.programs), "HOME": str(self.home), **settings}
        script = str(self.checkout / "docker_run.sh")
        return subprocess.run([script, *command], env=environment, capture_output=True, text=True, check=False)

    def told(self, *command: str, **settings: str) -> list[str]:
        """The words of the command that DRY_RUN=1 prints."""
        result = self.run(*command, DRY_RUN="1", **settings)
        assert result.returncode == 0, result.stderr
        return shlex.split(result.stdout)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def after(words: list[str], option: str) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def test_a_machine_without_gpus(machine: Machine) -> None:
    words = machine.told("python", "train.py", "--outdir", "my runs", "")
    assert words[:2] == ["docker", "run"] and "--gpus" not in words and "--tty" not in words
    assert words[-6:] == ["arcbifacegan", "python", "train.py", "--outdir", "my runs", ""]
    assert after(words, "--user") == [CALLER] and after(words, "--workdir") == ["/workspace"]
    assert after(words, "--shm-size") == ["8g"] and after(words, "--pull") == ["never"]
    assert after(words, "--mount") == [
        f"type=bind,source={machine.checkout},target=/workspace",
        f"type=bind,source={machine.home}/.cache/arcbifacegan-container,target=/cache",
    ]
    assert "HOME=/cache" in after(words, "--env")
    assert not list(machine.home.iterdir())  # nothing is made for a command that is only printed


@pytest.mark.parametrize(
    ("lists", "settings", "wanted"),
    [
        ("echo 'GPU 0: NVIDIA'", {}, ["all"]),
        ("echo 'GPU 0: NVIDIA'", {"GPUS": "none"}, []),
        ("echo 'GPU 0: NVIDIA'", {"GPUS": "2"}, ["2"]),
        ("echo 'GPU 0: NVIDIA'", {"GPUS": "device=0,3"}, ['"device=0,3"']),
        ("echo 'no driver' >&2; exit 9", {}, []),
        ("exit 9", {"GPUS": "all"}, ["all"]),
    ],
)
def test_gpus(machine: Machine, lists: str, settings: dict[str, str], wanted: list[str]) -> None:
    machine.program("nvidia-smi", lists)
    assert after(machine.told("true", **settings), "--gpus") == wanted


def test_settings(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "two words").mkdir()
    folders = f"{tmp_path / 'two words'}:{machine.home}"
    words = machine.told("true", MOUNT=folders, IMAGE="mine:2", SHM_SIZE="1g", RUN_AS="0:0", XDG_CACHE_HOME="/caches")
    assert [mount.split("target=")[1] for mount in after(words, "--mount")] == [
        "/workspace",
        "/cache",
        *folders.split(":"),
    ]
    assert "source=/caches/arcbifacegan-container," in after(words, "--mount")[1]
    assert words[-2:] == ["mine:2", "true"]
    assert after(words, "--user") == ["0:0"] and after(words, "--shm-size") == ["1g"]


@pytest.mark.parametrize(
    ("command", "settings", "line"),
    [
        ([], {}, "Error: a command is missing: ./docker_run.sh python train.py --help"),
        (["true"], {"MOUNT": "/not/there"}, "Error: MOUNT: /not/there: is no folder"),
        (["true"], {"MOUNT": "data"}, "Error: MOUNT: data: is not absolute;"),
        (["true"], {"MOUNT": "/a,b"}, "Error: MOUNT: /a,b: docker takes no comma"),
        (["true"], {}, "Error: docker is not installed;"),
    ],
)
def test_mistakes_are_one_line(machine: Machine, command: list[str], settings: dict[str, str], line: str) -> None:
    result = machine.run(*command, **settings)
    assert result.returncode == 2 and result.stderr.startswith(line) and result.stderr.count("\n") == 1
    assert not result.stdout


def test_an_image_that_was_not_built_is_named(machine: Machine) -> None:
    machine.program("docker", "exit 1")
    result = machine.run("true", IMAGE="mine")
    assert result.returncode == 2
    assert result.stderr == "Error: IMAGE: mine: is not here; docker build --tag mine . makes it\n"


def test_docker_gets_the_printed_command_and_its_status_is_ours(machine: Machine) -> None:
    words = machine.told("python", "-c", "print('a  b')")
    machine.program("docker", 'if [ "$1" = run ]; then printf "%s\\n" "$@"; exit 75; fi')
    result = machine.run("python", "-c", "print('a  b')")
    assert result.returncode == 75 and result.stdout.splitlines() == words[1:]
    assert (machine.home / ".cache/arcbifacegan-container").is_dir()  # by us: docker would make it root's


@pytest.mark.parametrize("gpus", ["two", "0", "-1", "0,1", "gpu0"])
def test_gpus_that_docker_would_not_understand(machine: Machine, gpus: str) -> None:
    ended = machine.run("true", GPUS=gpus)
    assert ended.returncode == 2 and ended.stderr.startswith(f"Error: GPUS: {gpus}: ")


def test_the_command_comes_before_its_options(machine: Machine) -> None:
    ended = machine.run("--gpus", "all", "true")
    assert ended.returncode == 2 and "GPUS=all" in ended.stderr

"""How kernels come to be: one attempt, remembered; one builder; all processes or none; one line where it fails."""

import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dnnlib.errors import UserError
from torch_utils.ops import build, kernels

ROOT = Path(__file__).resolve().parents[3]
COMPILER_SAYS = """Error building extension 'x': [1/2] /usr/bin/nvcc -Werror all-warnings -c /src/a.cu -o a.cuda.o
FAILED: [code=2] a.cuda.o
/usr/bin/nvcc -Werror all-warnings -c /src/a.cu -o a.cuda.o
In file included from /src/a.cu:3:
/src/a.cu(12): error: identifier "floot" is undefined
1 error detected in the compilation of "/src/a.cu".
ninja: build stopped: subcommand failed.
"""


class FakeCompiler:
    """Writes a library, or fails with a reason; counts its calls."""

    def __init__(self, failure: str | None = None) -> None:
        self.failure, self.calls = failure, 0

    def __call__(self, made: build.Build) -> None:
        self.calls += 1
        if self.failure:
            raise build.BuildError(self.failure)
        made.library.write_bytes(b"library")


@pytest.fixture
def made(tmp_path: Path) -> build.Build:
    return build.Build(build.CUDA_SOURCES, "8.6", tmp_path)


# ----------------------------------------------------------------------------
# One attempt, remembered.


def test_a_build_happens_once(made: build.Build) -> None:
    compiler = FakeCompiler()
    for _ in range(2):
        build.ensure(made, compiler)
    assert compiler.calls == 1 and made.library.read_bytes() == b"library"
    assert json.loads(made.finished.read_text()) == {"arch": "8.6"}
    assert not (made.folder / "building").exists()


def test_a_failure_is_remembered_for_hours_and_a_new_attempt_can_be_asked_for(
    made: build.Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = FakeCompiler("a.cu(12): error")
    for _ in range(2):
        with pytest.raises(build.BuildError, match=r"^a\.cu\(12\): error"):
            build.ensure(made, compiler)
    assert compiler.calls == 1 and not (made.folder / "building").exists()
    with pytest.raises(build.BuildError):
        build.ensure(made, compiler, again=True)
    assert compiler.calls == 2
    later = time.time() + build.RETRY_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    compiler.failure = None
    build.ensure(made, compiler)
    assert compiler.calls == 3 and made.finished.exists() and not made.failed.exists()


def test_a_half_written_library_is_not_taken_for_a_finished_one(made: build.Build) -> None:
    made.folder.mkdir()
    made.library.write_bytes(b"half")  # a builder was killed while linking
    build.ensure(made, FakeCompiler())
    assert made.library.read_bytes() == b"library"


def test_an_unwritable_place_is_a_reason(made: build.Build) -> None:
    made.root.joinpath(made.name).write_text("a file where the folder should be")
    with pytest.raises(build.BuildError, match=made.name):
        build.ensure(made, FakeCompiler())


def test_names_follow_the_content(made: build.Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wider = build.Build(build.CUDA_SOURCES, "8.6;9.0", tmp_path)
    assert made.name != wider.name and made.family == wider.family and made.name.isidentifier()
    copy = tmp_path / "csrc"
    copy.mkdir()
    for path in build.CSRC.iterdir():
        copy.joinpath(path.name).write_bytes(path.read_bytes())
    names = {made.name}
    for change in (("CSRC", copy), None):
        if change:
            monkeypatch.setattr(build, *change)
            copy.joinpath("bias_act.h").write_text("// changed")
        else:
            monkeypatch.setattr(torch, "__version__", "99.0")
        build._digest.cache_clear()
        names.add(made.name)
    build._digest.cache_clear()
    assert len(names) == 3


# ----------------------------------------------------------------------------
# Locks.


def test_a_stale_lock_is_named_and_taken_over(made: build.Build, capfd: pytest.CaptureFixture[str]) -> None:
    made.folder.mkdir()
    for name in ("building", "lock"):  # ours, and torch's, which torch would wait for without end
        lock = made.folder / name
        lock.touch()
        os.utime(lock, (time.time() - 3600, time.time() - 3600))
    build.ensure(made, FakeCompiler())
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(made.folder / "building"), str(made.folder / "lock")]
    assert all("taken over" in line for line in lines) and made.finished.exists()
    assert {path.name for path in made.folder.iterdir()} == {"finished.json", made.library.name}


def test_a_fresh_lock_is_waited_for(made: build.Build, capfd: pytest.CaptureFixture[str]) -> None:
    """Another process finishes meanwhile: nothing is left to be compiled."""
    made.folder.mkdir()
    lock = made.folder / "building"
    lock.touch()
    compiler = FakeCompiler()
    waiting = threading.Thread(target=build.ensure, args=(made, compiler))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and compiler.calls == 0
    made.library.touch()
    made.finished.write_text('{"arch": "8.6"}')
    lock.unlink()
    waiting.join(10)
    assert not waiting.is_alive() and compiler.calls == 0
    assert capfd.readouterr().err == f"Waiting for the process that builds in {made.folder}\n"


def test_a_builder_keeps_its_locks_fresh(made: build.Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BEAT_SECONDS", 0.01)
    made.folder.mkdir()
    with build.alone_in(made.folder):
        locks = [made.folder / "building", made.folder / "lock"]
        for lock in locks:
            lock.touch()
            os.utime(lock, (0, 0))
        deadline = time.time() + 10
        while any(lock.stat().st_mtime == 0 for lock in locks) and time.time() < deadline:
            time.sleep(0.01)
        assert all(time.time() - lock.stat().st_mtime < 60 for lock in locks)


# ----------------------------------------------------------------------------
# Architectures.


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        ("8.6", (8, 6), True),
        ("8.0", (8, 9), True),
        ("8.9", (8, 0), False),
        ("8.0", (9, 0), False),
        ("7.5;8.0+PTX", (12, 0), True),
        ("7.5+PTX;8.0", (7, 0), False),
    ],
)
def test_which_gpus_code_runs_on(arch: str, capability: tuple[int, int], runs: bool) -> None:
    assert build.covers(arch, capability) is runs


def test_a_build_made_ahead_is_found(made: build.Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    ahead = build.Build(build.CUDA_SOURCES, build.DEFAULT_ARCH)
    build.ensure(ahead, FakeCompiler())
    monkeypatch.setattr(build, "visible_arch", lambda: "7.0;8.9")
    here = build.Build(build.CUDA_SOURCES, "7.0;8.9")
    assert build.build_for((8, 9)) == ahead
    assert build.build_for((7, 0)) == here  # too old for what was built ahead
    ahead.library.unlink()
    assert build.build_for((8, 9)) == here
    ahead.library.touch()
    ahead.finished.write_text("[]")
    assert build.build_for((8, 9)) == here


def test_arch_lists() -> None:
    assert build.parse_arch("8.6 9.0+PTX;", "--arch") == "8.6;9.0+PTX"
    assert build.gencode("8.6;12.0+PTX") == [
        "-gencode=arch=compute_86,code=sm_86",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]
    with pytest.raises(UserError, match=r"^--arch: 'Ampere'"):
        build.parse_arch("Ampere", "--arch")


# ----------------------------------------------------------------------------
# What is said.


def test_the_first_error_is_quoted() -> None:
    assert build.first_error(COMPILER_SAYS) == '/src/a.cu(12): error: identifier "floot" is undefined'
    assert build.first_error("[1/1] c++ a.o -o x.so\n/usr/bin/ld: cannot find -lcudart\n") == (
        "/usr/bin/ld: cannot find -lcudart"
    )
    assert build.first_error("nvcc fatal   : Unsupported gpu architecture 'compute_120'").startswith("nvcc fatal")
    assert build.first_error("") == "the compiler said nothing"


def test_a_real_compiler_error_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if missing := build.missing_tools(cuda=False):
        pytest.skip("; ".join(missing))
    source = tmp_path / "broken.cpp"
    source.write_text("int f() { return nothing; }\n")
    monkeypatch.setattr(build, "CSRC", tmp_path)
    broken = build.Build(("broken.cpp",), "", tmp_path / "cache")
    request.addfinalizer(build._digest.cache_clear)
    with pytest.raises(build.BuildError, match=r"broken\.cpp:1:\d+: error: .*nothing"):
        build.ensure(broken)
    assert "ninja" in (broken.folder / "build.log").read_text()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CXX", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    missing = "\n".join(build.missing_tools())
    for word in ("C++ compiler c++", "pip install ninja", "Python.h", f"nvcc is missing: CUDA_HOME is {tmp_path}"):
        assert word in missing


def test_the_command_line_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_HOME": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
    result = subprocess.run(
        [sys.executable, "-m", "torch_utils.ops.build", "--arch", "8.6"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "nvcc is missing" in result.stderr
    assert not (tmp_path / "cache").exists()


def test_importing_an_op_builds_nothing() -> None:
    code = (
        "import sys, torch; from torch_utils.ops import bias_act, kernels, upfirdn2d; "
        "assert 'torch.utils.cpp_extension' not in sys.modules; print(kernels.kernels_for(torch.zeros(1)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == "None\n", result.stderr


# ----------------------------------------------------------------------------
# All processes, or none.

MODULE = ModuleType("kernels")


def make_or_fail(fails: bool) -> ModuleType:
    if fails:
        raise build.BuildError(f"nvcc is missing\non rank {dist.get_rank() if dist.is_initialized() else 0}")
    return MODULE


def test_a_failure_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert kernels.together(lambda: make_or_fail(False)) is MODULE
    assert kernels.together(lambda: make_or_fail(True)) is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Warning: CUDA kernels: nvcc is missing on rank 0; the PyTorch reference serves")
    assert "python -m torch_utils.ops.build" in line


def one_of_two(rank: int, store: str, folder: str) -> None:
    """Three rounds: nobody fails, rank 0 fails, rank 1 fails; each notes what it got and when it tried."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results = []
    for failing in (None, 0, 1):
        tried: list[float] = []

        def make(failing: int | None = failing, tried: list[float] = tried) -> ModuleType:
            tried.append(time.time())
            if rank == 0:
                time.sleep(0.2)
            return make_or_fail(failing == rank)

        results.append({"kernels": kernels.together(make) is not None, "tried": tried})
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def test_all_processes_get_kernels_or_none_does(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    arguments = (str(tmp_path / "store"), str(tmp_path))
    processes: list[SpawnProcess] = [context.Process(target=one_of_two, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert [round["kernels"] for round in first] == [round["kernels"] for round in second] == [True, False, False]
    assert second[0]["tried"][0] >= first[0]["tried"][0] + 0.2  # rank 0 builds, then the other looks
    assert first[1]["tried"] and not second[1]["tried"]  # what failed there is not tried elsewhere

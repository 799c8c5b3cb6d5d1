"""Builds the CUDA kernels of csrc/: at first use on a GPU (kernels.py), or ahead of time by

    python -m torch_utils.ops.build --arch "8.6;9.0+PTX"

A build has a folder of its own, named by a digest of all that goes into it. A finished one needs no compiler any more;
one that failed is not tried again for hours. One process builds; a lock that nobody has touched for long is taken over.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import click
import torch

from dnnlib import console
from dnnlib.cli import Command, option
from dnnlib.errors import UserError
from dnnlib.files import atomic_write_json

CSRC = Path(__file__).parent / "csrc"
CUDA_SOURCES = ("bind.cpp", "bias_act.cu", "upfirdn2d.cu")
CPU_SOURCES = ("bind.cpp", "cpu.cpp")  # the same arithmetic in a loop, for tests
DEFAULT_ARCH = "7.5;8.0;9.0;12.0+PTX"
RETRY_SECONDS = 6 * 3600  # how long a failed build is not tried again
STALE_SECONDS = 120.0  # a builder touches its lock far more often
BEAT_SECONDS = 5.0


class BuildError(UserError):
    """Why there are no kernels, in one line."""


# ----------------------------------------------------------------------------
# What is built, and where.


def _root() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions").absolute()


@functools.cache
def _digest() -> str:
    """Of the sources, and of what a compiled module must fit: torch, CUDA, Python."""
    parts = [torch.__version__, str(torch.version.cuda), sysconfig.get_config_var("EXT_SUFFIX") or sys.version]
    parts += [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sorted(CSRC.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Build:
    """sources: files of csrc/. arch: GPU architectures, such as 8.6;9.0+PTX; empty for the CPU."""

    sources: tuple[str, ...]
    arch: str
    root: Path = field(default_factory=_root)

    @property
    def family(self) -> str:
        """What builds for other architectures have in common with this one."""
        return f"arcbifacegan_ops_{'cuda' if self.arch else 'cpu'}_{_digest()}"

    @property
    def name(self) -> str:
        return f"{self.family}_{hashlib.sha256(self.arch.encode()).hexdigest()[:8]}"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def library(self) -> Path:
        return self.folder / f"{self.name}{'.pyd' if os.name == 'nt' else '.so'}"

    @property
    def finished(self) -> Path:
        """A file that is written once the library is whole."""
        return self.folder / "finished.json"

    @property
    def is_finished(self) -> bool:
        return self.finished.exists() and self.library.exists()

    @property
    def failed(self) -> Path:
        """A file with the reason why the last attempt failed."""
        return self.folder / "failed.json"


def visible_arch() -> str:
    """The architectures of this machine's GPUs; empty where there is none."""
    visible = {torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())}
    return ";".join(f"{major}.{minor}" for major, minor in sorted(visible))


def build_for(capability: tuple[int, int]) -> Build:
    """A finished build that runs on such a GPU, or else the one to be made for the GPUs of this machine."""
    wanted = Build(CUDA_SOURCES, visible_arch())
    for mark in (wanted.finished, *sorted(wanted.root.glob(f"{wanted.family}_*/{wanted.finished.name}"))):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            build = Build(CUDA_SOURCES, json.loads(mark.read_text(encoding="utf-8"))["arch"])
            if build.is_finished and covers(build.arch, capability):
                return build
    return wanted


def parse_arch(text: str, name: str) -> str:
    """'8.6 9.0+PTX' or '8.6;9.0+PTX' -> the latter. Raises UserError that begins with `name`."""
    arch = ";".join(re.split(r"[;,\s]+", text.strip(";, ")))
    if not re.fullmatch(r"\d+\.\d(\+PTX)?(;\d+\.\d(\+PTX)?)*", arch):
        raise UserError(f"{name}: {text!r}: architectures such as {DEFAULT_ARCH} are needed")
    return arch


def covers(arch: str, capability: tuple[int, int]) -> bool:
    """Whether code for these architectures runs on a GPU of this capability: the same major version and no later minor
    one, or anything earlier as PTX."""
    for item in arch.split(";"):
        major, minor = (int(number) for number in item.removesuffix("+PTX").split("."))
        if (major == capability[0] or item.endswith("+PTX")) and (major, minor) <= capability:
            return True
    return False


# ----------------------------------------------------------------------------
# One attempt, by one process.

Compiler = Callable[[Build], None]  # makes build.library, or raises BuildError


def ensure(build: Build, compiler: "Compiler | None" = None, again: bool = False) -> None:
    """Sees to it that build.library exists: finds it, waits for who is building it, or builds it.

    again: tries even where the last attempt failed. Raises BuildError.
    """
    if build.is_finished and not again:
        return
    if not again:
        _raise_remembered(build)
    missing = missing_tools(cuda=bool(build.arch)) if compiler is None else []
    if missing:  # looked for at every start, which costs nothing, and not remembered
        raise BuildError("; ".join(missing))
    try:
        build.folder.mkdir(parents=True, exist_ok=True)
        with alone_in(build.folder):
            if build.is_finished and not again:
                return  # somebody else built it meanwhile
            if not again:
                _raise_remembered(build)
            _attempt(build, compiler or compile_with_ninja)
    except OSError as error:
        raise BuildError(f"{build.folder}: {error.strerror or error}") from error


def _attempt(build: Build, compiler: Compiler) -> None:
    build.finished.unlink(missing_ok=True)
    try:
        compiler(build)
    except BuildError as error:
        atomic_write_json(build.failed, {"reason": str(error), "time": time.time()})
        raise
    build.failed.unlink(missing_ok=True)
    atomic_write_json(build.finished, {"arch": build.arch})


def _raise_remembered(build: Build) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        failed = json.loads(build.failed.read_text(encoding="utf-8"))
        if 0 <= time.time() - failed["time"] < RETRY_SECONDS:
            raise BuildError(f"{failed['reason']} (as at the last attempt, {build.failed})")


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process builds in the folder, and keeps others out; frees it from dead builders' locks.

    `building` is our lock, `lock` the one that torch holds within, and would wait for without end. The builder touches
    both, so that a lock which nobody has touched for long has no living builder: on whatever machine it was.
    """
    ours, torchs = folder / "building", folder / "lock"
    while True:
        _wait_for(ours)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(ours, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
    done, touched = threading.Event(), [ours]
    threading.Thread(target=_touch, args=(done, touched), daemon=True).start()
    try:
        _wait_for(torchs)
        touched.append(torchs)
        yield
    finally:
        done.set()
        ours.unlink(missing_ok=True)


def _touch(done: threading.Event, locks: list[Path]) -> None:
    while not done.wait(BEAT_SECONDS):
        for lock in locks:
            with contextlib.suppress(OSError):
                os.utime(lock)


def _wait_for(lock: Path) -> None:
    """Returns when the lock is gone; takes it away itself when it is stale."""
    said = False
    while (age := _age(lock)) is not None:
        if age > STALE_SECONDS:
            console.tell(f"{lock}: untouched for {age:.0f} s, so its builder is dead; taken over")
            with contextlib.suppress(OSError):
                aside = lock.with_name(f"{lock.name}.{os.getpid()}.stale")
                os.replace(lock, aside)
                if (_age(aside) or 0) <= STALE_SECONDS and not lock.exists():
                    os.replace(aside, lock)  # it was another's new lock already
                aside.unlink(missing_ok=True)
            continue
        if not said:
            console.tell(f"Waiting for the process that builds in {lock.parent}")
            said = True
        time.sleep(min(1.0, STALE_SECONDS))


def _age(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


# ----------------------------------------------------------------------------
# The compilers.


def missing_tools(cuda: bool = True) -> list[str]:
    """What a build needs and this machine lacks, each with what would be right."""
    missing = []
    compiler = (os.environ.get("CXX") or ("cl" if os.name == "nt" else "c++")).split()[0]
    if shutil.which(compiler) is None:
        missing.append(f"the C++ compiler {compiler} is missing (install g++, or set CXX)")
    if shutil.which("ninja", path=_search_path()) is None:
        missing.append("ninja is missing (pip install ninja)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append("Python.h is missing (install python3-dev)")
    if cuda:
        try:
            find_toolkit()
        except BuildError as error:
            missing.append(str(error))
        if torch.version.cuda is None:
            missing.append(f"torch {torch.__version__} was built without CUDA")
    return missing


def _search_path() -> str:
    """PATH, and where the packages of this Python put their programs: ninja lies there without an activated venv."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])


def find_toolkit() -> Path:
    """The CUDA toolkit: CUDA_HOME, CUDA_PATH, that of the nvcc on PATH, or /usr/local/cuda. Raises BuildError."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if given := os.environ.get(variable):
            if shutil.which("nvcc", path=str(Path(given, "bin"))) is None:
                raise BuildError(f"nvcc is missing: {variable} is {given}, which holds no bin/nvcc")
            return Path(given)
    if (nvcc := shutil.which("nvcc")) is not None:
        # It may be a link or a script, so it is asked where it lies.
        asked = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, cwd=CSRC, check=False)
        if found := re.search(r"^#\$ _HERE_=(.+)$", asked.stderr, re.MULTILINE):
            return Path(found[1].strip()).parent
        return Path(nvcc).resolve().parents[1]
    if shutil.which("nvcc", path="/usr/local/cuda/bin"):
        return Path("/usr/local/cuda")
    raise BuildError("nvcc is missing: neither on PATH nor in CUDA_HOME (install the CUDA toolkit, or set CUDA_HOME)")


def compile_with_ninja(build: Build) -> None:
    """Compiles with torch.utils.cpp_extension; the compilers' words are kept in build.log. Raises BuildError."""
    changes = {"PATH": _search_path()}
    if build.arch:
        changes["CUDA_HOME"] = str(find_toolkit())
        console.tell(f"Building CUDA kernels for {build.arch}, once, about a minute: {build.folder}")
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        from torch.utils import cpp_extension  # slow, and it looks for CUDA_HOME when it is imported

        if build.arch:
            cpp_extension.CUDA_HOME = changes["CUDA_HOME"]
        # A process that builds the same name again, in another folder, would get another name for the library.
        cpp_extension.JIT_EXTENSION_VERSIONER.entries.pop(build.name, None)
        cpp_extension.load(
            build.name,
            [str(CSRC / source) for source in build.sources],
            extra_cflags=["-O3" if build.arch else "-O1"],
            extra_cuda_cflags=["-O3", "-std=c++17", *gencode(build.arch)] if build.arch else None,
            extra_ldflags=[f"-Wl,-rpath,{changes['CUDA_HOME']}/lib64"] if build.arch and os.name != "nt" else None,
            build_directory=str(build.folder),
        )
    except Exception as error:
        log = build.folder / "build.log"
        log.write_text(f"{error}\n", encoding="utf-8")
        raise BuildError(f"{first_error(str(error))} (more in {log})") from error
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def gencode(arch: str) -> list[str]:
    """nvcc's options for architectures such as 8.6;9.0+PTX."""
    flags = []
    for item in arch.split(";"):
        number = item.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if item.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def first_error(text: str) -> str:
    """The first line of a compiler's or linker's output that tells an error; ninja's lines and the commands do not."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not re.match(r"\[\d+/\d+\]|FAILED:|ninja:|Error building extension", line)]
    told = [line for line in told if " -o " not in line]
    errors = [line for line in told if re.search(r"\b(error|fatal)\b|cannot find|undefined reference", line, re.I)]
    return next(iter([*errors, *told, *lines]), "the compiler said nothing")[:300]


# ----------------------------------------------------------------------------
# What was built.


def load(build: Build) -> ModuleType:
    """Imports the library of a finished build. Raises BuildError."""
    try:
        spec = importlib.util.spec_from_file_location(build.name, build.library)
        assert spec is not None and spec.loader is not None, build.library
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        raise BuildError(f"{build.library}: {' '.join(str(error).split())}") from error
    return module


@click.command(cls=Command)
@option(
    "--arch",
    metavar="LIST",
    help=f"GPU architectures. [default: TORCH_CUDA_ARCH_LIST, or those of this machine's GPUs, or {DEFAULT_ARCH}]",
)
def main(arch: str | None) -> None:
    """Build the CUDA kernels ahead of time, even where the last attempt failed."""
    name = "--arch" if arch else "TORCH_CUDA_ARCH_LIST"
    arch = arch or os.environ.get(name) or visible_arch() or DEFAULT_ARCH
    build = Build(CUDA_SOURCES, parse_arch(arch, name))
    began = time.perf_counter()
    try:
        ensure(build, again=True)
    except BuildError as error:
        raise UserError(f"CUDA kernels: {error}") from error
    seconds = time.perf_counter() - began
    value = {"arch": build.arch, "seconds": seconds, "library": str(build.library)}
    console.result(value, f"CUDA kernels for {build.arch}: built in {seconds:.0f} s, {build.library}")


if __name__ == "__main__":
    main()

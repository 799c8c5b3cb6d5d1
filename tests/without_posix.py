"""A program that takes away what Windows lacks, then runs one of our scripts: `without_posix.py train.py --data ...`.

With `import` in the script's place it imports every module of ours. Processes that it starts read this file first, too.
"""

import fcntl
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

# Other people's packages may have their reasons to ask what system this is: they are here before it changes.
for name in ("click", "PIL.Image", "psutil", "safetensors.torch", "scipy.linalg", "shutil", "tqdm"):
    importlib.import_module(name)
for name in ("distributed", "multiprocessing", "utils.data", "utils.tensorboard"):
    importlib.import_module(f"torch.{name}")

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios")
FUNCTIONS = ("fork", "getpgid", "getuid", "killpg", "mkfifo", "sched_getaffinity", "setsid", "statvfs", "uname")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # SIGKILL too, but without it Python here ends no process
_flags, _fsync = fcntl.fcntl, os.fsync


def _flush_what_is_written(descriptor: int) -> None:
    if _flags(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")
    _fsync(descriptor)


def take_away() -> None:
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it is an ImportError then
    for module, names in ((os, FUNCTIONS), (signal, SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.fsync = _flush_what_is_written  # type: ignore[assignment]
    sys.platform = "elsewhere"
    multiprocessing.set_start_method("spawn", force=True)
    multiprocessing.get_all_start_methods = lambda: ["spawn"]


def import_all() -> None:
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
        if package.name not in ("tests", "bench"):
            for path in sorted(package.rglob("*.py")):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.glob("*.py")):
        importlib.import_module(path.stem)


take_away()
sys.path.insert(0, str(ROOT))

if __name__ == "__main__":
    if sys.argv[1] == "import":
        import_all()
    else:
        sys.argv = [str(ROOT / sys.argv[1]), *sys.argv[2:]]
        runpy.run_path(sys.argv[0], run_name="__main__")

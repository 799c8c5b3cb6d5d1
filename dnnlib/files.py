"""Files that are whole or absent: atomic writes, and the digests that later stages check."""

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError

StrPath = str | os.PathLike[str]
LOCK = ".lock"  # of a folder in which somebody works
MOST_JSON = 1 << 30  # bytes that are read into memory
WEB_PAGE = "is a web page that a server sent instead of the file; fetch it again, by hand if it asks for a login"
STAND_INS = {  # how files begin that came in place of the right one, and what is to be said of them
    b"<!doctype": WEB_PAGE,
    b"<html": WEB_PAGE,
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; `git lfs pull` brings it",
}


@contextlib.contextmanager
def full_disk_named(path: StrPath) -> Iterator[None]:
    """Turns a full disk inside the block into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; what is finished stays, free some space and go on") from error
        raise


@contextlib.contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed over `path`.

    When the block raises, the temporary file is removed and `path` is as it was.
    Raises UserError where the disk is full or the place cannot be written to.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}."[:100], suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_named(target):
            yield temporary
            with open(temporary, "r+b") as file:  # Windows flushes only what may be written to
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def require_file(path: StrPath, where: str, wanted: str) -> None:
    """Raises UserError, starting with `where`, for what is no file that can be read, and for what came in place of one.

    wanted: what would be right.
    """
    place = Path(path)
    if not place.is_file():
        raise UserError(f"{where}: {'is a folder' if place.is_dir() else 'no such file'}; {wanted}")
    try:
        with open(place, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from error
    if not head:
        raise UserError(f"{where}: is empty; {wanted}")
    for start, words in STAND_INS.items():
        if head.lstrip().lower().startswith(start):
            raise UserError(f"{where}: {words}")


def check_place(path: StrPath, option: str) -> None:
    """Raises UserError where no file could be written at `path`: a folder, or below a file. Makes nothing."""
    place = Path(path)
    above = next(folder for folder in place.absolute().parents if folder.exists())
    if place.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{option}: {path}: cannot be written; the name of a file in a folder would be right")


def check_folder(path: StrPath, option: str) -> None:
    """Raises UserError where `path` can be no folder, because it or one above it is a file. Makes nothing."""
    place = Path(path).absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not there.is_dir():
        raise UserError(f"{option}: {path}: cannot be made a folder, because {there} is a file; name another")


@functools.cache
def _umask() -> int:
    """Of this process; to be asked for, it has to be changed, which threads must not do at the same time."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


class FolderLock:
    """Keeps a second program out of a folder while the first works in it, until `close` or the process's end.

    A record lock on a file `.lock` in it: helpers that the process forks do not hold it, and a kill leaves nothing
    behind. Where the system or the file system has no such locks, nobody is kept out.
    """

    def __init__(self) -> None:
        self._file: Any = None

    def take(self, folder: StrPath, option: str) -> None:
        """Raises UserError that names `option` where another process holds the folder."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            self._file = open(Path(folder) / LOCK, "ab")  # noqa: SIM115
        except OSError:
            return  # whoever writes into the folder next says why that cannot be
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(f"{option}: {folder}: another process is at work in it; end it first") from error

    def close(self) -> None:
        """Lets others in. Harmless where nothing is held."""
        if self._file is not None:
            self._file.close()
            self._file = None


def make_folder(path: StrPath, option: str) -> None:
    """Makes a folder and those above it. Raises UserError that names `option` where it cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option}: {path}: cannot be made a folder ({error.strerror})") from error


def claim_folder(folder: StrPath, marker: str, parameters: dict[str, Any], what: str, option: str = "--dest") -> None:
    """Marks a new or empty folder as that of the work described by `parameters`; one marked so already is gone on with.

    Args:
        marker: name of the JSON file in it that holds the parameters.
        what: what such a folder holds, for messages.

    Raises:
        UserError: the folder holds anything else, or such work with other parameters.
    """
    check_folder(folder, option)
    path = Path(folder)
    if (path / marker).is_file():
        theirs = read_json(path / marker, option)
        if theirs != parameters:
            known = theirs if isinstance(theirs, dict) else {}
            other = [key for key in parameters if known.get(key) != parameters[key]]
            raise UserError(
                f"{option}: {path}: holds {what} with another {', '.join(other) or 'content'}; "
                "name another folder or repeat its options"
            )
    elif path.exists() and any(path.iterdir()):
        raise UserError(
            f"{option}: {path}: is not empty and holds no {what.split(' ', 1)[1]}; name a new or empty folder"
        )
    else:
        atomic_write_json(path / marker, parameters)


def atomic_write_bytes(path: StrPath, data: bytes | memoryview) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_json(path: StrPath, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. NaN and infinity are refused (ValueError)."""
    atomic_write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def append_line(path: StrPath, value: dict[str, Any]) -> None:
    """`append_lines` of one."""
    append_lines(path, [value])


def append_lines(path: StrPath, values: Iterable[dict[str, Any]]) -> None:
    """Appends JSON lines to `path` in a single write, so that a reader never sees some of them but at a crash.

    NaN and infinity, which JSON has not, become null.
    """
    lines = "".join(json.dumps(finite(value), allow_nan=False) + "\n" for value in values).encode()
    with full_disk_named(path), open(path, "ab") as file:
        file.write(lines)


def finite(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: null stands there."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_lines(path: StrPath) -> list[dict[str, Any]]:
    """The JSON lines of `path`; a last line that a crash cut short is left out. Raises UserError where one is none."""
    read = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], 1):
        try:
            read += [json.loads(line)] if line else []
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: line {number} is not JSON ({error}); remove that line or name another file"
            ) from error
    return read


def keep_lines(path: StrPath, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drops the JSON lines of `path` that are not to be kept; a file that is not there stays away."""
    if Path(path).exists():
        kept = [line for line in read_lines(path) if keep(line)]
        atomic_write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def read_json(path: StrPath, option: str = "file") -> Any:
    """JSON from `path`. Raises UserError that names `option` where it is missing or not JSON, or no file: a pipe may
    never say anything, a device never end."""
    try:
        status = Path(path).stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)) or status.st_size > MOST_JSON:
            raise UserError(f"{option}: {path}: is not a file of JSON, of {MOST_JSON >> 30} GiB at most")
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{option}: {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        require_file(path, f"{option}: {path}", "a file of JSON is needed")
        reason = "no text" if isinstance(error, UnicodeDecodeError) else error
        raise UserError(f"{option}: {path}: not JSON ({reason})") from error


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: StrPath) -> str:
    """SHA-256 of the file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

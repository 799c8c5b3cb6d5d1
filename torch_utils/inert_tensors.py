"""Tensors out of what inert_pickle.read gives, by arithmetic on bytes alone, and state dicts that torch.save wrote.

Outside torch.save a tensor pickles itself as a call of torch._utils._rebuild_tensor_v2 on a storage, and a storage as
torch.storage._load_from_bytes of its own torch.save: five pickles and the raw numbers behind them (what every release
writes there), or a zip. A storage that was on a GPU differs in the names alone.
"""

import io
import math
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from dnnlib.errors import UserError
from torch_utils.inert_pickle import PERSISTENT, Global, Record, read

LOAD_STORAGE = "torch.storage._load_from_bytes"
REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
REBUILD_TENSORS = (REBUILD_TENSOR, "torch._utils._rebuild_tensor")  # the second in files of before 2018
ORDERED = "collections.OrderedDict"
REBUILD_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
TENSOR_NAMES = {LOAD_STORAGE, REBUILD_TENSOR, *REBUILD_PARAMETERS, "torch.device", "torch.Size"} | {
    f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool")
}

_DTYPES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    "Bool": torch.bool,
}
_STORAGES = {f"{module}.{name}Storage": dtype for name, dtype in _DTYPES.items() for module in ("torch", "torch.cuda")}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMENSIONS = 8
LARGEST = 1 << 40  # size, stride or place in a storage; a stride that is never taken may be any number


class TensorReader:
    """Turns records into tensors on the CPU, in the dtype they were stored in.

    where: starts every error. budget: bytes that all tensors together may have, so that a small file stays small;
    one that is asked for again counts again, because whoever asks may copy it.
    """

    def __init__(self, where: str, budget: int) -> None:
        self.where, self.budget = where, budget
        # What was read already, by the id of what it was read from, which is kept with it.
        self._tensors: dict[int, tuple[Record, torch.Tensor]] = {}
        self._storages: dict[int, tuple[bytes, torch.Tensor]] = {}

    def tensor(self, record: Any) -> torch.Tensor:
        """The tensor or parameter of a record. Raises UserError for anything else, and for sizes that do not fit."""
        if isinstance(record, Record) and record.name in REBUILD_PARAMETERS and record.args:
            record = record.args[0]
        if not isinstance(record, Record) or record.name != REBUILD_TENSOR or len(record.args) < 4:
            raise UserError(f"{self.where}: holds something that is not a tensor where one must be")
        if id(record) not in self._tensors:
            storage, offset, size, stride = record.args[:4]
            flat = self._storage(storage)
            if not _fits(offset, size, stride, len(flat)):
                raise UserError(f"{self.where}: a tensor reaches beyond its storage of {len(flat)} numbers; refused")
            self._tensors[id(record)] = (record, torch.as_strided(flat, size, stride, offset))
        tensor = self._tensors[id(record)][1]
        self.budget -= tensor.numel() * tensor.element_size()
        if self.budget < 0:
            raise UserError(f"{self.where}: its tensors are larger than the file; refused")
        return tensor

    def _storage(self, record: Any) -> torch.Tensor:
        if not isinstance(record, Record) or record.name != LOAD_STORAGE or len(record.args) != 1:
            raise UserError(f"{self.where}: a tensor without a storage; refused")
        raw = record.args[0]
        if not isinstance(raw, bytes):
            raise UserError(f"{self.where}: a storage that is not bytes; refused")
        if id(raw) not in self._storages:
            self._storages[id(raw)] = (raw, _read_storage(raw, self.where))
        return self._storages[id(raw)][1]


def _fits(offset: Any, size: Any, stride: Any, numbers: int) -> bool:
    """Whether a strided view lies within a storage of so many numbers, and has no more than those."""
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= MAX_DIMENSIONS):
        return False
    if not all(type(value) is int and 0 <= value < LARGEST for value in (offset, *size, *stride)):
        return False
    if 0 in size:
        return True
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    return last < numbers and math.prod(size) <= numbers


def _is_storage(name: str) -> bool:
    return name in _STORAGES


def _read_storage(raw: bytes, where: str) -> torch.Tensor:
    """torch.save's bytes of one storage -> its numbers [N]."""
    reference, storages = _read_saved(raw, where, _is_storage, lambda content: [content])
    return storages[reference.args[2]]


# ----------------------------------------------------------------------------
# State dicts.


def read_state(raw: bytes, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a state dict by name, from all bytes of a file of torch.save, new or as old as Python 2.

    They are views of no more memory than the file has. Raises UserError, starting with `where`, for anything else.
    """
    content, storages = _read_saved(raw, where, _of_a_state, lambda found: [args[0] for args in _entries(found, where)])
    state = {}
    for name, (reference, offset, size, stride, *_) in zip(_names(content), _entries(content, where), strict=True):
        flat = storages[reference.args[2]]
        if not _fits(offset, size, stride, len(flat)):
            raise UserError(f"{where}: {name} reaches beyond its storage of {len(flat)} numbers; refused")
        state[name] = torch.as_strided(flat, size, stride, offset)
    return state


def _of_a_state(name: str) -> bool:
    return _is_storage(name) or name in (*REBUILD_TENSORS, *REBUILD_PARAMETERS, ORDERED)


def _items(content: Any) -> list[Any]:
    """[name, value] of a dict; Python 2 hands an ordered one its items when it is made."""
    if isinstance(content, dict):
        return list(content.items())
    listed = isinstance(content, Record) and content.name == ORDERED and len(content.args) == 1
    return content.args[0] if listed and isinstance(content.args[0], list) else []


def _names(content: Any) -> list[str]:
    return [name for name, _ in _items(content)]


def _entries(content: Any, where: str) -> list[tuple]:
    """(storage, offset, size, stride, ...) of each tensor. Raises UserError where it is not a dict of tensors."""
    found = []
    for item in _items(content):
        name, record = item if isinstance(item, (list, tuple)) and len(item) == 2 else (None, None)
        if isinstance(record, Record) and record.name in REBUILD_PARAMETERS and record.args:
            record = record.args[0]
        if not (isinstance(record, Record) and record.name in REBUILD_TENSORS and len(record.args) >= 4):
            break
        if not (isinstance(name, str) and name.isprintable()):
            break
        found.append(record.args)
    if not found or len(found) != len(_items(content)):
        raise UserError(f"{where}: not a state dict (a mapping of names to tensors)")
    return found


# ----------------------------------------------------------------------------
# What torch.save writes.


def _read_saved(
    raw: bytes, where: str, allowed: Callable[[str], bool], references: Callable[[Any], list[Any]]
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The object, with records in it, and the numbers [N] of its storages by key.

    references: of the object, to all storages in it.
    """
    unreadable = UserError(f"{where}: holds a storage that cannot be read; fetch or copy the file again")
    stream = io.BytesIO(raw)
    if raw[:2] == b"PK":
        try:
            with zipfile.ZipFile(stream) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                content = read(io.BytesIO(_stored(archive, name)), where, allowed, persistent=True)
                wanted = _described(references(content), len(raw), unreadable)
                folder = f"{name.removesuffix('/data.pkl')}/data"
                data = {
                    key: _stored(archive, f"{folder}/{key}", dtype.itemsize * count)
                    for key, (dtype, count) in wanted.items()
                }
        except (zipfile.BadZipFile, LookupError, StopIteration, ValueError, RuntimeError, OSError, EOFError) as error:
            raise unreadable from error
    else:
        magic, protocol, system = (read(stream, where, allowed) for _ in range(3))
        if (magic, protocol) != (_MAGIC, _PROTOCOL) or not isinstance(system, dict) or not system.get("little_endian"):
            raise unreadable
        content = read(stream, where, allowed, persistent=True)
        wanted, data = _described(references(content), len(raw), unreadable), {}
        keys = read(stream, where, allowed)
        if not isinstance(keys, list) or not all(type(key) is str for key in keys) or {*keys} != wanted.keys():
            raise unreadable
        for key in keys:
            dtype, count = wanted[key]
            if int.from_bytes(stream.read(8), "little") != count:
                raise unreadable
            data[key] = stream.read(count * dtype.itemsize)
    return content, {key: _numbers(data.pop(key, b""), *kind, where) for key, kind in wanted.items()}


def _numbers(data: bytes, dtype: torch.dtype, count: int, where: str) -> torch.Tensor:
    if len(data) != count * dtype.itemsize:
        raise UserError(f"{where}: a storage of {count} numbers has {len(data)} bytes; truncated, or refused")
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty([0], dtype=dtype)


def _stored(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytes:
    """A member that is not compressed, as torch writes them, and so no larger than the file; of so many bytes, for
    members may lie within one another, and all of them together be larger."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or size not in (None, entry.file_size):
        raise zipfile.BadZipFile("compressed, or of another size")
    return archive.read(entry)


def _described(references: list[Any], most: int, unreadable: UserError) -> dict[str, tuple[torch.dtype, int]]:
    """('storage', type, key, place, numbers[, no view]) of each -> dtype and numbers by key, `most` bytes in all."""
    found: dict[str, tuple[torch.dtype, int]] = {}
    for reference in references:
        if not isinstance(reference, Record) or reference.name != PERSISTENT or len(reference.args) not in (5, 6):
            raise unreadable
        word, storage_type, key, _, count, *view = reference.args
        sound = isinstance(storage_type, Global) and _is_storage(storage_type.name) and isinstance(key, str)
        if not sound or word != "storage" or view not in ([], [None]) or type(count) is not int or count < 0:
            raise unreadable
        if found.setdefault(key, (_STORAGES[storage_type.name], count)) != (_STORAGES[storage_type.name], count):
            raise unreadable
    if sum(dtype.itemsize * count for dtype, count in found.values()) > most:
        raise unreadable
    return found

"""State dicts of torch.save, of each format, against torch.load; and hostile ones. (Storages within pickles: see
tests/training/test_import_pkl.py.)"""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch

from dnnlib.errors import UserError
from torch_utils.inert_tensors import read_state

MAGIC = 0x1950A86A20F9469CFC6C


def saved(content: Any, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_as_torch_loads_them(zipped: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = network.state_dict()
    assert hasattr(state, "_metadata")  # which is pickled as a state of the dict
    state["shared"] = state["0.weight"].transpose(0, 1)[1:]
    state["half"], state["none"] = torch.ones(3, dtype=torch.float16), torch.empty(0, 5)
    data = saved(state, zipped)
    found, wanted = read_state(data, "x"), torch.load(io.BytesIO(data), weights_only=True)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype and torch.equal(found[name], values), name
    parameters = read_state(saved(dict(network.named_parameters()), zipped), "x")
    assert torch.equal(parameters["0.bias"], state["0.bias"])


class Storage:
    """What pickles as a storage's persistent id."""

    def __init__(self, count: int, key: str = "7") -> None:
        self.identity = ("storage", torch.FloatStorage, key, "cuda:0", count, None)


class OldPickler(pickle._Pickler):  # the one in Python, whose OrderedDict can be told to reduce as Python 2's did
    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, Storage) else None


class Made:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple:
        return self.made


def old_file(content: Any, keys: Any, *storages: bytes) -> bytes:
    stream = io.BytesIO()
    for part in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(part, stream, protocol=2)
    OldPickler(stream, protocol=2).dump(content)
    pickle.dump(keys, stream, protocol=2)
    return stream.getvalue() + b"".join(storages)


def tensor(count: int = 4, size: Any = (2, 2), stride: Any = (2, 1), key: str = "7") -> Made:
    return Made(torch._utils._rebuild_tensor, Storage(count, key), 0, size, stride)


NUMBERS = struct.pack("<q4f", 4, 1, 2, 3, 4)


def test_a_file_of_python_2_and_of_the_first_torch() -> None:
    """An ordered dict that is made of a list, tensors by the first version's function, on a GPU: VGG16's is like it."""
    content = Made(OrderedDict, [["a.weight", tensor()], ["b", tensor(size=(4,), stride=(1,))]])
    data = old_file(content, ["7"], NUMBERS)
    found = read_state(data, "x")
    assert {name: values.tolist() for name, values in found.items()} == {
        "a.weight": [[1, 2], [3, 4]],
        "b": [1, 2, 3, 4],
    }
    wanted = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    assert {name: values.tolist() for name, values in wanted.items()} == {
        name: values.tolist() for name, values in found.items()
    }


def huge_zip() -> bytes:
    """A member that unpacks to what the file has not."""
    source, stream = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(1 << 16)}))), io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    return stream.getvalue()


def more_than_it_says() -> bytes:
    """A member with more bytes than numbers are told. Members may lie within one another: many such hold much."""
    source, stream = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(4)}))), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name) * (9 if name.endswith("/data/0") else 1))
    return stream.getvalue()


HOSTILE = {
    "a call": (saved({"a": torch.zeros(2), "b": Made(os.system, "touch ran")}), r"holds posix\.system"),
    "a call, old": (saved({"b": Made(os.system, "touch ran")}, False), r"holds posix\.system"),
    "much memory for nothing": (saved({"a": Made(bytearray, 1 << 40)}), r"holds __builtin__\.bytearray"),
    "compressed": (huge_zip(), "cannot be read"),
    "more than it says": (more_than_it_says(), "a storage that cannot be read"),
    "larger than the file": (old_file({"a": tensor(1 << 40)}, ["7"], NUMBERS), "cannot be read"),
    "a view without memory": (old_file({"a": tensor(4, (1 << 40,), (0,))}, ["7"], NUMBERS), "a reaches beyond"),
    "a stride that is never taken": (old_file({"a": tensor(4, (1,), (1 << 70,))}, ["7"], NUMBERS), "a reaches beyond"),
    "nothing, and much of it": (old_file({"a": tensor(4, (0, 1 << 70), (1, 1))}, ["7"], NUMBERS), "a reaches beyond"),
    "beyond its storage": (old_file({"a": tensor(4, (5,), (1,))}, ["7"], NUMBERS), "a reaches beyond its storage of 4"),
    "two lengths of one": (old_file({"a": tensor(4), "b": tensor(3)}, ["7"], NUMBERS), "cannot be read"),
    "another storage": (old_file({"a": tensor(4)}, ["8"], NUMBERS), "cannot be read"),
    "keys that are none": (old_file({"a": tensor(4)}, [{}], NUMBERS), "cannot be read"),
    "no keys": (old_file({"a": tensor(4)}, None, NUMBERS), "cannot be read"),
    "another count": (old_file({"a": tensor(4)}, ["7"], struct.pack("<q4f", 3, 1, 2, 3, 4)), "cannot be read"),
    "truncated": (old_file({"a": tensor(4)}, ["7"], NUMBERS[:-1]), "has 15 bytes; truncated"),
    "truncated zip": (saved({"a": torch.zeros(9)})[:-9], "cannot be read"),
    "empty": (b"", "truncated or not a pickle"),
    "text": (b"hello", "truncated or not a pickle"),
    "a tensor": (saved(torch.zeros(2)), "not a state dict"),
    "a number": (saved({"a": 1}), "not a state dict"),
    "nothing": (saved({}), "not a state dict"),
    "names for a terminal": (saved({"\x1b[2J": torch.zeros(2)}), "not a state dict"),
    "numbers for names": (saved({1: torch.zeros(2)}), "not a state dict"),
    "items that are none": (old_file(Made(OrderedDict, [[1]]), []), "truncated|not a state dict"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_line(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, words = HOSTILE[name]
    with pytest.raises(UserError, match=rf"^--x: file: .*{words}"):
        read_state(data, "--x: file")
    assert not list(tmp_path.iterdir())


def test_every_truncation_is_refused() -> None:
    for zipped in (True, False):
        whole = saved({"a": torch.arange(6.0), "b": torch.zeros(3)}, zipped)
        for length in range(0, len(whole) - 1, 29):
            with pytest.raises(UserError, match="^x: "):
                read_state(whole[:length], "x")

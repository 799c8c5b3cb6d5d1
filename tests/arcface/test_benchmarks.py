"""Benchmarks as people have them: .bin files of every protocol and of Python 2, hostile ones, lists of pairs."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcface.benchmarks import find_benchmarks, open_benchmark, write_bin
from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png


def png(value: int, channels: int = 3) -> bytes:
    return encode_png(np.full((4, 4, channels), value, dtype=np.uint8))


PICTURES = [png(value) for value in (1, 2, 3, 1, 4, 5)]
SAME = [True, False, True]


def save(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "lfw.bin"
    path.write_bytes(data)
    return path


def check(path: Path) -> None:
    benchmark = open_benchmark(path)
    assert (benchmark.name, benchmark.spectra, benchmark.folds) == ("lfw", "vis-vis", None)
    assert benchmark.same.tolist() == SAME and len(benchmark.pictures) == 5  # one picture is there twice
    values = [benchmark.pictures.decode(index).max() for index in range(5)]
    sides = [[values[index] for index in side] for side in (benchmark.first, benchmark.second)]
    assert sides == [[1, 3, 4], [2, 1, 5]]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("truths", [list, np.array, lambda s: [int(x) for x in s], lambda s: [np.bool_(x) for x in s]])
@pytest.mark.parametrize("picture", [bytes, lambda data: np.frombuffer(data, np.uint8)])
@pytest.mark.parametrize("pair", [tuple, list])
def test_all_that_python_3_writes(tmp_path: Path, protocol: int, truths: Any, picture: Any, pair: Any) -> None:
    check(save(tmp_path, pickle.dumps(pair(([picture(p) for p in PICTURES], truths(SAME))), protocol=protocol)))


def test_own_copies_of_arrays(tmp_path: Path) -> None:
    """Writable arrays, which protocol 5 stores as a bytearray."""
    arrays = [np.frombuffer(p, np.uint8).copy() for p in PICTURES]
    check(save(tmp_path, pickle.dumps((arrays, SAME), protocol=5)))


def test_python_2_with_protocol_2(tmp_path: Path) -> None:
    """Its bytes are the instructions U (short) and T (4 bytes of length)."""
    texts = b"".join(
        (b"U" + bytes([len(p)]) if len(p) < 256 else b"T" + struct.pack("<I", len(p))) + p for p in PICTURES
    )
    data = b"\x80\x02](" + texts + b"e](\x88\x89\x88e\x86."
    assert pickle.loads(data, encoding="bytes") == (PICTURES, SAME)  # as InsightFace's readers do
    check(save(tmp_path, data))
    long = b"\x80\x02](" + b"".join(b"T" + struct.pack("<I", len(p)) + p for p in PICTURES) + b"e](\x88\x89\x88e\x86."
    check(save(tmp_path, long))


def test_ours_is_read_by_others(tmp_path: Path) -> None:
    write_bin(tmp_path / "lfw.bin", list(zip(PICTURES[::2], PICTURES[1::2], strict=True)), SAME)
    with open(tmp_path / "lfw.bin", "rb") as file:
        assert pickle.load(file, encoding="bytes") == (PICTURES, SAME)
    check(tmp_path / "lfw.bin")


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def bomb() -> bytes:
    """One text of a megabyte, made into bytes ten thousand times."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0"
    once = b"c_codecs\nencode\nq\1" + text + b"X\6\0\0\0latin1q\2\x86R"
    return b"\x80\x02](" + once + b"h\1h\0h\2\x86R" * 9999 + b"e](" + b"\x88" * 5000 + b"e\x86."


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            pickle.dumps(([Runs(os.system, "touch hit")], SAME), 4),
            "holds posix.system, which is not part of a benchmark",
        ),
        (pickle.dumps(([Runs(eval, "1")], SAME), 0), "__builtin__.eval, which is not part"),
        (pickle.dumps(([os.system], SAME), 2), "posix.system"),
        (pickle.dumps((PICTURES, SAME))[:-60], "truncated or not a pickle"),
        (b"", "truncated or not a pickle"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x", "truncated or not a pickle"),
        (b"(" * 100_000 + b".", "truncated or not a pickle"),
        (b"]" + b"]\x94a" * 3 + b"h\0a.", "not a list of pictures"),
        (pickle.dumps([PICTURES]), "not a list of pictures"),
        (pickle.dumps((PICTURES[:5], SAME)), "two pictures a pair"),
        (pickle.dumps(([1] * 6, SAME)), "int where a picture must be"),
        (pickle.dumps((["\u20ac"] * 6, SAME)), "not a list of pictures"),
        (pickle.dumps((PICTURES, [2, 0, 1])), "neither true nor false"),
        (pickle.dumps(([np.arange(9.0)] * 6, SAME)), "not of bytes"),
        (pickle.dumps((PICTURES, [True] * 3)), "all 3 pairs are of one person"),
        (pickle.dumps(([], [])), "two pictures a pair"),
        (bomb(), "more bytes than the file has"),
    ],
)
def test_hostile_and_damaged_files_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, data)
    with pytest.raises(UserError) as caught:
        open_benchmark(path, "--benchmarks")
    assert str(caught.value).startswith(f"--benchmarks: {path}: ") and words in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["lfw.bin"]


# ----------------------------------------------------------------------------
# Folders.


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for number, name in enumerate(["Ann_B/Ann_B_0001.jpg", "Ann_B/Ann_B_0002.png", "Cy/Cy_0010.jpg", "VIS/a.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(number))
    (tmp_path / "NIR").mkdir()
    (tmp_path / "NIR/a.png").write_bytes(png(9, 1))
    return tmp_path


def test_lfw_pairs(faces: Path) -> None:
    lines = ["2\t1", "Ann_B\t1\t2", "Ann_B\t1\tCy\t10", "Ann_B\t2\t1", "Cy\t10\tAnn_B\t2"]
    (faces / "pairs.txt").write_text("\n".join(lines) + "\n")
    (benchmark,) = find_benchmarks(faces)
    assert benchmark.same.tolist() == [True, False, True, False] and benchmark.spectra == "vis-vis"
    assert benchmark.folds is not None and benchmark.folds.tolist() == [0, 0, 1, 1]
    assert benchmark.pictures.names == ["Ann_B/Ann_B_0001.jpg", "Ann_B/Ann_B_0002.png", "Cy/Cy_0010.jpg"]
    assert benchmark.second.tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize("separator", ["\t", ",", ", ", "  "])
def test_plain_pairs_across_the_spectra(faces: Path, separator: str) -> None:
    rows = [("VIS/a.png", "NIR/a.png", "1"), ("./Cy/Cy_0010.jpg", "NIR/a.png", "0")]
    text = "\n".join(separator.join(row) for row in [("first", "second", "same"), *rows])
    (faces / "my-pairs.csv").write_text(text)
    benchmark = open_benchmark(faces / "my-pairs.csv")
    assert (benchmark.name, benchmark.spectra, benchmark.same.tolist()) == ("my-pairs", "vis-nir", [True, False])
    assert [benchmark.pictures.decode(i).shape[2] for i in range(3)] == [3, 1, 3]
    assert benchmark.folds is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("VIS/a.png NIR/b.png 1\n", "line 1: NIR/b.png: no such picture"),
        ("VIS/a.png NIR/a.png 1\nVIS/a.png NIR/a.png 2\n", "line 2: two pictures and 1"),
        ("VIS/a.png ../x.png 1\n", "line 1: ../x.png: leads out of the folder"),
        ("/etc/passwd NIR/a.png 1\n", "line 1: /etc/passwd: leads out"),
        ("10\t300\nAnn_B\t1\t2\n", "1 pairs, but its first line says 10 folds of 300"),
        ("1\nAnn_B\t1\t2\nAnn_B\t1\tDora\t7\n", "line 3: Dora/Dora_0007.jpg: no such picture"),
        ("1\nAnn_B\t1\t2\nAnn_B\tx\tCy\t10\n", "line 3: `name n m`"),
        ("VIS/a.png NIR/a.png 1\n", "all 1 pairs are of one person"),
        ("", "holds no pairs"),
    ],
)
def test_a_wrong_list_names_the_line(faces: Path, text: str, words: str) -> None:
    (faces / "pairs.txt").write_text(text)
    with pytest.raises(UserError, match="^--benchmarks: ") as caught:
        find_benchmarks(faces)
    assert words in str(caught.value)


def test_no_benchmark_and_no_text(faces: Path) -> None:
    with pytest.raises(UserError, match="no benchmark there"):
        find_benchmarks(faces)
    (faces / "pairs.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not a text file"):
        find_benchmarks(faces / "pairs.txt")

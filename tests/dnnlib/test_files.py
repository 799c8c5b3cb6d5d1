"""Files are whole or absent."""

import errno
import os
from pathlib import Path

import pytest

from dnnlib import files
from dnnlib.errors import UserError
from dnnlib.files import (
    MOST_JSON,
    append_line,
    append_lines,
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    check_folder,
    check_place,
    read_json,
    read_lines,
    sha256_file,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    atomic_write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the disk is full"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    append_line(path, {"a": 1})
    append_lines(path, [{"a": 2}, {"a": 2.5}])
    with open(path, "ab") as file:
        file.write(b'{"a": 3')
    assert read_lines(path) == [{"a": 1}, {"a": 2}, {"a": 2.5}]


def test_lines_are_json_where_numbers_are_none(tmp_path: Path) -> None:
    append_line(tmp_path / "a", {"x": float("nan"), "y": {"z": [float("inf"), 1.5]}})
    assert (tmp_path / "a").read_text() == '{"x": null, "y": {"z": [null, 1.5]}}\n'


def test_json_refuses_nan_and_names_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        atomic_write_json(tmp_path / "a.json", {"x": float("nan")})
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match=r"--x: .*b\.json: not JSON"):
        read_json(tmp_path / "b.json", "--x")
    with pytest.raises(UserError, match=r"c\.json: No such file"):
        read_json(tmp_path / "c.json", "--x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_json_is_not_waited_for_at_a_pipe_nor_read_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(MOST_JSON + 1)  # holes take no disk
    for path in (tmp_path / "pipe.json", tmp_path / "large.json", Path("/dev/zero")):
        with pytest.raises(UserError, match=f"^--x: {path}: is not a file of JSON"):
            read_json(path, "--x")


def test_sha256_of_a_known_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_place_where_no_file_can_be_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check_place(tmp_path / "new/deeper/out.bin", "--out")
    check_place(tmp_path / "file", "--out")  # is replaced, where that is wanted
    for place in (tmp_path, tmp_path / "file/out.bin"):
        with pytest.raises(UserError, match="--out: .*: cannot be written"):
            check_place(place, "--out")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "new/deeper"):
        check_folder(place, "--outdir")
    for place in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(UserError, match="--outdir: .*: cannot be made a folder, because .*file is a file"):
            check_folder(place, "--outdir")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file; a model is needed"),
        (b"", "is empty; a model is needed"),
        (b"\n<!DOCTYPE html><html><title>Quota exceeded</title>", "is a web page that a server sent instead"),
        (b"<HTML>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "is a pointer of Git LFS"),
    ],
)
def test_what_came_in_place_of_a_file_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "model.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        files.require_file(path, f"--model: {path}", "a model is needed")
    assert str(refused.value).startswith(f"--model: {path}: {words}")


def test_a_file_and_no_folder_is_required(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"\x80\x02")
    files.require_file(tmp_path / "model.pth", "--model", "a model is needed")
    with pytest.raises(UserError, match="--model: is a folder; a model is needed"):
        files.require_file(tmp_path, "--model", "a model is needed")


def test_json_that_is_none_says_what_it_is(tmp_path: Path) -> None:
    for content, words in ((b"<html>", "is a web page"), (b"\xff\xfe", r"not JSON \(no text\)"), (b"", "is empty")):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(UserError, match=f"--a: .*a.json: {words}"):
            files.read_json(tmp_path / "a.json", "--a")

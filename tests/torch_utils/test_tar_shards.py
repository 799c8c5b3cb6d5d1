"""WebDataset shards: what tarfile and the system's tar write is read, and what no shard may hold is refused."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png
from torch_utils.picture_source import open_pictures
from torch_utils.tar_shards import TarPictures, add_member, tar_members


def png(value: int, channels: int = 3) -> bytes:
    return encode_png(np.full((4, 4, channels), value, dtype=np.uint8))


def write(path: Path, members: dict[str, bytes], **options) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members.items():
            add_member(archive, name, data)
    return path


def pair(value: int, label: bytes) -> dict[str, bytes]:
    return {".vis.png": png(value), ".nir.png": png(value + 100, 1), ".cls": label}


def sample(key: str, parts: dict[str, bytes]) -> dict[str, bytes]:
    return {key + suffix: data for suffix, data in parts.items()}


def test_pairs_in_two_shards(tmp_path: Path) -> None:
    write(tmp_path / "x-000001.tar", sample("b_0", pair(2, b"1")))
    write(tmp_path / "x-000000.tar", {**sample("a_0", pair(0, b"0")), **sample("a_1", pair(1, b"0\n"))})
    for spectrum, channels, more in (("vis", 3, 0), ("nir", 1, 100)):
        source = open_pictures(tmp_path, spectrum)
        assert (source.names, source.identities) == (["a_0", "a_1", "b_0"], ["0", "0", "1"])
        for index in (2, 0, 1):
            assert source.decode(index).shape == (4, 4, channels) and source.decode(index).max() == index + more
    assert open_pictures(tmp_path / "x-000001.tar", "vis").names == ["b_0"]


def test_what_others_write(tmp_path: Path) -> None:
    """One spectrum without its name, folders, upper case, identities in .json, other files beside."""
    members = {
        "train/n1.PNG": png(1),
        "train/n1.cls": b"7",
        "n2.jpg": png(2),
        "n2.json": json.dumps({"identity": "Ann"}).encode(),
        "notes.txt": b"hello",
        "README": b"hello",
        ".hidden.png": b"",
    }
    source = TarPictures(write(tmp_path / "a.tar", members), "nir")
    assert (source.names, source.identities) == (["train/n1", "n2"], ["7", "Ann"])
    assert source.decode(0).shape == (4, 4, 1) and source.read(1) == png(2)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_times_of_every_format(tmp_path: Path, form: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name, data in (("d" * 90 + "/" + "ü" * 40 + ".png", png(3)), ("d" * 90 + "/" + "ü" * 40 + ".cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
            archive.addfile(info, io.BytesIO(data))
        archive.addfile(_special(tarfile.DIRTYPE, "folder"))
    with open(tmp_path / "a.tar", "rb") as file, tarfile.open(tmp_path / "a.tar") as oracle:
        found = list(tar_members(file, (tmp_path / "a.tar").stat().st_size, "a.tar"))
        assert found == [(i.name, i.offset_data, i.size) for i in oracle.getmembers() if i.isreg()]
    assert TarPictures(tmp_path / "a.tar", "vis").decode(0).max() == 3


def test_names_that_lead_out_lead_nowhere(tmp_path: Path) -> None:
    members = {"../../up.png": png(1), "../../up.cls": b"0", "/etc/x.png": png(2), "/etc/x.cls": b"1"}
    source = TarPictures(write(tmp_path / "a.tar", members), "vis")
    assert source.names == ["../../up", "/etc/x"] and source.decode(1).max() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_source_goes_to_a_worker_and_its_handle_stays(tmp_path: Path) -> None:
    source = TarPictures(write(tmp_path / "a.tar", sample("a_0", pair(5, b"0"))), "vis")
    source.decode(0)
    again = pickle.loads(pickle.dumps(source))
    assert again._handle is None and again.decode(0).max() == 5


def _special(kind: bytes, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def _tar(*infos: tarfile.TarInfo, data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return buffer.getvalue()


def _header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo("a.png")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


SOUND = _tar(*[tarfile.TarInfo("a.cls")])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_tar(_special(tarfile.SYMTYPE, "a.png")), "a.png is a link or a device"),
        (_tar(_special(tarfile.LNKTYPE, "a.png")), "a.png is a link or a device"),
        (_tar(_special(tarfile.CHRTYPE, "a.png")), "a.png is a link or a device"),
        (b"\x1f\x8b" + bytes(600), "compressed with gzip"),
        (b"x" * 600, "byte 0 is no header"),
        (b"", "no end mark"),
        (SOUND[:512], "no end mark"),
        (_header(1 << 40) + bytes(1024), "a.png reaches beyond"),
        (_header(-512) + bytes(1024), "a.png reaches beyond"),
        (_header(3 << 20, tarfile.XHDTYPE) + bytes(4 << 20), "a header of 3 MiB"),
        (_header(20, tarfile.XHDTYPE) + b"99 path=x\n".ljust(512, b"\0") + SOUND, "a header that cannot be read"),
        (_header(20, tarfile.XHDTYPE) + b"0 path=x\n".ljust(512, b"\0") + SOUND, "a header that cannot be read"),
        (_header(11, tarfile.XHDTYPE) + b"11 size=-9\n".ljust(512, b"\0") + SOUND, "reaches beyond"),
        (_header(11, tarfile.XHDTYPE) + b"11 size=qq\n".ljust(512, b"\0") + SOUND, "is no header"),
        (_header(22, tarfile.XHDTYPE) + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + SOUND, "sparse file"),
        (_header(0, tarfile.GNUTYPE_SPARSE) + bytes(1024), "sparse file"),
        (SOUND, "no VIS pictures"),
    ],
)
def test_what_is_no_shard_is_refused_in_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        TarPictures(path, "vis", "--real")
    assert str(caught.value).startswith(f"--real: {path}") and words in str(caught.value)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.png": b""}, "a: has neither .cls"),
        ({"a.png": b"", "a.cls": b"seven"}, "a.cls: holds no class number"),
        ({"a.png": b"", "a.cls": bytes(2 << 20)}, "a.cls: 2097152 bytes"),
        ({"a.png": b"", "a.json": b"[" * 100_000}, "a.json: holds no identity"),
        ({"a.png": b"", "a.json": b"[1]"}, "a.json: holds no identity"),
    ],
)
def test_a_picture_needs_its_class(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    with pytest.raises(UserError, match="--data: ") as caught:
        TarPictures(write(tmp_path / "a.tar", members), "vis")
    assert words in str(caught.value)


def test_compressed_tars_and_broken_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(UserError, match="gunzip"):
        open_pictures(tmp_path / "a.tar.gz", "vis")
    write(tmp_path / "b.tar", {"k.png": b"GIF89a", "k.cls": b"0"})
    with pytest.raises(UserError, match=r"b.tar: k: not a PNG"):
        open_pictures(tmp_path / "b.tar", "vis").decode(0)


@pytest.mark.parametrize(
    "members",
    [
        {"\udcff.png": png(1), "\udcff.cls": b"1"},
        {"a.png": png(1), "a.json": b'{"identity": "\\ud800"}'},
    ],
)
def test_names_that_are_not_utf8_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match=r"--data: .*a.tar: \\ud...: the name is not in UTF-8"):
        TarPictures(write(tmp_path / "a.tar", members, errors="surrogateescape"), "vis")

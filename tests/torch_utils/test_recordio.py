"""RecordIO against bytes put together by hand from the published format, round trips, and files that lie."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png
from torch_utils.recordio import (
    MAGIC,
    LabelledPicture,
    RecordFile,
    RecordPictures,
    decode_image_header,
    encode_image_record,
    encode_record,
    write_pictures,
)

M = bytes.fromhex("0a23d7ce")


def png(value: int, channels: int = 3) -> bytes:
    return encode_png(np.full((4, 4, channels), value, dtype=np.uint8))


def test_a_record_byte_by_byte() -> None:
    assert encode_record(b"abcde") == M + b"\5\0\0\0" + b"abcde\0\0\0"
    assert encode_record(b"abcd") == M + b"\4\0\0\0" + b"abcd"
    assert encode_record(b"") == M + b"\0\0\0\0"


def test_the_magic_in_a_payload_splits_it_byte_by_byte() -> None:
    first, middle, last = b"\0\0\0\x20", b"\0\0\0\x40", b"\0\0\0\x60"  # the upper 3 of 32 bits: 1, 2, 3
    assert encode_record(b"abcd" + M + b"ef") == M + b"\4" + first[1:] + b"abcd" + M + b"\2" + last[1:] + b"ef\0\0"
    assert encode_record(M) == M + first + M + last
    assert encode_record(M + M) == M + first + M + middle + M + last
    unaligned = b"a" + M + b"bcd"
    assert encode_record(unaligned) == M + b"\x08\0\0\0" + unaligned


def test_a_picture_record_byte_by_byte() -> None:
    one = encode_image_record(7.0, 3, 0, b"PIC")
    assert one == struct.pack("<I", 0) + struct.pack("<f", 7) + struct.pack("<Q", 3) + struct.pack("<Q", 0) + b"PIC"
    two = encode_image_record((11.0, 13.0), 0, 2)
    assert two == bytes.fromhex("02000000 00000000 0000000000000000 0200000000000000 00003041 00005041")
    assert decode_image_header(one) == ((7.0,), 3, 0, 24)
    assert decode_image_header(two) == ((11.0, 13.0), 0, 2, 32)


payloads = st.lists(st.lists(st.sampled_from([M, M[:2], M[2:], b"x", b"", b"\0\0\0"]), max_size=9).map(b"".join))


@settings(max_examples=60, deadline=None)
@given(payloads)
def test_round_trips_with_and_without_an_index(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("rec") / "a.rec"
    encoded = [encode_record(payload) for payload in records]
    path.write_bytes(b"".join(encoded))
    file = RecordFile(path)
    assert [file.read(i) for i in range(len(file))] == records
    assert [file.start(i, 5) for i in range(len(file))] == [payload[:5] for payload in records]
    offsets = [sum(map(len, encoded[:i])) for i in range(len(encoded))]
    lines = [f"{7 * i}\t{offset}\n" for i, offset in enumerate(offsets)][::-1]
    path.with_suffix(".idx").write_text("".join(lines))
    file = RecordFile(path)
    assert [file.read(i) for i in range(len(file))] == records[::-1]
    assert file.keys == [7 * i for i in range(len(records))][::-1]


def write(folder: Path, pictures: list[LabelledPicture], counts: list[int]) -> Path:
    write_pictures(folder / "a.rec", folder / "a.idx", pictures, counts)
    return folder / "a.rec"


def pair_file(folder: Path) -> Path:
    """Class 1 has a NIR picture that stands alone."""
    order = [(0, "vis", False), (0, "nir", True), (1, "vis", False), (1, "nir", True), (1, "nir", False)]
    pictures = [LabelledPicture(c, s, png(i, 3 if s == "vis" else 1), same) for i, (c, s, same) in enumerate(order)]
    return write(folder, pictures, [2, 3])


def test_insightface_layout(tmp_path: Path) -> None:
    """Read as its loaders do: key 0 says where the identities are, each of them where its pictures are."""
    path = pair_file(tmp_path)
    lines = [line.split("\t") for line in (tmp_path / "a.idx").read_text().splitlines()]
    offsets = {int(key): int(offset) for key, offset in lines}
    data = path.read_bytes()

    def labels(key: int) -> tuple[float, ...]:
        magic, length, flag, label = struct.unpack_from("<IIIf", data, offsets[key])
        assert magic == MAGIC and length < 1 << 29
        return struct.unpack_from(f"<{flag}f", data, offsets[key] + 32) if flag else (label,)

    assert labels(0) == (6.0, 8.0)
    assert [labels(key) for key in (6, 7)] == [(1.0, 3.0), (3.0, 6.0)]
    assert [labels(key) for key in range(1, 6)] == [(0,), (0,), (1,), (1,), (1,)]


def test_each_spectrum_is_found_with_shared_classes(tmp_path: Path) -> None:
    path = pair_file(tmp_path)
    for index in (tmp_path / "a.idx", None):
        vis, nir = RecordPictures(path, "vis"), RecordPictures(path, "nir")
        assert (vis.names, vis.identities, len(vis)) == (["1", "3"], ["0", "1"], 2)
        assert (nir.names, nir.identities) == (["1", "3", "5"], ["0", "1", "1"])
        assert vis.decode(1).shape == (4, 4, 3) and vis.decode(1).max() == 2
        assert nir.decode(2).shape == (4, 4, 1) and nir.decode(2).max() == 4
        assert nir.read(0) == png(1, 1)
        if index:
            index.unlink()


def test_public_files_leave_the_spectrum_open_and_may_have_several_labels(tmp_path: Path) -> None:
    records = [encode_image_record(2.0, 0, 0, png(5)), encode_image_record((4.0, 1.0, 9.0), 1, 0, png(6))]
    (tmp_path / "a.rec").write_bytes(b"".join(map(encode_record, records)))
    for spectrum, channels in (("vis", 3), ("nir", 1)):
        source = RecordPictures(tmp_path / "a.rec", spectrum)
        assert source.identities == ["2", "4"]
        assert source.decode(1).shape == (4, 4, channels) and source.decode(1).max() == 6


def test_a_source_goes_to_a_worker_and_its_handle_stays(tmp_path: Path) -> None:
    source = RecordPictures(pair_file(tmp_path), "vis")
    source.decode(0)
    again = pickle.loads(pickle.dumps(source))
    assert again.file._handle is None and (again.decode(0) == source.decode(0)).all()


SOUND = encode_record(encode_image_record(0.0, 0, 0, png(1)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a record at all", "byte 0: no record begins here"),
        (SOUND + b"\0" * 8, f"byte {len(SOUND)}: no record begins here"),
        (SOUND[:-8], "byte 0: cut short"),
        (SOUND + M, f"byte {len(SOUND)}: cut short"),
        (M + struct.pack("<I", (1 << 29) - 1), "511 MiB is more than a picture"),
        (M + struct.pack("<I", 1 << 29) + SOUND, "byte 8: parts of records in an order"),
        (M + struct.pack("<I", 3 << 29), "byte 0: parts of records in an order"),
        (M + struct.pack("<I", 7 << 29), "byte 0: parts of records in an order"),
        (encode_record(b"short"), "record 0: shorter than a picture's header"),
        (encode_record(struct.pack("<IfQQ", 0xFFFFFFFF, 0, 0, 0)), "announces labels that are not there"),
        (encode_record(struct.pack("<IfQQ", 3, 0, 0, 0) + bytes(10)), "announces labels that are not there"),
        (encode_record(encode_image_record(0.5, 0, 0, b"x")), "record 0: label 0.5 is no class number"),
        (encode_record(encode_image_record(float("nan"), 0, 0, b"x")), "label nan is no class number"),
        (encode_record(encode_image_record((3.0, 4.0), 0, 0)), "no VIS pictures in it"),
        (b"", "no VIS pictures in it"),
    ],
)
def test_damaged_files_are_one_line_that_names_file_and_place(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        RecordPictures(path, "vis", "--real")
    assert str(caught.value).startswith(f"--real: {path}") and words in str(caught.value)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("0\t1\n", "byte 1: "),
        ("0\t4\n", "byte 4: no record begins here"),
        ("0\t-8\n", "byte -8: cut short"),
        (f"0\t{1 << 80}\n", "cut short"),
        ("0 0\n", "a.idx: line 1 is no key"),
        ("0\t0\nx\t0\n", "a.idx: line 2 is no key"),
        ("0\t0\n0\t0\n", "has a key twice"),
        ("0\t0\n" * 4000, "more lines than its .rec has records"),
        ("0\t0" + "\n" * 4000, "more lines"),
    ],
)
def test_a_wrong_index_is_named(tmp_path: Path, index: str, words: str) -> None:
    (tmp_path / "a.rec").write_bytes(encode_record(b"x" * 60))
    (tmp_path / "a.idx").write_text(index)
    with pytest.raises(UserError, match="--data: ") as caught:
        RecordPictures(tmp_path / "a.rec", "vis")
    assert words in str(caught.value)


def test_a_file_that_shrinks_and_a_broken_picture_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(SOUND + encode_record(encode_image_record(0.0, 1, 0, b"no picture")))
    source = RecordPictures(path, "vis")
    with pytest.raises(UserError, match=r"a.rec: record 1: not a PNG"):
        source.decode(1)
    path.write_bytes(SOUND)
    with pytest.raises(UserError, match="shorter than it was"):
        RecordPictures.read(pickle.loads(pickle.dumps(source)), 1)


def test_pictures_must_be_as_announced(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="picture 2 is of class 0"):
        write(tmp_path, [LabelledPicture(0, "vis", b"a")] * 2, [1, 1])
    with pytest.raises(ValueError, match="at most 16777216"):
        write(tmp_path, [], [1 << 24])

"""dataset_tool.py prepare as a user calls it: real faces, every trouble that picture files bring, killed runs."""

import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from arcface.alignment import PORTRAIT_TEMPLATE
from arcface.detection import FaceDetector
from dataset_tool import main
from torch_utils.image_tree import PairedTree, encode_png

ROOT = Path(__file__).resolve().parents[1]
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("facenet_pytorch") is None, reason="the wheel facenet-pytorch carries the weights"
)


def run(root: Path, *arguments: object, dest: str = "data", workers: int = 1) -> Result:
    places = ["--vis", root / "raw/vis", "--nir", root / "raw/nir", "--dest", root / dest, "--workers", workers]
    return CliRunner().invoke(main, ["prepare", *map(str, [*places, *arguments])])


def failures(root: Path, name: str = "data/failures.csv") -> dict[str, tuple[str, str, str]]:
    """identity -> (side, reason, detail)."""
    with open(root / name, newline="", encoding="utf-8") as file:
        return {row["identity"]: (row["side"], row["reason"], row["detail"]) for row in csv.DictReader(file)}


def put(root: Path, vis: str, vis_data: bytes, nir: str, nir_data: bytes) -> None:
    for folder, name, data in (("vis", vis, vis_data), ("nir", nir, nir_data)):
        path = root / "raw" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def saved(pixels: np.ndarray | Image.Image, format: str = "PNG", orientation: int | None = None, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if orientation is not None:
        exif = image.getexif()
        exif[0x0112] = orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


# ----------------------------------------------------------------------------
# Every trouble (PAIN_POINTS.md, row 22). Pictures of 12x8, whose centre square is looked at.

COLOUR = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
GREY = COLOUR[..., 0].copy()
SQUARE = (slice(None), slice(2, 10))
AS_RGB = np.repeat(GREY[..., None], 3, axis=2)
STORED = {  # what a camera stores so that turned by EXIF it is as seen, by its number
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


def bomb() -> bytes:
    data = bytearray(encode_png(COLOUR))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


DEEP = GREY.astype(np.uint16) * 257


def several(pixels: np.ndarray, format: str) -> bytes:
    return saved(pixels, format, save_all=True, append_images=[Image.fromarray(COLOUR)])


CMYK = Image.fromarray(np.full((8, 12, 4), (0, 255, 255, 0), np.uint8), "CMYK")  # red
ALPHA = np.dstack([COLOUR, np.full((8, 12), 255, np.uint8)])
GLASS = np.dstack([COLOUR, np.full((8, 12), 128, np.uint8)])

READ_RIGHTLY: dict[str, tuple[str, bytes, np.ndarray, str, bytes, np.ndarray]] = {
    "plain": ("png", saved(COLOUR), COLOUR, "png", saved(GREY), GREY),
    "bmp-tiff": ("bmp", saved(COLOUR, "BMP"), COLOUR, "tif", saved(GREY, "TIFF"), GREY),
    "grey": ("png", saved(GREY), AS_RGB, "bmp", saved(GREY, "BMP"), GREY),
    "opaque": ("png", saved(ALPHA), COLOUR, "png", saved(np.dstack([AS_RGB, ALPHA[..., 3]])), GREY),
    "palette": ("png", saved(Image.fromarray(AS_RGB).quantize(256)), AS_RGB, "png", saved(GREY), GREY),
    "deep": ("png", saved(DEEP), AS_RGB, "png", saved(DEEP), GREY),
    "deep-tiff": ("png", saved(COLOUR), COLOUR, "tiff", saved(DEEP, "TIFF"), GREY),
    "equal-channels": ("png", saved(COLOUR), COLOUR, "png", saved(AS_RGB), GREY),
    "cmyk": ("jpg", saved(CMYK, "JPEG", quality=100), np.full((8, 12, 3), (254, 0, 0)), "png", saved(GREY), GREY),
    "phone": ("jpg", several(AS_RGB * 0 + 90, "MPO"), AS_RGB * 0 + 90, "png", saved(GREY), GREY),
    "compressed": ("tif", saved(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR, "png", saved(GREY), GREY),
    **{
        f"turned{number}{format}": (
            suffix,
            saved(np.ascontiguousarray(turn(COLOUR)), format, number),
            COLOUR,
            suffix,
            saved(np.ascontiguousarray(turn(GREY)), format, number),
            GREY,
        )
        for number, turn in STORED.items()
        for format, suffix in (("PNG", "png"), ("TIFF", "tif"))
    },
}

REFUSED: dict[str, tuple[str, bytes, str, bytes, str, str, str]] = {
    "transparent": ("png", saved(GLASS), "png", saved(GREY), "vis", "unreadable", "transparent pixels"),
    "cut": ("jpg", saved(COLOUR, "JPEG")[:-40], "png", saved(GREY), "vis", "unreadable", "broken picture"),
    "cut-png": ("png", saved(COLOUR), "png", saved(GREY)[:-14], "nir", "unreadable", "broken picture"),
    "cut-bmp": ("png", saved(COLOUR), "bmp", saved(GREY, "BMP")[:-20], "nir", "unreadable", "broken picture"),
    "cut-tiff": ("png", saved(COLOUR), "tif", saved(GREY, "TIFF")[:-30], "nir", "unreadable", "picture"),
    "empty": ("png", b"", "png", saved(GREY), "vis", "unreadable", "not a PNG, JPEG, BMP or TIFF"),
    "text": ("jpg", b"hello, I am a text\n", "png", saved(GREY), "vis", "unreadable", "not a PNG"),
    "gif": ("png", saved(COLOUR), "png", saved(GREY, "GIF"), "nir", "unreadable", "not a PNG"),
    "bomb": ("png", bomb(), "png", saved(GREY), "vis", "unreadable", "pixels"),
    "animated": ("png", several(COLOUR, "PNG"), "png", saved(GREY), "vis", "unreadable", "several pictures"),
    "pages": ("png", saved(COLOUR), "tif", several(COLOUR, "TIFF"), "nir", "unreadable", "several"),
    "float": ("png", saved(COLOUR), "tif", saved(GREY.astype(np.float32), "TIFF"), "nir", "unreadable", "floating"),
    "other-shape": ("png", saved(COLOUR), "png", saved(GREY[:, :9].copy()), "nir", "sizes do not fit", "NIR 9x8"),
    "one-turned": ("png", saved(COLOUR, orientation=6), "png", saved(GREY), "nir", "only one", "NIR has no EXIF"),
    "other-turned": ("png", saved(COLOUR), "png", saved(GREY, orientation=3), "vis", "only one", "VIS has no EXIF"),
}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("troubled")
    for name, (suffix, data, _, other, other_data, _) in READ_RIGHTLY.items():
        put(root, f"{name}_0.{suffix}", data, f"{name}_0.{other}", other_data)
    for name, (suffix, data, other, other_data, *_) in REFUSED.items():
        put(root, f"{name}_0.{suffix}", data, f"{name}_0.{other}", other_data)
    for name in ("pipe", "loop"):
        put(root, f"{name}_0.png", saved(COLOUR), f"{name}_0.png", saved(GREY))
        (root / f"raw/vis/{name}_0.png").unlink()
    os.mkfifo(root / "raw/vis/pipe_0.png")
    (root / "raw/vis/loop_0.png").symlink_to("loop_0.png")
    (root / "raw/vis/folders").symlink_to(root / "raw/vis")
    put(root, "alone_0.png", saved(COLOUR), "other_0.png", saved(GREY))
    result = run(root, "--align", "none", "--resolution", 16)
    assert result.exit_code == 0, result.output
    (root / "summary").write_text(result.stdout)
    return root


@pytest.mark.parametrize("name", READ_RIGHTLY)
def test_troubles_that_are_read_rightly(troubled: Path, name: str) -> None:
    _, _, colour, _, _, grey = READ_RIGHTLY[name]
    tree = PairedTree(troubled / "data")
    for spectrum, expected in (("vis", colour), ("nir", grey[..., None])):
        found = tree.decode(spectrum, f"{name}_0.png")
        # Twice as large by Lanczos: the mean of the four is near the pixel, and what is turned or scaled is far away.
        mean = found.reshape(8, 2, 8, 2, -1).mean(axis=(1, 3))
        assert (
            abs(mean - expected[SQUARE]).max() < 2 or np.corrcoef(mean.ravel(), expected[SQUARE].ravel())[0, 1] > 0.95
        )
        assert abs(mean.mean() - expected[SQUARE].mean()) < 4


@pytest.mark.parametrize("name", REFUSED)
def test_troubles_that_are_refused_by_name(troubled: Path, name: str) -> None:
    *_, side, reason, words = REFUSED[name]
    found = failures(troubled)[name]
    assert found[0] == side and found[1].startswith(reason) and words in found[2]
    assert not (troubled / f"data/VIS/{name}_0.png").exists()


def test_what_is_no_file_is_refused_and_the_run_has_gone_on(troubled: Path) -> None:
    for name in ("pipe", "loop"):
        assert failures(troubled)[name][:2] == ("vis", "unreadable")
    assert {row[:2] for key, row in failures(troubled).items() if key == ""} == {("nir", "no partner")}
    summary = (troubled / "summary").read_text()
    assert f"{len(READ_RIGHTLY)} pairs of {len(READ_RIGHTLY)} people" in summary
    assert "14 unreadable" in summary and "2 no partner" in summary and "1 sizes do not fit" in summary
    checked = CliRunner().invoke(main, ["check", "--data", str(troubled / "data")])
    assert checked.exit_code == 0 and f"{len(READ_RIGHTLY)} pairs" in checked.stdout


# ----------------------------------------------------------------------------
# A real face.


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One face as it is, turned by EXIF, with NIR of half the size; a wall; NIR from another place."""
    from skimage.data import astronaut

    root = tmp_path_factory.mktemp("faces")
    colour = np.ascontiguousarray(astronaut()[:260, 100:360])
    grey = colour[..., 0].copy()
    half = grey.reshape(130, 2, 130, 2).mean(axis=(1, 3)).astype(np.uint8)
    put(root, "1/0.png", saved(colour), "1/0.bmp", saved(grey, "BMP"))
    put(root, "1/1.png", saved(np.rot90(colour, 1), orientation=6), "1/1.png", saved(np.rot90(grey, 1), orientation=6))
    put(root, "1/2.png", saved(colour), "1/2.png", saved(half))
    put(root, "2/0.png", saved(colour * 0 + 99), "2/0.png", saved(grey))
    put(root, "3/0.png", saved(colour), "3/0.png", saved(np.roll(grey, 20, axis=1)[:, 20:].copy()))
    return root


@needs_weights
def test_faces_are_aligned_in_both_spectra(faces: Path) -> None:
    result = run(faces, "--resolution", 128)
    assert result.exit_code == 0, result.output
    assert "3 pairs of 1 people prepared; 2 not: 1 no face, 1 sizes do not fit" in result.stdout
    assert failures(faces)["2"][:2] == ("vis", "no face") and failures(faces)["3"][:2] == ("nir", "sizes do not fit")
    tree = PairedTree(faces / "data")
    vis = [tree.decode("vis", name) for name in tree.names]
    nir = [tree.decode("nir", name).astype(int) for name in tree.names]
    assert (vis[0] == vis[1]).all() and (vis[0] == vis[2]).all()
    assert abs(nir[0] - vis[0][..., :1]).max() <= 1 and (nir[0] == nir[1]).all()
    assert abs(nir[0] - nir[2]).mean() < 4  # half the pixels, the same place
    for pixels in (vis[0], nir[2].astype(np.uint8)):
        (found,) = FaceDetector.load().detect([pixels.transpose(2, 0, 1)])
        assert found.points is not None
        np.testing.assert_allclose(found.points, PORTRAIT_TEMPLATE.at(128), atol=5)
    description = json.loads((faces / "data/dataset.json").read_text())
    assert (description["resize"], description["alignment"], description["images"]) == ("lanczos", "portrait", 3)
    assert description["alignment_points"] == PORTRAIT_TEMPLATE.points.tolist()
    assert description["content_digest"] == tree.content_digest()
    assert description["source"]["failures"] == {"no face": 1, "sizes do not fit": 1}


@needs_weights
def test_register_finds_the_face_in_each(faces: Path) -> None:
    options = ("--register", "--align", "arcface", "--resolution", 112, "--filter", "area")
    result = run(faces, *options, dest="registered.zip")
    assert result.exit_code == 0 and "4 pairs of 2 people" in result.stdout, result.output
    tree = PairedTree(faces / "registered.zip")
    vis, nir = tree.decode("vis", "3_0.png")[..., 0].astype(int), tree.decode("nir", "3_0.png")[..., 0].astype(int)
    assert abs(vis - nir)[16:-16, 16:-16].mean() < 12  # 20 pixels apart in the captures
    assert json.loads(zipfile.ZipFile(faces / "registered.zip").read("dataset.json"))["alignment"] == "arcface_112"
    assert not (faces / "registered.zip.work").exists() and (faces / "registered.failures.csv").is_file()
    again = run(faces, *options, dest="registered.zip")
    assert again.exit_code == 2 and "--dest" in again.stderr and "exists already" in again.stderr


@needs_weights
def test_a_face_that_fills_the_picture_is_no_portrait(tmp_path: Path) -> None:
    from skimage.data import astronaut

    close = np.ascontiguousarray(astronaut()[55:185, 160:290])
    put(tmp_path, "1_0.png", saved(close), "1_0.png", saved(close[..., 1].copy()))
    refused = run(tmp_path, "--resolution", 64)
    assert refused.exit_code == 2 and "1 for: reaches beyond the picture" in refused.stderr
    assert failures(tmp_path)["1"][0] == "vis" and "--align arcface" in failures(tmp_path)["1"][2]
    for name, options in (("a", ("--align", "arcface")), ("b", ("--max-outside", 1))):
        assert run(tmp_path, "--resolution", 64, *options, dest=name).exit_code == 0


# ----------------------------------------------------------------------------
# Runs that go on, and runs that cannot.


@needs_weights
@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_bytes(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to(faces / "raw")
    rows = [f"1/{i % 3}.png,1/{i % 3}.{'bmp' if i % 3 == 0 else 'png'},{i}" for i in range(24)] + ["2/0.png,2/0.png,24"]
    (tmp_path / "pairs.csv").write_text("vis,nir,identity\n" + "\n".join(rows))
    options = ("--resolution", 96, "--pairs", tmp_path / "pairs.csv")
    command = [
        "--vis",
        tmp_path / "raw/vis",
        "--nir",
        tmp_path / "raw/nir",
        "--dest",
        tmp_path / "a.zip",
        "--workers",
        2,
    ]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "dataset_tool.py"), "prepare", *map(str, [*command, *options])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    work, until = tmp_path / "a.zip.work/NIR", time.monotonic() + 120
    while len(list(work.glob("*.png"))) < 3 and process.poll() is None:
        assert time.monotonic() < until, "no picture within two minutes"
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL and process.stderr is not None
    process.stderr.read()  # ends when the last worker, who holds it too, has ended
    assert 3 <= len(list(work.glob("*.png"))) < 24 and not (tmp_path / "a.zip").exists()
    other = run(tmp_path, *options, "--filter", "area", dest="a.zip")
    assert other.exit_code == 2 and "another filter" in other.stderr
    assert run(tmp_path, *options, dest="a.zip").exit_code == 0
    assert run(tmp_path, *options, dest="b.zip").exit_code == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert len(PairedTree(tmp_path / "a.zip")) == 24
    for name in ("a", "b"):
        assert failures(tmp_path, f"{name}.failures.csv")["24"][:2] == ("vis", "no face")


def test_workers_do_not_change_the_bytes(tmp_path: Path) -> None:
    for index in range(5):
        put(tmp_path, f"{index}_0.png", saved(np.roll(COLOUR, index, axis=1)), f"{index}_0.png", saved(GREY))
    for workers in (1, 2):
        result = run(tmp_path, "--align", "none", "--resolution", 16, dest=f"{workers}.zip", workers=workers)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_finished_is_finished_and_other_options_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "1_0.png", saved(COLOUR), "1_0.png", saved(GREY))
    options = ("--align", "none", "--resolution", 16)
    assert run(tmp_path, *options).exit_code == 0
    path = tmp_path / "data/VIS/1_0.png"
    written = path.stat().st_mtime_ns
    assert run(tmp_path, *options).exit_code == 0 and path.stat().st_mtime_ns == written
    refused = run(tmp_path, "--align", "none", "--resolution", 32)
    assert refused.exit_code == 2 and "another resolution" in refused.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    refused = run(tmp_path, *options, dest="full")
    assert refused.exit_code == 2 and "is not empty" in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--resolution", 4), "--resolution"),
        (("--min-probability", 2), "--min-probability"),
        (("--max-outside", -0.5), "--max-outside"),
        (("--align", "none", "--register"), "--register"),
        (("--align", "none", "--detector", "weights"), "--detector"),
        (("--pairs", "pairs.csv", "--layout", "tufts"), "--layout"),
        (("--align", "none", "--workers", 0), "--workers"),
        (("--pairs", "absent.csv"), "--pairs"),
        (("--detector", "absent"), "--detector"),
        (("--layout", "tufts"), "--layout: tufts expects"),
        (("--nir", "absent"), "--nir: absent"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(tmp_path: Path, options: tuple[object, ...], words: str) -> None:
    put(tmp_path, "1_0.png", saved(COLOUR), "1_0.png", saved(GREY))
    result = run(tmp_path, *options)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("Error") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_casia_is_not_registered(tmp_path: Path) -> None:
    put(tmp_path, "00001/001.png", saved(COLOUR), "00001/002.png", saved(GREY))
    result = run(tmp_path, "--layout", "casia-nir-vis-2")
    assert result.exit_code == 2 and "--register is needed" in result.stderr and not (tmp_path / "data").exists()


def test_when_everything_fails_the_leading_reason_is_told(tmp_path: Path) -> None:
    for index in range(3):
        put(tmp_path, f"{index}_0.jpg", b"text", f"{index}_0.png", saved(GREY))
    result = run(tmp_path, "--align", "none")
    assert result.exit_code == 2 and "none of 3 pairs could be prepared, 3 for: unreadable" in result.stderr
    assert len(failures(tmp_path)) == 3

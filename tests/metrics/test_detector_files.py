"""Which network a file holds, what is refused about it, and what detectors make of pictures. The networks are small
ones under the public files' names; the large ones are tested in test_inception.py and test_vgg_lpips.py."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from dnnlib.errors import UserError
from dnnlib.files import sha256_file
from metrics import detector_files, public_files, vgg_lpips
from metrics.choices import CLEAN, OWN, PYTORCH_FID
from metrics.detector_files import FORMS, INCEPTION, LPIPS, VGG16, AtHand, read_detector
from metrics.observers import Detector
from tests.metrics.random_weights import pictures
from tests.metrics.small_detectors import use_small_networks, weights, written


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    use_small_networks(monkeypatch)


def detector(kind: str, *files: str, resize: str = OWN) -> Detector:
    return AtHand(files).detector(kind, f"a {kind} metric", resize, "cpu")


# ----------------------------------------------------------------------------
# Files.


@pytest.mark.parametrize("holds", FORMS)
def test_a_file_is_known_by_its_tensors_whatever_its_name_and_form(holds: str) -> None:
    state = weights(holds)
    torch.save(state, "new")
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, "x.safetensors")
    for path in ("new", "old.pth", "x.safetensors"):
        found = read_detector(path)
        assert (found.holds, found.scripted, found.sha256) == (holds, False, sha256_file(path))
        assert not found.network.training and all(not values.requires_grad for values in found.network.parameters())
        for name, values in state.items():
            assert torch.equal(found.network.state_dict()[name], values), name


def test_halves_become_floats_and_counters_do_not_matter() -> None:
    half = {name: values.half() for name, values in weights(INCEPTION).items()}
    torch.save({**half, "Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(7)}, "x.pth")
    state = read_detector("x.pth").network.state_dict()
    assert all(torch.equal(state[name], values.float()) for name, values in half.items())


def test_a_stated_hash_must_be_the_file_s() -> None:
    path = written(VGG16)
    assert read_detector(f"{path}@sha256:{sha256_file(path).upper()}").holds == VGG16
    with pytest.raises(UserError, match=rf"^--detector: vgg16.pth: its SHA-256 is {sha256_file(path)}, not 0{{64}};"):
        read_detector(f"{path}@sha256:{'0' * 64}")
    with pytest.raises(UserError, match="vgg16.pth: @sha256:6726825d: 64 hex digits are needed"):
        read_detector(f"{path}@sha256:6726825d")


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


def broken(name: str) -> str:
    """A file that is no network, and the words that say so."""
    path = Path("x.pth")
    if name == "a pickle that runs":
        torch.save({"fc.weight": Evil()}, path)
        return r"holds posix\.system"
    if name == "much memory":
        torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
        return "a reaches beyond its storage"
    if name == "a thousand classes":  # today's network, which has the same names
        written(INCEPTION, str(path), **{"fc.weight": torch.zeros(4, 8)})
        return r"not inception-v3-2015: 1 tensors do not fit, the first: fc\.weight is \(4, 8\), \(5, 8\) is needed"
    if name == "incomplete":
        written(INCEPTION, str(path), **{"fc.bias": None})
        return r"1 tensors do not fit, the first: fc\.bias is missing"
    if name == "too much":
        written(VGG16, str(path), more=torch.zeros(1))
        return "1 tensors do not fit, the first: more is not expected"
    if name == "NaN":
        written(LPIPS, str(path), **{"lin2.model.1.weight": torch.full((1, 4, 1, 1), torch.nan)})
        return r"lin2\.model\.1\.weight holds NaN"
    if name == "whole numbers":
        written(VGG16, str(path), **{"classifier.6.bias": torch.zeros(1000, dtype=torch.int64)})
        return r"classifier\.6\.bias holds NaN, infinity or no floating-point numbers"
    if name == "too large for float32":
        written(VGG16, str(path), **{"classifier.6.bias": torch.full((1000,), 1e300, dtype=torch.float64)})
        return r"classifier\.6\.bias holds NaN, infinity or no floating-point numbers"
    if name == "another network":
        torch.save(nn.Linear(1, 1).state_dict(), path)
        return r"2 tensors of no network that is known here; pt_inception-2015-12-05-6726825d\.pth, "
    if name == "truncated":
        path.write_bytes(Path(written(VGG16)).read_bytes()[:-100])
        return "cannot be read; fetch or copy the file again"
    if name == "text":
        path.write_text("weights")
        return "truncated or not a pickle"
    return "no such file; one with an image network"


@pytest.mark.parametrize(
    "name",
    [
        *("a pickle that runs", "much memory", "a thousand classes", "incomplete", "too much", "NaN", "whole numbers"),
        *("too large for float32", "another network", "truncated", "text", "absent"),
    ],
)
def test_what_is_no_network_is_one_line(name: str) -> None:
    words = broken(name)
    with pytest.raises(UserError, match=rf"^--detector: x\.pth: .*{words}") as told:
        read_detector("x.pth")
    assert "\n" not in str(told.value) and not Path("ran").exists()


def test_numbers_that_torch_cannot_look_at() -> None:
    state = weights(VGG16)
    save_file({**state, "classifier.6.bias": state["classifier.6.bias"].to(torch.float8_e4m3fn)}, "x.safetensors")
    with pytest.raises(UserError, match=r"classifier\.6\.bias holds NaN, infinity or no floating-point numbers"):
        read_detector("x.safetensors")


def test_of_what_does_not_belong_there_no_number_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file can hold very many names of one large tensor."""
    path = written(VGG16, "x.pth", **{f"more.{number}": torch.zeros(1) for number in range(3)})
    looked: list[torch.Tensor] = []
    isfinite = torch.Tensor.isfinite

    def look(values: torch.Tensor) -> torch.Tensor:
        looked.append(values)
        return isfinite(values)

    monkeypatch.setattr(torch.Tensor, "isfinite", look)
    with pytest.raises(UserError, match=r"3 tensors do not fit, the first: more\.0 is not expected"):
        read_detector(path)
    assert len(looked) == len(weights(VGG16))


def test_broken_safetensors_and_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UserError, match=r"^--detector: x\.safetensors: truncated or not a safetensors file"):
        read_detector("x.safetensors")
    monkeypatch.setattr(detector_files, "MOST_BYTES", 39)
    with pytest.raises(UserError, match="no network that is known here is so large"):
        read_detector("x.safetensors")


# ----------------------------------------------------------------------------
# What is at hand.


def test_missing_ones_name_both_ways() -> None:
    with pytest.raises(UserError) as told:
        detector(INCEPTION)
    text = str(told.value)
    assert text.startswith(
        "--metrics: a inception metric looks with inception-v3-2015: --detector FILE with pt_inception"
    )
    assert "`python -m metrics.detectors fetch inception`" in text
    with pytest.raises(UserError, match=r"looks with lpips-v0\.1: .*`python -m metrics\.detectors fetch lpips`"):
        detector(LPIPS, written(VGG16))
    assert AtHand([]).lacks(LPIPS) == [VGG16, LPIPS] and AtHand([written(LPIPS)]).lacks(LPIPS) == [VGG16]


def test_fetched_ones_count_behind_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = public_files.kept_at(INCEPTION)
    path.parent.mkdir(parents=True)
    written(INCEPTION, str(path))
    with pytest.raises(
        UserError, match=r"^cache: .*6726825d\.pth: damaged; `python -m metrics\.detectors fetch inception`"
    ):
        detector(INCEPTION)
    file = public_files.FILES[INCEPTION]._replace(sha256=sha256_file(path)[:8])
    monkeypatch.setitem(public_files.FILES, INCEPTION, file)
    assert detector(INCEPTION).sha256 == sha256_file(path)
    named = written(INCEPTION, "named.pth", **{"fc.bias": torch.zeros(5)})
    assert detector(INCEPTION, named).sha256 == sha256_file(named) != sha256_file(path)


def test_two_of_a_kind_are_refused() -> None:
    with pytest.raises(UserError, match=r"^--detector: b\.pth: holds vgg16, as a\.pth does; name one"):
        AtHand([written(VGG16, "a.pth"), written(INCEPTION), written(VGG16, "b.pth")])


# ----------------------------------------------------------------------------
# Looking.


def test_inception_s_rows_do_not_depend_on_the_batch_and_grey_is_repeated() -> None:
    looks = detector(INCEPTION, written(INCEPTION))
    assert (looks.kind, looks.name, looks.resize) == (INCEPTION, "inception-v3-2015", "bilinear-tf1-299-minus-128")
    whole = looks.look(pictures(3))
    assert whole["features"].shape == (3, 8) and whole["features"].dtype == np.float32
    assert whole["probabilities"].sum(axis=1) == pytest.approx(1, abs=1e-6)
    parts = [looks.look(images) for images in pictures(3).split(1)]
    for name, rows in whole.items():
        assert np.concatenate([part[name] for part in parts]) == pytest.approx(rows, abs=1e-5)
    grey = pictures(2, channels=1)
    assert looks.look(grey)["features"] == pytest.approx(looks.look(grey.repeat(1, 3, 1, 1))["features"], abs=1e-6)


def test_protocols_give_other_figures_under_other_names() -> None:
    path = written(INCEPTION)
    found = {resize: detector(INCEPTION, path, resize=resize) for resize in (OWN, CLEAN, PYTORCH_FID)}
    assert len({looks.resize for looks in found.values()}) == 3
    rows = [looks.look(pictures(1))["features"] for looks in found.values()]
    assert all(np.abs(first - second).max() > 1e-3 for first, second in ((rows[0], rows[1]), (rows[1], rows[2])))


def test_vgg16_and_lpips_share_a_file() -> None:
    files = written(VGG16), written(LPIPS)
    features = detector(VGG16, *files)
    assert features.look(pictures(2))["features"].shape == (2, 6) and features.name == "vgg16"
    distance = detector(LPIPS, *files)
    assert (distance.name, distance.resize) == ("vgg16+lpips-v0.1", "mean-to-256")
    assert distance.sha256 == "+".join(sha256_file(path) for path in files)
    images = pictures(4, height=32, width=32).float()
    found = distance.look(images)["distances"]
    vgg, heads = (read_detector(path).network for path in files)
    seen = vgg_lpips.normalise(images)
    assert found == pytest.approx(vgg_lpips.lpips(vgg, heads, seen[::2], seen[1::2]).numpy(), rel=1e-4)
    assert distance.look(images[[0, 0]])["distances"] == [0] and found.min() > 0
    assert distance.look(images[:2, :, :16, :16])["distances"].shape == (1,)
    with pytest.raises(UserError, match="LPIPS sees nothing in pictures under 16 pixels"):
        distance.look(images[:2, :, :15, :15])
    large = images[:2].repeat_interleave(16, 2).repeat_interleave(16, 3)  # of 512 pixels
    small = images[:2].repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert distance.look(large)["distances"] == pytest.approx(distance.look(small)["distances"], rel=1e-4)
    grey = images[:2, :1]
    assert distance.look(grey)["distances"] == pytest.approx(distance.look(grey.repeat(1, 3, 1, 1))["distances"])


# ----------------------------------------------------------------------------
# TorchScript.


class ScriptedInception(nn.Module):
    """With the call of StyleGAN2-ADA's inception-2015-12-05.pt: features are the means of colours."""

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        features = F.interpolate(img.to(torch.float32), [299, 299]).mean(dim=[2, 3])
        if return_features:
            return features
        return (features if no_output_bias else features + 1000 * torch.arange(3)).softmax(dim=1)


class ScriptedVGG(nn.Module):
    """With the call of its vgg16.pt."""

    def forward(
        self, img: torch.Tensor, resize_images: bool = True, return_features: bool = False, return_lpips: bool = False
    ) -> torch.Tensor:
        if return_lpips:
            return img.to(torch.float32).flatten(1)
        assert resize_images and return_features
        return img.to(torch.float32).mean(dim=[2, 3])


def scripted(module: nn.Module, path: str = "x.pt") -> str:
    """Written, and named with its hash."""
    torch.jit.script(module).save(path)
    return f"{path}@sha256:{sha256_file(path)}"


def test_a_program_is_loaded_only_by_its_stated_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    named = scripted(ScriptedInception())
    with monkeypatch.context() as patch:
        patch.setattr(torch.jit, "load", lambda *args, **kwargs: pytest.fail("it was loaded"))
        for path, words in (
            ("x.pt", f"a program; .* --detector {named}$"),
            (f"x.pt@sha256:{'0' * 64}", "its SHA-256 is"),
        ):
            with pytest.raises(UserError, match=f"^--detector: x.pt: .*{words}"):
                read_detector(path)
    found = read_detector(named)
    assert (found.holds, found.scripted, found.name) == (INCEPTION, True, "inception-v3-2015-torchscript")


def test_programs_that_are_none_of_ours() -> None:
    with pytest.raises(UserError, match="none of StyleGAN2-ADA's; one takes no_output_bias or return_lpips"):
        read_detector(scripted(nn.Linear(1, 1)))
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), buffer)
    Path("y.pt").write_bytes(buffer.getvalue().replace(b"def forward", b"def backward"))
    with pytest.raises(UserError, match=r"y\.pt: a TorchScript archive that torch cannot load|none of StyleGAN2"):
        read_detector(f"y.pt@sha256:{sha256_file('y.pt')}")


def test_inception_as_a_program() -> None:
    named = scripted(ScriptedInception())
    images = pictures(2)
    looks = detector(INCEPTION, named)
    assert looks.resize == "torchscript"
    assert looks.look(images)["features"] == pytest.approx(
        F.interpolate(images.float(), [299, 299]).mean(dim=(2, 3)).numpy(), rel=1e-5
    )
    assert looks.look(images)["probabilities"].sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert looks.look(images[:, :1])["features"].shape == (2, 3)
    assert looks.look(images[:, :1])["probabilities"] == pytest.approx(1 / 3)  # of a grey picture, without the bias
    clean = detector(INCEPTION, named, resize=CLEAN)
    assert clean.resize.startswith("bicubic-antialias-299")
    with pytest.raises(UserError, match="^--resize: pytorch-fid takes grey levels in another way"):
        detector(INCEPTION, named, resize=PYTORCH_FID)


def test_vgg16_as_a_program_brings_lpips() -> None:
    named = scripted(ScriptedVGG())
    images = pictures(4, height=512, width=512)
    assert detector(VGG16, named).look(images[:1])["features"].shape == (1, 3)
    looks = detector(LPIPS, named)
    assert (looks.name, looks.resize) == ("vgg16-torchscript", "mean-to-256") and AtHand([named]).lacks(LPIPS) == []
    reduced = images.float().view(4, 3, 256, 2, 256, 2).mean(dim=(3, 5))
    wanted = (reduced[::2] - reduced[1::2]).square().flatten(1).sum(dim=1).numpy()
    assert looks.look(images)["distances"] == pytest.approx(wanted, rel=1e-4)

"""LPIPS against the lpips package: by figures that it gave for the same weights, by the package where it is installed,
and by hand; VGG16 against torchvision's names."""

import hashlib

import pytest
import torch

from metrics import vgg_lpips
from metrics.vgg_lpips import VGG16, Heads, at_most, lpips, normalise
from tests.metrics.random_weights import fill, pictures, shapes_of

# SHA-256 of the names and shapes in the state dict of torchvision.models.vgg16 (0.28.0), as lines `name (shape)`.
NAMES = "ba63c2556d912509cba94697742dd762a05c284047650150bab0c2ddc806bb59"
# lpips.LPIPS(net="vgg") (0.1.4) with these weights: pictures(2) to their mirror images, and to one grey level more.
MIRRORED, LIGHTER = [1.0004156827926636, 1.020578145980835], [0.00025348286726512015, 0.00025708001339808106]


def networks() -> tuple[VGG16, Heads]:
    """Without the classifier, which is large."""
    with torch.device("meta"):
        vgg, heads = VGG16(), Heads()
    shapes = {name: shape for name, shape in shapes_of(vgg).items() if name.startswith("features")}
    vgg.load_state_dict(fill(shapes), strict=False, assign=True)
    heads.load_state_dict(fill(shapes_of(heads)), assign=True)
    return vgg.eval().requires_grad_(False), heads.requires_grad_(False)


def test_names_and_shapes_are_those_of_the_public_files() -> None:
    with torch.device("meta"):
        lines = sorted(shapes_of(VGG16()).items())
        heads = shapes_of(Heads())
    assert hashlib.sha256("\n".join(f"{name} {shape}" for name, shape in lines).encode()).hexdigest() == NAMES
    wanted = {f"lin{number}.model.1.weight": (1, width, 1, 1) for number, width in enumerate((64, 128, 256, 512, 512))}
    assert heads == wanted


def test_distances_are_those_of_the_lpips_package() -> None:
    here = pictures(2).float()
    for there, wanted in ((here.flip(3), MIRRORED), (here + 1, LIGHTER)):
        found = lpips(*networks(), normalise(here), normalise(there))
        assert found.tolist() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_distances_are_those_of_the_lpips_package_where_it_is_installed() -> None:
    theirs = pytest.importorskip("lpips").LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False).eval()
    vgg, heads = networks()
    for part in (getattr(theirs.net, f"slice{number}") for number in range(1, 6)):
        for name, layer in part.named_children():
            layer.load_state_dict(vgg.features[int(name)].state_dict())
    theirs.load_state_dict(heads.state_dict(), strict=False)
    here, there = pictures(2, height=64, width=64).float(), pictures(4, height=64, width=64)[2:].float()
    with torch.no_grad():
        wanted = theirs(here / 127.5 - 1, there / 127.5 - 1).flatten()
    assert torch.allclose(lpips(vgg, heads, normalise(here), normalise(there)), wanted, rtol=1e-5)


def test_one_stage_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels that pass the first two colours on. At each place (3, 4) and (4, 3) have length five: squared
    differences 0.04 each, weighted by 1 and 2, and half of the places differ."""
    monkeypatch.setattr(vgg_lpips, "STAGES", ((2,),))
    monkeypatch.setattr(vgg_lpips, "NUM_FEATURES", 5)
    vgg, heads = VGG16(), Heads()
    weight = torch.zeros(2, 3, 3, 3)
    weight[0, 0, 1, 1] = weight[1, 1, 1, 1] = 1
    vgg.features[0].load_state_dict({"weight": weight, "bias": torch.zeros(2)})
    heads.load_state_dict({"lin0.model.1.weight": torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)})
    here = torch.tensor([3.0, 4.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    there = here.clone()
    there[0, :2, 0, :] = torch.tensor([[4.0], [3.0]])
    with torch.no_grad():
        assert lpips(vgg, heads, here, there).tolist() == pytest.approx([(0.04 + 2 * 0.04) / 2])
        assert lpips(vgg, heads, here, 7 * here).tolist() == pytest.approx([0], abs=1e-12)


def test_features_are_the_second_dense_layer_s_after_its_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg_lpips, "STAGES", ((4,),) * 5)
    monkeypatch.setattr(vgg_lpips, "NUM_FEATURES", 6)
    vgg = VGG16().eval()
    state = fill(shapes_of(vgg))
    vgg.load_state_dict(state)
    x = normalise(pictures(2, height=224, width=224))
    with torch.no_grad():
        found, x = vgg(x), vgg.features(x).flatten(1)
    for name in ("classifier.0", "classifier.3"):
        x = (x @ state[f"{name}.weight"].T + state[f"{name}.bias"]).clamp(min=0)
    assert found.shape == (2, 6) and torch.allclose(found, x, atol=1e-5) and (found == 0).any() and (found > 0).any()


def test_large_pictures_are_averaged_to_256() -> None:
    images = pictures(1, height=512, width=512).float()
    assert torch.allclose(at_most(images), images.view(1, 3, 256, 2, 256, 2).mean(dim=(3, 5)))
    for side in (64, 256, 300):
        same = pictures(1, height=side, width=side).float()
        assert at_most(same) is same

"""Our Inception-v3 against pytorch-fid's: by figures that its network gave for the same weights, and, where the package
is installed, by that network itself."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from metrics import inception
from metrics.choices import OWN, PYTORCH_FID
from metrics.detector_files import AtHand
from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance
from metrics.inception import AVERAGE, BLOCKS, MAXIMUM, Inception, Layer
from metrics.resizing import for_inception
from tests.metrics.random_weights import fill, pictures, shapes_of

# SHA-256 of the names and shapes in the state dict of pytorch_fid.inception.fid_inception_v3 (0.3.0), counters of
# batches left out, as lines `name (shape)` in order.
NAMES = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"
# What pytorch_fid.inception.InceptionV3 (0.3.0, on torchvision 0.28.0) makes of pictures(1) with these weights.
THEIRS = [0.7148095965385437, 0.020900553092360497, 0.0, 0.3531358540058136, 0.043850407004356384]
THEIR_MEAN, THEIR_SD, THEIR_MOST = 0.19895062, 0.273417, 2.1268682


@pytest.fixture(scope="module")
def network() -> Iterator[Inception]:
    with torch.device("meta"):
        made = Inception()
    weights = fill(shapes_of(made))
    counters = {name: torch.tensor(0) for name in made.state_dict() if name.endswith("num_batches_tracked")}
    made.load_state_dict({**weights, **counters}, assign=True)
    yield made.eval().requires_grad_(False)


def test_names_and_shapes_are_those_of_the_public_file() -> None:
    with torch.device("meta"):
        shapes = shapes_of(Inception())
    lines = sorted(shapes.items())
    assert hashlib.sha256("\n".join(f"{name} {shape}" for name, shape in lines).encode()).hexdigest() == NAMES


def test_features_are_pytorch_fid_s(network: Inception) -> None:
    features = network(for_inception(PYTORCH_FID).prepare(pictures(1)))
    assert features.shape == (1, 2048)
    assert features[0, :5].numpy() == pytest.approx(THEIRS, abs=1e-5)
    found = float(features.mean()), float(features.std(correction=0)), float(features.max())
    assert found == pytest.approx((THEIR_MEAN, THEIR_SD, THEIR_MOST), rel=1e-5)


@pytest.mark.slow
def test_features_are_pytorch_fid_s_where_it_is_installed(network: Inception) -> None:
    theirs = pytest.importorskip("pytorch_fid.inception")
    with mock.patch.object(theirs, "load_state_dict_from_url", return_value=network.state_dict()):
        oracle = theirs.InceptionV3([3]).eval()
    images = pictures(2, height=350, width=300)
    with torch.no_grad():
        wanted = oracle(images / 255)[0].flatten(1)
    assert torch.allclose(network(for_inception(PYTORCH_FID).prepare(images)), wanted, atol=1e-5)


def test_averages_do_not_count_the_padding_and_the_last_block_takes_the_maximum() -> None:
    """Of ones, and of a picture whose corner is 9."""
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 9
    assert torch.equal(inception._pool(torch.ones(1, 1, 4, 4), AVERAGE), torch.ones(1, 1, 4, 4))
    assert inception._pool(corner, AVERAGE)[0, 0, :, 0].tolist() == [9 / 4, 9 / 6, 0, 0]
    assert inception._pool(corner, MAXIMUM)[0, 0, :, 0].tolist() == [9, 9, 0, 0]
    assert inception._pool(corner, inception.HALVED).shape == (1, 1, 1, 1)
    pools = {name: branches[-1][0] for name, branches in BLOCKS.items()}
    assert [name for name, pool in pools.items() if pool == MAXIMUM] == ["Mixed_7c"]


def test_a_block_by_hand() -> None:
    """A branch of two layers, one that forks, and a pooling, over plain convolutions."""
    branches: list[inception.Branch] = [
        (Layer("first", 2), Layer("second", 3, (1, 7))),
        (Layer("before", 2), [Layer("left", 1, (1, 3)), Layer("right", 1, (3, 1))]),
        (AVERAGE, Layer("pooled", 2)),
    ]
    block = inception._Block(4, branches).eval()
    block.load_state_dict(fill(shapes_of(block)), strict=False)
    state = block.state_dict()

    def layer(name: str, x: torch.Tensor, padding: tuple[int, int] = (0, 0)) -> torch.Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)
        mean, var = (state[f"{name}.bn.running_{what}"].view(1, -1, 1, 1) for what in ("mean", "var"))
        weight, bias = (state[f"{name}.bn.{what}"].view(1, -1, 1, 1) for what in ("weight", "bias"))
        return ((x - mean) / (var + 0.001).sqrt() * weight + bias).clamp(min=0)

    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4, 9, 9), dtype=np.float32))
    forked = layer("before", x)
    wanted = [
        layer("second", layer("first", x), (0, 3)),
        layer("left", forked, (0, 1)),
        layer("right", forked, (1, 0)),
        layer("pooled", F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    ]
    assert block.channels == 7
    assert torch.allclose(block(x), torch.cat(wanted, dim=1), atol=1e-5)


def test_probabilities_are_of_the_products_without_the_bias(network: Inception) -> None:
    features = torch.from_numpy(np.random.default_rng(0).random((3, 2048), dtype=np.float32))
    exponentials = np.exp(features.double().numpy() @ network.fc.weight.double().numpy().T)
    wanted = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert network.probabilities(features).numpy() == pytest.approx(wanted, rel=1e-4)
    assert network.fc.bias.abs().max() > 0.1 and wanted.shape == (3, 1008)


@pytest.mark.slow
def test_fid_is_torch_fidelity_s_where_it_is_installed(network: Inception, tmp_path: Path) -> None:
    """Of two folders, with the same weights; its resizing is TensorFlow's too."""
    theirs = pytest.importorskip("torch_fidelity")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    sides = pictures(12, height=40, width=40).split(6)
    for side, images in enumerate(sides):
        (tmp_path / str(side)).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / str(side) / f"{number}.png")
    found = theirs.calculate_metrics(
        input1=str(tmp_path / "0"),
        input2=str(tmp_path / "1"),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
    )
    looks = AtHand([str(tmp_path / "weights.pth")]).detector("inception", "fid", OWN, "cpu")
    ours = [FeatureStats.of(looks.look(images)["features"]) for images in sides]
    assert frechet_distance(*ours) == pytest.approx(found["frechet_inception_distance"], rel=1e-4)

"""The names and shapes of the public arcface_torch checkpoints, written out here by hand from their description."""

import pytest
import torch

from arcface.backbones import build_backbone, map_side, recognise_architecture, strides_of
from arcface.choices import ARCHITECTURES


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """What a batch normalisation keeps."""
    vectors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def iresnet_shapes(depths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,), **norm("bn1", 64)}
    inner = 64
    for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            shapes |= norm(f"{at}.bn1", inner) | norm(f"{at}.bn2", width) | norm(f"{at}.bn3", width)
            shapes[f"{at}.conv1.weight"] = (width, inner, 3, 3)
            shapes[f"{at}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"{at}.prelu.weight"] = (width,)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (width, inner, 1, 1)
                shapes |= norm(f"{at}.downsample.1", width)
            inner = width
    shapes |= norm("bn2", 512) | norm("features", 512)
    return {**shapes, "fc.weight": (512, 512 * 7 * 7), "fc.bias": (512,)}


def mobilefacenet_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def cell(at: str, out: int, per_group: int, kernel: int, active: bool = True) -> None:
        shapes[f"{at}.layers.0.weight"] = (out, per_group, kernel, kernel)
        shapes.update(norm(f"{at}.layers.1", out))
        if active:
            shapes[f"{at}.layers.2.weight"] = (out,)

    def depthwise(at: str, inner: int, out: int, expansion: int) -> None:
        cell(f"{at}.layers.0", expansion, inner, 1)
        cell(f"{at}.layers.1", expansion, 1, 3)
        cell(f"{at}.layers.2", out, expansion, 1, active=False)

    cell("layers.0", 128, 3, 3)
    cell("layers.1", 128, 2, 3)  # 64 groups
    depthwise("layers.2", 128, 128, 128)
    for block in range(4):
        depthwise(f"layers.3.layers.{block}", 128, 128, 128)
    depthwise("layers.4", 128, 256, 256)
    for block in range(6):
        depthwise(f"layers.5.layers.{block}", 256, 256, 256)
    depthwise("layers.6", 256, 256, 512)
    for block in range(2):
        depthwise(f"layers.7.layers.{block}", 256, 256, 256)
    cell("conv_sep", 512, 256, 1)
    cell("features.layers.0", 512, 1, 7, active=False)
    shapes["features.layers.2.weight"] = (512, 512)
    shapes.update(norm("features.layers.3", 512))
    return shapes


def vit_shapes(width: int, depth: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "mask_token": (1, 1, width),
        "pos_embed": (1, 144, width),
        "patch_embed.proj.weight": (width, 3, 9, 9),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(depth):
        at = f"blocks.{block}"
        shapes |= {f"{at}.{name}.{part}": (width,) for name in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {f"{at}.attn.qkv.weight": (3 * width, width), f"{at}.attn.proj.weight": (width, width)}
        shapes |= {f"{at}.mlp.fc1.weight": (4 * width, width), f"{at}.mlp.fc2.weight": (width, 4 * width)}
        shapes |= {f"{at}.attn.proj.bias": (width,), f"{at}.mlp.fc1.bias": (4 * width,), f"{at}.mlp.fc2.bias": (width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), **norm("feature.1", width), **norm("feature.3", 512)}
    return {**shapes, "feature.0.weight": (width, 144 * width), "feature.2.weight": (512, width)}


PUBLIC = {
    "r18": iresnet_shapes((2, 2, 2, 2)),
    "r34": iresnet_shapes((3, 4, 6, 3)),
    "r50": iresnet_shapes((3, 4, 14, 3)),
    "r100": iresnet_shapes((3, 13, 30, 3)),
    "r200": iresnet_shapes((6, 26, 60, 6)),
    "mbf": mobilefacenet_shapes(),
    "vit_t": vit_shapes(256, 12),
    "vit_s": vit_shapes(512, 12),
    "vit_b": vit_shapes(512, 24),
}


@pytest.mark.parametrize("arch", PUBLIC)
def test_names_and_shapes_are_those_of_the_public_checkpoints(arch: str) -> None:
    with torch.device("meta"):
        state = build_backbone(arch).state_dict()
    assert {name: tuple(values.shape) for name, values in state.items()} == PUBLIC[arch]


@pytest.mark.parametrize("arch", ["r18", "mbf", "vit_t"])
def test_a_public_checkpoint_loads_strictly_and_gives_512_features(arch: str) -> None:
    state = {name: torch.rand(shape) + 0.5 if shape else torch.tensor(1) for name, shape in PUBLIC[arch].items()}
    network = build_backbone(arch).eval()
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 112, 112)).shape == (1, 512)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_shapes_tell_the_architecture(arch: str) -> None:
    with torch.device("meta"):
        assert recognise_architecture(build_backbone(arch).state_dict()) == arch


@pytest.mark.parametrize("arch", PUBLIC)
def test_what_is_recognised_fits_no_other_architecture(arch: str) -> None:
    shapes = PUBLIC[arch]
    assert recognise_architecture({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}) == arch
    for other, row in ARCHITECTURES.items():
        if other != arch:
            with torch.device("meta"):
                state = build_backbone(other, 112 if row.narrow else None).state_dict()
            assert {name: tuple(values.shape) for name, values in state.items()} != shapes


def test_other_tensors_are_no_architecture() -> None:
    assert recognise_architecture({"weight": torch.zeros(3, 3)}) is None
    for weight in (torch.tensor(1.0), torch.zeros(0)):  # of no known shape, not even one with channels
        assert recognise_architecture({**dict.fromkeys(PUBLIC["r18"], weight)}) is None
    shapes = PUBLIC["r18"] | {"conv1.weight": (48, 3, 3, 3)}
    assert recognise_architecture({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}) is None


@pytest.mark.parametrize("arch", [name for name, row in ARCHITECTURES.items() if row.narrow])
@pytest.mark.parametrize("size", [32, 41])
def test_narrow_networks_take_any_size_and_learn_everywhere(arch: str, size: int) -> None:
    network = build_backbone(arch, size)
    assert map_side(size, strides_of(ARCHITECTURES[arch], size)) <= 7
    features = network(torch.randn(2, 3, size, size))  # [2, 512]
    assert features.shape == (2, 512) and features.dtype == torch.float32
    features[0].square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_strides_and_maps_worked_by_hand() -> None:
    assert [map_side(112, (1, 2, 2, 2, 2)), map_side(41, (2, 2, 2)), map_side(33, (2,))] == [7, 6, 17]
    assert strides_of(ARCHITECTURES["r50"], 112) == (1, 2, 2, 2, 2)
    assert strides_of(ARCHITECTURES["r10n"], 32) == (2, 1, 2, 2, 1)
    assert strides_of(ARCHITECTURES["r10n"], 112) == (2, 2, 2, 2, 1)


def test_the_last_scale_of_an_iresnet_is_fixed_to_one() -> None:
    last = build_backbone("r10n", 32).get_submodule("features")
    assert isinstance(last, torch.nn.BatchNorm1d)
    assert not last.weight.requires_grad and bool((last.weight == 1).all()) and last.eps == 1e-5


@pytest.mark.parametrize(("arch", "size", "word"), [("r51", 112, "r51"), ("r10n", 31, "31"), ("r50", 64, "64")])
def test_what_cannot_be_built_is_named(arch: str, size: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        build_backbone(arch, size)

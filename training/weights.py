"""Weights from files into networks: within limits, strictly, and with faults by name."""

from collections.abc import Mapping
from typing import Any

import torch

from dnnlib.errors import UserError
from torch_utils.spectra import SPECTRA
from training.generator import Generator

# The largest values that a file may ask for.
LIMITS = {
    "resolution": 2048,
    "z_dim": 8192,
    "w_dim": 8192,
    "channel_base": 1 << 20,
    "channel_max": 8192,
    "mapping_layers": 64,
}


def build_generator(kwargs: Mapping[str, Any], where: str) -> Generator:
    """The network on the meta device, without memory behind it, so that a hostile file cannot ask for much.

    Raises UserError, starting with `where`, for arguments that describe no generator.
    """
    try:
        for key, limit in LIMITS.items():
            if not 0 < kwargs[key] <= limit:
                raise ValueError(f"{key} {kwargs[key]}")
        if (
            kwargs["c_dim"] < 0
            or len(kwargs["spectra"]) > len(SPECTRA)
            or kwargs["channel_base"] < kwargs["resolution"]
        ):
            raise ValueError("c_dim, spectra or channel_base")
        with torch.device("meta"):
            return Generator(**kwargs)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: does not describe a generator ({error})") from error


def load_strictly(module: torch.nn.Module, state: dict[str, torch.Tensor], where: str, assign: bool = False) -> None:
    """Loads `state`; raises UserError that lists missing, unexpected and misshapen entries, the first few of each."""
    own = module.state_dict()
    faults = {
        "missing": sorted(set(own) - set(state)),
        "unexpected": sorted(set(state) - set(own)),
        "of another shape": sorted(name for name in set(own) & set(state) if own[name].shape != state[name].shape),
    }
    texts = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in faults.items()
        if names
    ]
    if texts:
        raise UserError(f"{where}: weights do not fit this network; {'; '.join(texts)}")
    module.load_state_dict(state, assign=assign)


def refuse_broken(state: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises UserError, starting with `where`, where a weight is not a finite number."""
    broken = sorted(name for name, tensor in state.items() if not bool(tensor.isfinite().all()))
    if broken:
        raise UserError(f"{where}: {len(broken)} weights hold NaN or infinity, the first is {broken[0]}")


# ----------------------------------------------------------------------------
# What the shapes of weights say about their network.


def describe_generator(state: Mapping[str, torch.Tensor], where: str) -> dict[str, Any]:
    """Constructor arguments of the Generator that has weights of these names and shapes; all but `clamp`.

    Raises UserError, starting with `where`, where there is no such generator.
    """
    try:
        sizes = resolutions_in(state, "synthesis.b", ".conv1.weight")
        widths = {size: state[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes}
        w_dim = state["synthesis.b4.conv1.affine.weight"].shape[1]
        embedding = state.get("mapping.embed.weight")
        return {
            "resolution": max(sizes),
            "z_dim": state["mapping.fc0.weight"].shape[1] - (w_dim if embedding is not None else 0),
            "c_dim": embedding.shape[1] if embedding is not None else 0,
            "w_dim": w_dim,
            **describe_widths(widths, where),
            "mapping_layers": count_layers(state),
            "spectra": {
                name: state[f"synthesis.b4.heads.{name}.weight"].shape[0]
                for name in SPECTRA
                if f"synthesis.b4.heads.{name}.weight" in state
            },
        }
    except (LookupError, ValueError) as error:
        raise UserError(f"{where}: not a StyleGAN2 generator ({error})") from error


def describe_discriminator(state: Mapping[str, torch.Tensor], where: str) -> dict[str, Any]:
    """Constructor arguments of the Discriminator likewise; all but `clamp` and `mbstd_group`."""
    try:
        sizes = resolutions_in(state, "b", ".conv1.weight")
        widths = {size: state[f"b{size}.conv0.weight"].shape[0] for size in sizes}
        widths[4] = state["b4.conv.weight"].shape[0]
        embedding = state.get("mapping.embed.weight")
        return {
            "resolution": max(sizes),
            "image_channels": state[f"b{max(sizes)}.fromrgb.weight"].shape[1],
            "c_dim": embedding.shape[1] if embedding is not None else 0,
            **describe_widths(widths, where),
            "mapping_layers": count_layers(state) if embedding is not None else 8,
            "residual": f"b{max(sizes)}.skip.weight" in state,
        }
    except (LookupError, ValueError) as error:
        raise UserError(f"{where}: not a StyleGAN2 discriminator ({error})") from error


def resolutions_in(state: Mapping[str, torch.Tensor], before: str, after: str) -> list[int]:
    """The numbers between `before` and `after` in names, ascending. Raises LookupError where there are none."""
    between = (
        name.removeprefix(before).removesuffix(after)
        for name in state
        if name.startswith(before) and name.endswith(after)
    )
    sizes = sorted(int(text) for text in between if text.isascii() and text.isdigit() and len(text) < 6)
    if not sizes or any(size < 4 or size & (size - 1) for size in sizes):
        raise LookupError(f"no weights {before}4{after} to {before}2048{after}")
    return sizes


def describe_widths(widths: Mapping[int, int], where: str) -> dict[str, int]:
    """Widths by resolution -> channel_base and channel_max of min(channel_base / resolution, channel_max)."""
    most = max(widths.values())
    base = max(size * width for size, width in widths.items())  # the least that gives them
    wrong = [size for size, width in widths.items() if width != min(base // size, most)]
    if wrong:
        raise UserError(f"{where}: {widths[wrong[0]]} channels at resolution {wrong[0]} are not a width of StyleGAN2's")
    return {"channel_base": base, "channel_max": most}


def count_layers(state: Mapping[str, torch.Tensor]) -> int:
    """Layers of the mapping network. At most LIMITS's."""
    names = (f"mapping.fc{index}.weight" for index in range(LIMITS["mapping_layers"] + 1))
    return sum(1 for name in names if name in state)

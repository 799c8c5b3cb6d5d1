"""Released pickles: StyleGAN2-ADA's and ArcBiFaceGAN's .pkl files, read as weights and names, never as programs.

Their networks are pickled by a persistence mechanism: a call of torch_utils.persistence._reconstruct_persistent_obj
with the source text of a module, the name of a class in it, and the attributes of the object. Here the text is not
looked at; class names, plain settings and tensors are, and all that no network needs is refused by its name.

Parameter names are the same there and here, but for the output heads: `torgb` is the VIS head, `toseg` the NIR head.

    python -m training.import_pkl network.pkl generator.safetensors
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib import console
from dnnlib.cli import Command
from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.feature_file import UNKNOWN_MODEL
from torch_utils.inert_pickle import Record, read
from torch_utils.inert_tensors import TENSOR_NAMES, TensorReader
from torch_utils.spectra import SPECTRA
from training.generator import Generator
from training.weights import (
    build_generator,
    describe_discriminator,
    describe_generator,
    load_strictly,
    refuse_broken,
)

PERSISTENT_OBJECT = "torch_utils.persistence._reconstruct_persistent_obj"
_ALLOWED = {
    *TENSOR_NAMES,
    *(PERSISTENT_OBJECT, "dnnlib.util.EasyDict", "collections.OrderedDict"),
    *("builtins.set", "builtins.frozenset", "__builtin__.set"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray"),
}
_PLAIN_MODULE = re.compile(r"torch\.nn\.modules\.[a-z]+\.[A-Z][A-Za-z0-9]*")

MAX_BYTES = 8 << 30
# A file can name the same thing again and again. The largest networks have some 100 modules, a module some 40 entries.
MAX_DEPTH, MAX_MODULES, MAX_ENTRIES = 12, 500, 200
HEADS = {"torgb": "vis", "toseg": "nir"}
GENERATORS, DISCRIMINATORS = ("G", "G_ema"), {"vis": "D", "nir": "D_NIR"}
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as Pillow's grey pictures

# Settings that shapes do not tell, and what our networks have. Others compute something else with the same weights.
_OURS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Generator": {"architecture": ("skip",), "use_noise": (True,)},
    "Discriminator": {"architecture": ("resnet", "orig"), "mbstd_num_channels": (1,)},
}
_LINEAR = ("affine", "embed", "skip", "out")  # layers without an activation; all others have lrelu
_MAPPING_LR = 0.01
_NESTED = ("mapping_kwargs", "synthesis_kwargs", "block_kwargs", "layer_kwargs", "epilogue_kwargs")
_PLAIN_TYPES = (type(None), bool, int, float, str)
_INT_SETTINGS = {"z_dim": "z_dim", "c_dim": "c_dim", "w_dim": "w_dim", "img_resolution": "resolution"}


@dataclass
class StubNetwork:
    """What a pickle holds of one network.

    state: its parameters and buffers by dotted name, as float32. settings: of each module by dotted name ('' is the
    network), its plain attributes and, where it has no such attribute, constructor arguments.
    """

    class_name: str
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


# ----------------------------------------------------------------------------
# Files -> stubs.


def is_pickle(path: StrPath) -> bool:
    """Whether a file's first bytes are those of a pickle of protocol 2 to 5. False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError:
        return False
    # The length in front of a safetensors header may begin with the same two bytes, but the header is behind it.
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") and head[8:] != b"{"


def read_pickle(path: StrPath, option: str) -> dict[str, StubNetwork]:
    """The networks of a released pickle by their names in it: those of G, G_ema, D and D_NIR that it holds.

    Nothing in the file is run. Raises UserError that names `option` and the file: missing, truncated, no pickle, or
    holding something that is not part of a network.
    """
    where = f"{option}: {path}"
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{where}: {size >> 30} GiB, which no released network has; refused")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    content = read(io.BytesIO(data), where, _is_allowed)
    if not isinstance(content, dict):
        raise UserError(f"{where}: a pickle, but not of StyleGAN2-ADA's networks; a dict of G, D and G_ema is needed")
    found = {name: content[name] for name in (*GENERATORS, *DISCRIMINATORS.values()) if _is_network(content.get(name))}
    tensors = TensorReader(where, len(data) * len(found))  # G and G_ema may be the same
    networks = {name: _network(value, tensors) for name, value in found.items()}
    if not networks:
        raise UserError(f"{where}: a pickle without a network of StyleGAN2-ADA's kind; G, D and G_ema are needed")
    return networks


def _is_allowed(name: str) -> bool:
    return name in _ALLOWED or _PLAIN_MODULE.fullmatch(name) is not None


def _is_network(value: Any) -> bool:
    return isinstance(value, Record) and value.name == PERSISTENT_OBJECT


def _network(record: Record, tensors: TensorReader) -> StubNetwork:
    class_name, _ = _opened(record, tensors.where)
    network = StubNetwork(class_name)
    for path, attributes in _modules(record, tensors.where):
        for kind in ("_parameters", "_buffers"):
            for name, value in _dict(attributes, kind, tensors.where).items():
                if value is not None:
                    network.state[f"{path}{name}"] = tensors.tensor(value).float()
        arguments = _dict(attributes, "_init_kwargs", tensors.where)
        network.settings[path.removesuffix(".")] = _flat(arguments, tensors.where) | _flat(attributes, tensors.where)
    return network


def _modules(record: Any, where: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """(dotted name with a dot behind it, attributes) of a module and all within it, without recursion."""
    waiting, seen = [("", record)], 1
    while waiting:
        path, value = waiting.pop()
        _, attributes = _opened(value, where)
        yield path, attributes
        inner = _dict(attributes, "_modules", where)
        seen += len(inner)
        if seen > MAX_MODULES or path.count(".") > MAX_DEPTH:
            raise UserError(f"{where}: modules within modules without an end; refused")
        waiting += [(f"{path}{name}.", module) for name, module in inner.items() if module is not None]


def _opened(value: Any, where: str) -> tuple[str, dict[Any, Any]]:
    """Class name and attributes of a persistent object or a plain torch.nn module."""
    if isinstance(value, Record):
        fields: dict[Any, Any] = {"class_name": value.name.rpartition(".")[2], "state": value.state}
        if value.name == PERSISTENT_OBJECT:
            fields = value.args[0] if len(value.args) == 1 and isinstance(value.args[0], dict) else {}
        name, state = fields.get("class_name"), fields.get("state")
        if isinstance(name, str) and isinstance(state, dict) and len(state) <= MAX_ENTRIES:
            return name, state
    raise UserError(f"{where}: a module in it is not written as StyleGAN2-ADA writes them; refused")


def _dict(attributes: Mapping[Any, Any], kind: str, where: str) -> dict[str, Any]:
    value = attributes.get(kind)
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES or not all(map(_is_name, value)):
        raise UserError(f"{where}: {kind} of a module is not a dict of names; refused")
    return value


def _is_name(value: Any) -> bool:
    """Whether it is a name as modules have them: it goes into messages."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_]{1,100}", value) is not None


def _flat(settings: Mapping[Any, Any], where: str, depth: int = 2) -> dict[str, Any]:
    """Plain values by name; those of nested arguments beside the others."""
    plain: dict[str, Any] = {}
    for name in _NESTED if depth else ():
        if settings.get(name) is not None:
            plain |= _flat(_dict(settings, name, where), where, depth - 1)
    values = {str(name): value for name, value in settings.items() if isinstance(value, _PLAIN_TYPES)}
    return plain | values


# ----------------------------------------------------------------------------
# Stubs -> our networks.


def import_generator(path: StrPath, option: str = "--gen-model") -> tuple[Generator, list[str]]:
    """The averaged generator of a released pickle, in float32, and lines that say what was taken from where.

    Raises UserError that names `option` and the file.
    """
    where = f"{option}: {path}"
    networks = read_pickle(path, option)
    name = next((name for name in reversed(GENERATORS) if name in networks), None)
    if name is None:
        raise UserError(f"{where}: holds {', '.join(networks)}, but no generator (G_ema or G)")
    generator, lines = build_imported(networks[name], f"{where}: {name}")
    return generator, [f"{path}: {name}: {line}" for line in lines]


def build_imported(network: StubNetwork, where: str) -> tuple[Generator, list[str]]:
    """A generator's stub -> ours, ready to draw, and lines that say what was done."""
    state, clamp, lines = generator_weights(network, where)
    generator = build_generator({**describe_generator(state, where), "clamp": clamp}, where)
    load_strictly(generator, state, where, assign=True)
    generator.metadata = {"recognition_model": UNKNOWN_MODEL, "feature_norm": None, "images_seen": None}
    kwargs = generator.init_kwargs
    size = f"{kwargs['resolution']}x{kwargs['resolution']}, z {kwargs['z_dim']}, c {kwargs['c_dim']}"
    return generator.eval().requires_grad_(False), [f"{size}, {len(state)} tensors", *lines]


def generator_weights(network: StubNetwork, where: str) -> tuple[dict[str, torch.Tensor], float | None, list[str]]:
    """A generator's stub -> weights by our names, its clamp, and lines that say what was done."""
    _check_settings(network, "Generator", where)
    rename = re.compile(rf"^(synthesis\.b\d+)\.({'|'.join(HEADS)})\.")
    state = {
        rename.sub(lambda found: f"{found[1]}.heads.{HEADS[found[2]]}.", name): tensor
        for name, tensor in network.state.items()
    }
    lines = []
    if not any(".heads.nir." in name for name in state):
        state |= _luminance_heads(state, where)
        lines.append(f"it has no NIR head, so NIR starts as the luminance of VIS, {LUMA} times red, green, blue")
    refuse_broken(state, where)
    described = describe_generator(state, where)
    _check_numbers(network, described, where)
    for name, spectrum in SPECTRA.items():
        channels = described["spectra"].get(name)
        if channels != spectrum.channels:
            raise UserError(f"{where}: its {name.upper()} heads draw {channels} channels, not {spectrum.channels}")
    return state, _clamp(network, where), lines


def discriminator_weights(network: StubNetwork, where: str) -> dict[str, torch.Tensor]:
    """A discriminator's stub -> weights by our names, which are the same."""
    _check_settings(network, "Discriminator", where)
    refuse_broken(network.state, where)
    _check_numbers(network, describe_discriminator(network.state, where), where)
    return network.state


def _luminance_heads(state: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """NIR heads whose picture is the luminance of VIS's: everything behind the style is linear in weight and bias."""
    heads = {}
    for name, tensor in state.items():
        if ".heads.vis." in name:
            if ".affine." not in name:
                if len(tensor) != len(LUMA):
                    raise UserError(f"{where}: its heads draw {len(tensor)} channels; red, green and blue are needed")
                tensor = torch.einsum("c,c...->...", tensor.new_tensor(LUMA), tensor)[None]
            heads[name.replace(".heads.vis.", ".heads.nir.")] = tensor.clone()
    return heads


# ----------------------------------------------------------------------------
# Settings.


def _check_settings(network: StubNetwork, kind: str, where: str) -> None:
    if network.class_name != kind:
        raise UserError(f"{where}: the network {ascii(network.class_name)[1:-1][:60]}, where a {kind} is needed")
    for path, settings in network.settings.items():
        wanted = {**_OURS[kind], "activation": ("linear",) if path.rpartition(".")[2] in _LINEAR else ("lrelu",)}
        if path == "mapping":
            wanted["lr_multiplier"] = (_MAPPING_LR,)
        for name in wanted:
            if name in settings and settings[name] not in wanted[name]:
                raise UserError(
                    f"{where}: {path or kind} has {name} {ascii(settings[name])[:60]}; this framework has "
                    f"{' or '.join(map(str, wanted[name]))}"
                )


def _check_numbers(network: StubNetwork, described: Mapping[str, Any], where: str) -> None:
    """What the network says of its sizes must be what its weights show."""
    own = network.settings.get("", {})
    for name, ours in _INT_SETTINGS.items():
        if name in own and ours in described and own[name] != described[ours]:
            raise UserError(
                f"{where}: says {name} {ascii(own[name])[:60]}, but its weights are of {described[ours]}; refused"
            )


def _clamp(network: StubNetwork, where: str) -> float | None:
    """conv_clamp, the same in all layers; None is no limit."""
    found = {settings["conv_clamp"] for settings in network.settings.values() if "conv_clamp" in settings}
    limits = found - {None}
    if len(limits) > 1 or not all(type(limit) in (int, float) and 0 < limit < float("inf") for limit in limits):
        raise UserError(f"{where}: conv_clamp is {sorted(map(ascii, found))}; one number above 0 is needed")
    return float(limits.pop()) if limits else None


# ----------------------------------------------------------------------------
# The command.


@click.command(cls=Command)
@click.argument("source", metavar="FILE.pkl")
@click.argument("target", metavar="FILE.safetensors")
def main(source: str, target: str) -> None:
    """Convert the generator of a StyleGAN2-ADA or ArcBiFaceGAN pickle into a safetensors file of this framework.

    The averaged generator (G_ema, or else G) is taken. Nothing in the pickle is run.
    """
    # Snapshots read pickles through this module.
    from training.snapshots import save_generator

    generator, lines = import_generator(source, "FILE.pkl")
    save_generator(target, generator, generator.metadata)
    for line in lines:
        console.tell(line)
    console.result({"path": target}, f"Written: {target}")


if __name__ == "__main__":
    main()

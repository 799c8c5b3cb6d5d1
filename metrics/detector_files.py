"""Files with image networks, as a user names them or as they were fetched, made into detectors.

Which network a file holds is told by its tensors: Inception-v3 and VGG16 by the names that the public files have, and
LPIPS's weights of VGG16's channels. Files of tensors (.pth, .pt, .safetensors) run nothing. A TorchScript archive, as
StyleGAN2-ADA's, is a program: it is loaded only where the user has stated its SHA-256 (FILE@sha256:HEX).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from dnnlib.errors import UserError
from dnnlib.files import require_file, sha256_bytes
from metrics import inception, public_files, resizing, vgg_lpips
from metrics.choices import OWN, PYTORCH_FID
from metrics.observers import Detector
from metrics.pictures import Rows
from torch_utils.inert_tensors import read_state

INCEPTION, VGG16, LPIPS = KINDS = ("inception", "vgg16", "lpips")  # of detectors
NEEDS = {INCEPTION: (INCEPTION,), VGG16: (VGG16,), LPIPS: (VGG16, LPIPS)}  # kind -> files, as public_files names them
SCRIPTED = {"no_output_bias": INCEPTION, "return_lpips": VGG16}  # a word that the program's call takes -> what it is
STATED = "@sha256:"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_BYTES = 1 << 30
OPTION = "--detector"


class _Form(NamedTuple):
    """A file of tensors. mark: the tensor by which it is known."""

    mark: str
    name: str
    build: Callable[[], nn.Module]


FORMS = {
    INCEPTION: _Form("Conv2d_1a_3x3.conv.weight", "inception-v3-2015", inception.Inception),
    VGG16: _Form("classifier.3.weight", "vgg16", vgg_lpips.VGG16),
    LPIPS: _Form("lin0.model.1.weight", "lpips-v0.1", vgg_lpips.Heads),
}


class DetectorFile(NamedTuple):
    """A network and where it comes from. holds: key of FORMS. scripted: it is a TorchScript program, with another
    interface, and VGG16's has LPIPS in it."""

    path: str
    holds: str
    sha256: str
    network: Any
    scripted: bool

    @property
    def name(self) -> str:
        return f"{FORMS[self.holds].name}-torchscript" if self.scripted else FORMS[self.holds].name


# ----------------------------------------------------------------------------
# Reading.


def read_detector(named: str, option: str = OPTION) -> DetectorFile:
    """The network of a file, on the CPU; named: its path, with or without @sha256:HEX behind it.

    Raises UserError: no such file, of another SHA-256, damaged, no network that is known here, or a program.
    """
    path, _, stated = named.partition(STATED)
    where = f"{option}: {path}"
    if STATED in named and not re.fullmatch("[0-9a-fA-F]{64}", stated):
        raise UserError(f"{where}: {STATED}{stated[:80]}: 64 hex digits are needed, as sha256sum prints them")
    require_file(path, where, "one with an image network (.pth, .safetensors, .pt) is needed")
    if Path(path).stat().st_size > MOST_BYTES:
        raise UserError(f"{where}: more than {MOST_BYTES >> 30} GiB; no network that is known here is so large")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from error
    digest = sha256_bytes(data)
    if stated and stated.lower() != digest:
        raise UserError(f"{where}: its SHA-256 is {digest}, not {stated.lower()}; fetch or copy it again")
    if _is_program(data):
        if not stated:
            raise UserError(
                f"{where}: a TorchScript archive, which is a program; if you trust where it comes from, say so by "
                f"{OPTION} {path}{STATED}{digest}"
            )
        return _load_program(path, data, digest, where)
    state = _read_tensors(path, data, where)
    holds = next((holds for holds, form in FORMS.items() if form.mark in state), None)
    if holds is None:
        known = ", ".join(public_files.FILES[name].file for name in FORMS)
        raise UserError(f"{where}: {len(state)} tensors of no network that is known here; {known} are")
    return DetectorFile(path, holds, digest, _filled(FORMS[holds], state, where), scripted=False)


def _read_tensors(path: str, data: bytes, where: str) -> dict[str, torch.Tensor]:
    if Path(path).suffix.lower() != ".safetensors":
        return read_state(data, where)
    try:
        return load_safetensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{where}: truncated or not a safetensors file ({error})") from error


def _filled(form: _Form, state: dict[str, torch.Tensor], where: str) -> nn.Module:
    """The network with these tensors, all of them; counters of batches, which older files lack, do not matter."""
    with torch.device("meta"):
        network = form.build()
    counter = "num_batches_tracked"
    wanted = {name: values for name, values in network.state_dict().items() if not name.endswith(counter)}
    given = {name: values for name, values in state.items() if not name.endswith(counter)}
    found = {name: _fault(given.get(name), wanted.get(name)) for name in {**wanted, **given}}
    if faults := [f"{name} {fault}" for name, fault in found.items() if fault]:
        raise UserError(f"{where}: not {form.name}: {len(faults)} tensors do not fit, the first: {faults[0]}")
    zero = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(counter)}
    whole = {name: values.to(torch.float32) for name, values in given.items()}
    network.load_state_dict({**whole, **zero}, assign=True)
    return network.eval().requires_grad_(False)


def _fault(given: torch.Tensor | None, wanted: torch.Tensor | None) -> str | None:
    """What is wrong with a tensor. Of one that does not belong there no number is looked at: a small file can hold
    many large views."""
    if given is None:
        return "is missing"
    if wanted is None:
        return "is not expected"
    if given.shape != wanted.shape:
        return f"is {tuple(given.shape)}, {tuple(wanted.shape)} is needed"
    if given.dtype not in FLOATS or not given.to(torch.float32).isfinite().all():
        return "holds NaN, infinity or no floating-point numbers"
    return None


def _is_program(data: bytes) -> bool:
    """Whether it is an archive with code in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any("/code/" in f"/{name}" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        return False


def _load_program(path: str, data: bytes, digest: str, where: str) -> DetectorFile:
    try:
        network: Any = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
        words = {argument.name for argument in network.forward.schema.arguments}
    except (RuntimeError, AttributeError) as error:
        raise UserError(f"{where}: a TorchScript archive that torch cannot load; fetch or copy it again") from error
    holds = next((holds for word, holds in SCRIPTED.items() if word in words), None)
    if holds is None:
        raise UserError(f"{where}: a program that is none of StyleGAN2-ADA's; one takes {' or '.join(SCRIPTED)}")
    return DetectorFile(path, holds, digest, network, scripted=True)


# ----------------------------------------------------------------------------
# Those that are at hand.


class AtHand:
    """Files that the user named, and those in the cache behind them.

    Raises UserError for a file that cannot be read, and for two that hold the same.
    """

    def __init__(self, named: Sequence[str]) -> None:
        self.files: dict[str, DetectorFile] = {}
        for name in named:
            file = read_detector(name)
            if file.holds in self.files:
                other = self.files[file.holds].path
                raise UserError(f"{OPTION}: {file.path}: holds {FORMS[file.holds].name}, as {other} does; name one")
            self.files[file.holds] = file

    def lacks(self, kind: str) -> list[str]:
        """Names of the files that a detector would need and that are not here."""
        program = VGG16 in self.files and self.files[VGG16].scripted
        needed = (VGG16,) if kind == LPIPS and program else NEEDS[kind]
        return [name for name in needed if name not in self.files and public_files.kept(name) is None]

    def detector(self, kind: str, metric: str, protocol: str, device: torch.device | str) -> Detector:
        """Raises UserError where its files are missing or damaged."""
        if missing := self.lacks(kind):
            raise UserError(f"--metrics: {metric} looks with {FORMS[missing[0]].name}: {public_files.way_to(*missing)}")
        files = [self._file(name) for name in NEEDS[kind] if not (name == LPIPS and self._file(VGG16).scripted)]
        return BUILDERS[kind](files, protocol, torch.device(device))

    def _file(self, name: str) -> DetectorFile:
        if name not in self.files:
            path = public_files.kept_at(name)
            self.files[name] = read_detector(str(path), "cache")
            if not self.files[name].sha256.startswith(public_files.FILES[name].sha256):
                raise UserError(f"cache: {path}: damaged; `python -m metrics.detectors fetch {name}` brings it again")
        return self.files[name]


# ----------------------------------------------------------------------------
# Detectors.


def _on(device: torch.device, file: DetectorFile) -> Any:
    network = file.network.to(device)
    return network if file.scripted else network.to(memory_format=torch.channels_last)


def _rows(features: torch.Tensor) -> Rows:
    return {"features": features.float().cpu().numpy()}


def _inception(files: Sequence[DetectorFile], protocol: str, device: torch.device) -> Detector:
    (file,) = files
    network, resize = _on(device, file), resizing.for_inception(protocol)
    if file.scripted and protocol == PYTORCH_FID:
        raise UserError(f"--resize: {protocol} takes grey levels in another way, and {file.path} brings its own")

    @torch.inference_mode()
    def look(images: torch.Tensor) -> Rows:
        if file.scripted:  # asked for probabilities it keeps the features for itself
            seen = _for_program(images.to(device), resize, protocol)
            features, probabilities = network(seen, return_features=True), network(seen, no_output_bias=True)
        else:
            features = network(resize.prepare(images.to(device)))
            probabilities = network.probabilities(features)
        return {**_rows(features), "probabilities": probabilities.float().cpu().numpy()}

    return Detector(INCEPTION, file.name, file.sha256, _resize_name(file, resize, protocol), look)


def _vgg16(files: Sequence[DetectorFile], protocol: str, device: torch.device) -> Detector:
    (file,) = files
    network, resize = _on(device, file), resizing.for_vgg(protocol)

    @torch.inference_mode()
    def look(images: torch.Tensor) -> Rows:
        if file.scripted:
            return _rows(network(_for_program(images.to(device), resize, protocol), return_features=True))
        return _rows(network(resize.prepare(images.to(device))))

    return Detector(VGG16, file.name, file.sha256, _resize_name(file, resize, protocol), look)


def _for_program(images: torch.Tensor, resize: resizing.Resize, protocol: str) -> torch.Tensor:
    """A program resizes in its own way what has another size than it wants, and normalises in any case."""
    return resizing.coloured(images if protocol == OWN else resize.resize(images.float()))


def _resize_name(file: DetectorFile, resize: resizing.Resize, protocol: str) -> str:
    return "torchscript" if file.scripted and protocol == OWN else resize.name


def _lpips(files: Sequence[DetectorFile], protocol: str, device: torch.device) -> Detector:
    """Pictures come two by two, and the rows are their distances. No protocol: pictures keep their size up to 256."""
    networks = [_on(device, file) for file in files]

    @torch.inference_mode()
    def look(images: torch.Tensor) -> Rows:
        if min(images.shape[2:]) < vgg_lpips.SMALLEST:
            least = vgg_lpips.SMALLEST
            raise UserError(f"--metrics: LPIPS sees nothing in pictures under {least} pixels; leave ppl out")
        seen = vgg_lpips.at_most(resizing.coloured(images.to(device).float()))  # [2 N, 3, h, w]
        if files[0].scripted:
            parts = networks[0](seen, resize_images=False, return_lpips=True)  # [2 N, D], whose distance is LPIPS
            found = (parts[::2] - parts[1::2]).square().sum(dim=1)
        else:
            seen = vgg_lpips.normalise(seen)
            found = vgg_lpips.lpips(networks[0], networks[1], seen[::2], seen[1::2])
        return {"distances": found.double().cpu().numpy()}  # [N]

    name, digest = "+".join(file.name for file in files), "+".join(file.sha256 for file in files)
    return Detector(LPIPS, name, digest, "mean-to-256", look)


Builder = Callable[[Sequence[DetectorFile], str, torch.device], Detector]
BUILDERS: dict[str, Builder] = {INCEPTION: _inception, VGG16: _vgg16, LPIPS: _lpips}

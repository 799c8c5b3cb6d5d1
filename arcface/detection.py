"""Face detection with MTCNN (Zhang et al. 2016): an image pyramid, three networks, a typed result per picture.

Pictures of one size go through the pyramid together. Tiny ones are enlarged before, very large ones shrunk, and faint
ones (near-infrared captures are often underexposed) stretched in contrast. The weights are those that the PyPI wheel
facenet-pytorch carries; the package is found without importing it. A picture without a face is a result with a reason,
never an exception (PAIN_POINTS.md, row 15).
"""

from __future__ import annotations

import importlib.util
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arcface.boxes import regress, squared, suppress_flat
from arcface.mtcnn import OutputNet, ProposalNet, RefineNet
from arcface.weights import fingerprint, read_state_dict
from dnnlib.errors import UserError
from dnnlib.files import StrPath

SMALLEST_SIDE = 160  # pictures with a shorter side than this are enlarged to it
LARGEST_SIDE = 1024  # pictures with a longer side than this are shrunk to it
FAINT_RANGE = 64  # pictures whose grey levels span less than this are stretched
LARGEST_ASPECT = 8  # longer side over shorter side
BATCH_PIXELS = 64 * 160 * 160  # pixels that go through the pyramid at once
MOST_CANDIDATES = 1000  # windows of one picture that may enter one suppression, the best ones

LARGEST_WEIGHTS = 64 << 20  # bytes of one network's file; the largest real one has 1.6 million

PYRAMID_STEP = 0.709
PROPOSAL_WINDOW, PROPOSAL_STRIDE = 12, 2
THRESHOLDS = (0.6, 0.7, 0.7)  # probability that a window needs to pass each network


@dataclass(frozen=True, eq=False)
class Detection:
    """What was found in one picture, in its own pixels, (0, 0) being the centre of the first.

    box: float32 [4], x0 y0 x1 y1 of the largest face. probability: of that face, 0 where there is none.
    points: float32 [5, 2], x y of the eyes (the one on the picture's left first), the nose, the mouth's corners.
    count: how many faces there are. reason: why there is none, or None; one of the constants below.
    """

    box: np.ndarray | None = None
    probability: float = 0.0
    points: np.ndarray | None = None
    count: int = 0
    reason: str | None = None


NO_FACE = "no face"
UNLIKELY_FACE = "no face is likely enough"
EMPTY_PICTURE = "empty picture"
ELONGATED_PICTURE = "too elongated for a portrait"


class _Windows(NamedTuple):
    """Candidate windows of a batch, in the order of their pictures."""

    boxes: torch.Tensor  # float [K, 4]
    shifts: torch.Tensor  # float [K, 4], what the network would move the corners by, in sides
    scores: torch.Tensor  # float [K]
    pictures: torch.Tensor  # long [K], index in the batch

    def take(self, indices: torch.Tensor) -> _Windows:
        return _Windows(*(part[indices] for part in self))


class FaceDetector:
    """MTCNN on one device.

    Args:
        min_face: shorter side of the smallest face that is looked for, in pixels of the resized picture.
        min_probability: faces that are less likely do not count.
    """

    def __init__(
        self,
        proposal: ProposalNet,
        refine: RefineNet,
        output: OutputNet,
        min_face: float = 20.0,
        device: str = "cpu",
        min_probability: float = 0.0,
    ) -> None:
        self.device = torch.device(device)
        self.min_face = min_face
        self.min_probability = min_probability
        self.proposal = proposal.to(self.device).eval()
        self.refine = refine.to(self.device).eval()
        self.output = output.to(self.device).eval()

    @classmethod
    def load(
        cls, path: StrPath | None = None, min_face: float = 20.0, device: str = "cpu", min_probability: float = 0.0
    ) -> FaceDetector:
        """Builds a detector with trained weights.

        Args:
            path: folder that holds pnet.pt, rnet.pt and onet.pt, or a facenet-pytorch wheel; None: the
                installed facenet-pytorch package.

        Raises:
            UserError: the weights are not there or are not MTCNN's.
        """
        networks = (ProposalNet(), RefineNet(), OutputNet())
        for network, (where, data) in zip(networks, _weight_files(path), strict=True):
            _fill(network, data, where)
        return cls(*networks, min_face=min_face, device=device, min_probability=min_probability)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the weights of the three networks."""
        parts = {"pnet": self.proposal, "rnet": self.refine, "onet": self.output}
        return fingerprint({f"{n}.{key}": v for n, part in parts.items() for key, v in part.state_dict().items()})

    def detect(self, images: torch.Tensor | np.ndarray | Sequence[torch.Tensor | np.ndarray]) -> list[Detection]:
        """Finds the largest face of each picture.

        Args:
            images: uint8 [N, C, H, W], or a sequence of [C, H, W] of any sizes; C 1 or 3 (RGB).

        Returns:
            One Detection a picture, in order.
        """
        pictures = [_as_tensor(image) for image in images]
        sizes = [tuple(picture.shape) for picture in pictures]
        results: list[Detection | None] = [_unusable(picture) for picture in pictures]
        usable = [index for index, result in enumerate(results) if result is None]
        for indices in _batches({index: _working_size(*sizes[index]) for index in usable}):
            pixels = torch.stack([self._resized(pictures[index]) for index in indices])
            for index, found in zip(indices, self._detect_alike(pixels), strict=True):
                results[index] = _in_own_pixels(found, sizes[index], tuple(pixels.shape[2:]))
        return [result for result in results if result is not None]

    def _resized(self, picture: torch.Tensor) -> torch.Tensor:
        """uint8 [C, H, W] of any size -> float32 [3, h, w] of its working size, stretched in contrast where faint."""
        size = _working_size(*picture.shape)[1:]
        if size[0] < picture.shape[1]:  # in bytes, on the CPU: floats of a large capture would be a gigabyte
            picture = F.interpolate(picture.cpu()[None], size, mode="bilinear", antialias=True)[0]
        pixels = picture.to(self.device, torch.float32)
        if size != tuple(picture.shape[1:]):
            pixels = F.interpolate(pixels[None], size, mode="bicubic", align_corners=False)[0].clamp(0, 255)
        return _stretched(pixels).expand(3, -1, -1)

    @torch.inference_mode()
    def _detect_alike(self, pixels: torch.Tensor) -> list[Detection]:
        """Pictures of one size, float [N, 3, H, W] in 0 to 255."""
        windows, points = self._output(pixels, self._refine(pixels, self._propose(pixels)))
        return _largest_faces(windows, points, len(pixels), self.min_probability)

    # ------------------------------------------------------------------------
    # The three stages of the cascade.

    def _propose(self, pixels: torch.Tensor) -> _Windows:
        """Windows that P-net likes, over all levels of the pyramid of float [N, 3, H, W] in 0 to 255."""
        height, width = pixels.shape[2:]
        levels = []
        for scale in _pyramid(min(height, width), self.min_face):
            level = F.adaptive_avg_pool2d(pixels, (int(height * scale + 1), int(width * scale + 1)))
            probability, shift = self.proposal(_normalised(level))  # [N, h, w], [N, 4, h, w]
            picture, row, column = (probability >= THRESHOLDS[0]).nonzero(as_tuple=True)  # [K] each
            corner = torch.stack([column, row], dim=1) * PROPOSAL_STRIDE  # [K, 2]
            low = ((corner + 1) / scale).floor()
            high = ((corner + PROPOSAL_WINDOW) / scale).floor()
            boxes, scores = torch.cat([low, high], dim=1), probability[picture, row, column]
            windows = _Windows(boxes, shift[picture, :, row, column], scores, picture)
            levels.append(_survivors(windows, 0.5))
        merged = _Windows(*(torch.cat(parts) for parts in zip(*levels, strict=True)))
        merged = _survivors(merged.take(merged.pictures.argsort(stable=True)), 0.7)
        return merged._replace(boxes=squared(regress(merged.boxes, merged.shifts)))

    def _refine(self, pixels: torch.Tensor, windows: _Windows) -> _Windows:
        """Windows that R-net confirms."""
        windows, crops = _crops(pixels, windows, 24)  # [K, 3, 24, 24]
        scores, shifts = self.refine(_normalised(crops))  # [K], [K, 4]
        windows = windows._replace(scores=scores, shifts=shifts)
        windows = _survivors(windows.take((scores > THRESHOLDS[1]).nonzero().flatten()), 0.7)
        return windows._replace(boxes=squared(regress(windows.boxes, windows.shifts, edge=1.0)))

    def _output(self, pixels: torch.Tensor, windows: _Windows) -> tuple[_Windows, torch.Tensor]:
        """Faces that O-net confirms, and their points [K, 5, 2]."""
        windows, crops = _crops(pixels, windows, 48)  # [K, 3, 48, 48]
        scores, shifts, places = self.output(_normalised(crops))  # [K], [K, 4], [K, 10]
        size = windows.boxes[:, None, 2:] - windows.boxes[:, None, :2] + 1  # [K, 1, 2]
        places = places.unflatten(1, (2, 5)).transpose(1, 2)  # [K, 5, 2]
        points = windows.boxes[:, None, :2] - 1 + places * size  # [K, 5, 2]
        boxes = regress(windows.boxes, shifts, edge=1.0)
        faces = _Windows(boxes, shifts, scores, windows.pictures)
        passed = (scores > THRESHOLDS[2]).nonzero().flatten()
        faces, points = faces.take(passed), points[passed]
        keep = suppress_flat(faces.boxes, faces.scores, faces.pictures, 0.7, relative_to="smaller", edge=1.0)
        return faces.take(keep), points[keep]


# ----------------------------------------------------------------------------
# Parts of the stages.


def _pyramid(shorter_side: int, min_face: float) -> Iterator[float]:
    """Scales from the one where min_face fills P-net's window down to where the picture does."""
    scale = PROPOSAL_WINDOW / min_face
    while shorter_side * scale >= PROPOSAL_WINDOW:
        yield scale
        scale *= PYRAMID_STEP


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    """What the networks take; in channels_last, where max-pooling is four times as fast on a CPU."""
    return ((pixels - 127.5) / 128).contiguous(memory_format=torch.channels_last)


def _survivors(windows: _Windows, threshold: float) -> _Windows:
    """Non-maximum suppression within each picture; of very many windows only the best enter."""
    if len(windows.scores) > MOST_CANDIDATES:
        windows = windows.take(_best_of_each(windows.scores, windows.pictures, MOST_CANDIDATES))
    return windows.take(suppress_flat(windows.boxes, windows.scores, windows.pictures, threshold))


def _best_of_each(scores: torch.Tensor, pictures: torch.Tensor, limit: int) -> torch.Tensor:
    """Indices of each picture's `limit` best windows, in the order given."""
    order = scores.argsort(descending=True, stable=True)
    order = order[pictures[order].argsort(stable=True)]  # by picture, best first
    _, counts = pictures.unique_consecutive(return_counts=True)
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[rank < limit].sort().values


def _crops(pixels: torch.Tensor, windows: _Windows, side: int) -> tuple[_Windows, torch.Tensor]:
    """Area-averaged crops float [K, 3, side, side]; windows that lie outside the picture are dropped.

    A window's pixels are counted from 1, as in the networks' MATLAB training: from x0 to x1 inclusive.
    """
    height, width = pixels.shape[2:]
    corners = windows.boxes.trunc().long()
    low = corners[:, :2].clamp(min=1) - 1  # [K, 2]
    high = torch.minimum(corners[:, 2:], torch.tensor([width, height], device=corners.device))
    inside = (high > low).all(dim=1).nonzero().flatten()
    edges = torch.cat([low, high], dim=1)[inside].tolist()
    kept = windows.take(inside)
    crops = pixels.new_empty(len(edges), 3, side, side)
    for crop, picture, (x0, y0, x1, y1) in zip(crops, kept.pictures.tolist(), edges, strict=True):
        crop.copy_(F.adaptive_avg_pool2d(pixels[picture, :, y0:y1, x0:x1], side))
    return kept, crops


def _largest_faces(faces: _Windows, points: torch.Tensor, count: int, min_probability: float) -> list[Detection]:
    """One result a picture: its largest face that is likely enough."""
    boxes, places = faces.boxes.cpu().numpy(), points.cpu().numpy()  # [K, 4], [K, 5, 2]
    scores, pictures = faces.scores.tolist(), faces.pictures.cpu().numpy()
    likely = faces.scores.cpu().numpy() >= min_probability
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    results = []
    for picture in range(count):
        own = np.flatnonzero((pictures == picture) & likely)
        if len(own):
            best = own[area[own].argmax()]
            results.append(Detection(boxes[best], scores[best], places[best], len(own)))
        else:
            results.append(Detection(reason=UNLIKELY_FACE if (pictures == picture).any() else NO_FACE))
    return results


# ----------------------------------------------------------------------------
# Pictures of any size.


def _as_tensor(image: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Raises ValueError for what is no picture at all, a fault of the caller."""
    picture = image if isinstance(image, torch.Tensor) else torch.from_numpy(np.require(image, requirements="W"))
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or picture.dtype != torch.uint8:
        raise ValueError(f"pictures must be uint8 [1 or 3, H, W], not {picture.dtype} {tuple(picture.shape)}")
    return picture


def _unusable(picture: torch.Tensor) -> Detection | None:
    """The result for a picture that is not looked at."""
    short, long = sorted(picture.shape[1:])
    if short == 0:
        return Detection(reason=EMPTY_PICTURE)
    return Detection(reason=ELONGATED_PICTURE) if long > LARGEST_ASPECT * short else None


def _working_size(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """Channels, height and width that a picture is looked at with: large enough, or else not too large."""
    zoom = max(min(1.0, LARGEST_SIDE / max(height, width)), SMALLEST_SIDE / min(height, width))
    return channels, round(height * zoom), round(width * zoom)


def _stretched(pixels: torch.Tensor) -> torch.Tensor:
    """float [C, H, W], its levels (but for the outermost hundredths) spread over 0 to 255 where they span few."""
    sample = pixels[:, ::4, ::4].flatten()
    low, high = torch.quantile(sample, torch.tensor([0.01, 0.99], device=sample.device)).tolist()
    if not 2 <= high - low < FAINT_RANGE:
        return pixels
    return ((pixels - low) * (255 / (high - low))).clamp(0, 255)


def _batches(sizes: Mapping[int, tuple[int, ...]]) -> Iterator[list[int]]:
    """Keys of the pictures of one size, as many as BATCH_PIXELS allows."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, size in sizes.items():
        alike.setdefault(size[1:], []).append(index)
    for (height, width), indices in alike.items():
        count = max(1, BATCH_PIXELS // (height * width))
        for start in range(0, len(indices), count):
            yield indices[start : start + count]


def _in_own_pixels(found: Detection, own: tuple[int, ...], working: tuple[int, ...]) -> Detection:
    """A result of the resized picture, in pixels of the picture [C, H, W] that it was made from."""
    if found.box is None or found.points is None:
        return found
    ratio = np.array([own[2] / working[1], own[1] / working[0]], np.float32)  # x, y
    box, points = ((places.reshape(-1, 2) + 0.5) * ratio - 0.5 for places in (found.box, found.points))
    return replace(found, box=box.ravel(), points=points)


# ----------------------------------------------------------------------------
# Weights.


def _weight_files(path: StrPath | None) -> Iterator[tuple[str, bytes]]:
    """('--detector: file', bytes) of P-net, R-net and O-net."""
    option = "--detector"
    names = ("pnet.pt", "rnet.pt", "onet.pt")
    advice = "pip install --no-deps facenet-pytorch brings them, or name a folder or wheel that has them"
    folder = _installed_folder() if path is None else Path(path)
    if folder is None:
        raise UserError(f"{option}: MTCNN's weights are not installed; {advice}")
    try:
        if folder.suffix == ".whl":
            with zipfile.ZipFile(folder) as wheel:
                members = [wheel.open(f"facenet_pytorch/data/{name}") for name in names]
                contents = [member.read(LARGEST_WEIGHTS) for member in members]
        else:
            contents = [(folder / name).read_bytes() for name in names]
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option}: {folder}: does not hold {', '.join(names)} ({reason}); {advice}") from error
    for name, data in zip(names, contents, strict=True):
        yield f"{option}: {folder / name}", data


def _installed_folder() -> Path | None:
    """The data folder of facenet-pytorch, which is looked up but not imported (its torch is too old)."""
    spec = importlib.util.find_spec("facenet_pytorch")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"


def _fill(network: nn.Module, data: bytes, where: str) -> None:
    state = read_state_dict(data, where)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{where}: not the weights of MTCNN's {type(network).__name__}") from error

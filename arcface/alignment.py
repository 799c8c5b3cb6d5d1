"""Alignment by five points: the similarity that brings eyes, nose and mouth onto a template, and the picture under it.

Points are x, y in pixels, counted so that the CENTRE of the upper left pixel is (0, 0): the convention of OpenCV, of
ArcFace's template and of the benchmarks that were cut with it. Templates are kept as shares of the side of a square,
(0, 0) its upper left corner, so that they serve any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from PIL import Image

from arcface.preprocess import Frame
from dnnlib.errors import UserError

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "area": Image.Resampling.BOX}

# ----------------------------------------------------------------------------
# Templates.


@dataclass(frozen=True, eq=False)
class Template:
    """Where the five points of an aligned face lie, as shares of the picture's side, float64 [5, 2]."""

    name: str
    points: np.ndarray

    def at(self, resolution: int) -> np.ndarray:
        """The points in pixels of a square picture of this side, float64 [5, 2]."""
        return self.points * resolution - 0.5

    def record(self) -> dict[str, Any]:
        """As dataset.json and the headers of models name it; `template_of` reads it."""
        return {"alignment": self.name, "alignment_points": self.points.tolist()}


# Eyes (the one on the picture's left first), nose, corners of the mouth in 112x112 pixels (Deng et al. 2019, ArcFace).
_ARCFACE_PIXELS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# The portrait square in pixels of the ArcFace square: its side, and its upper left corner.
_PORTRAIT_SIDE, _PORTRAIT_CORNER = 160, (-24, -30)

ARCFACE_TEMPLATE = Template("arcface_112", (_ARCFACE_PIXELS + 0.5) / 112)

PORTRAIT_TEMPLATE = Template("portrait", (_ARCFACE_PIXELS + 0.5 - _PORTRAIT_CORNER) / _PORTRAIT_SIDE)
"""The whole head with hair and chin, for generation: ArcFace's points in a square 160/112 times as wide.

The eyes of the template are 35 pixels apart, 63 mm in a face. A head reaches about 115 mm above and below its eyes, so
with 20 mm of hair it goes from 24 pixels above the ArcFace square to 4 below it, and is 106 wide with its ears. The
portrait leaves 6 pixels above, 14 below and 27 at the sides for larger hair, pitch and neck. (FFHQ's rule gives 147
pixels for these points, and often cuts the hair.) The eyes lie at half the height. At 160x160 the ArcFace square is
112x112 whole pixels of the portrait, at 256x256 it is 179.2 of them: recognition models see no enlarged pictures.
"""

TEMPLATES = {template.name: template for template in (ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE)}


def template_of(description: Any, where: str = "--data: dataset.json") -> Template | None:
    """The template that a dataset.json or a model's header names in `alignment` and `alignment_points`; None: not
    aligned, or not known.

    Raises UserError, starting with `where`, where the points are not five pairs of numbers.
    """
    description = description if isinstance(description, dict) else {}
    name, points = description.get("alignment"), description.get("alignment_points")
    if points is None:
        return TEMPLATES.get(name) if isinstance(name, str) else None
    try:
        array = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != (5, 2) or not np.isfinite(array).all() or isinstance(fit(array, array), PointsFault):
        raise UserError(f"{where}: alignment_points are not the five points of a face, [x, y] each")
    return Template(ascii(name)[1:41].rstrip("'") if isinstance(name, str) else "unnamed", array)


# ----------------------------------------------------------------------------
# Similarities.


@dataclass(frozen=True, eq=False)
class Similarity:
    """Rotation, uniform scale and shift: matrix float64 [2, 3] takes source pixels to target pixels."""

    matrix: np.ndarray

    @property
    def scale(self) -> float:
        """Target pixels a source pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def __call__(self, points: np.ndarray | tuple[float, float]) -> np.ndarray:
        """Points [..., 2] in target pixels."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> Similarity:
        back = np.linalg.inv(self.matrix[:, :2])
        return Similarity(np.column_stack([back, -back @ self.matrix[:, 2]]))

    def then(self, after: Similarity) -> Similarity:
        """This one first, `after` behind it: pictures are resampled once, under the product."""
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        return Similarity(np.column_stack([linear, after(self.matrix[:, 2])]))


class PointsFault(Enum):
    """Why five points are no face that can be aligned; the value is a sentence's end for people."""

    NOT_FINITE = "the points are not finite numbers"
    EQUAL = "the points lie on one spot"
    COLLINEAR = "the points lie on one line"
    MIRRORED = "the points are those of a mirrored face"


def umeyama(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity that brings `source` nearest to `target` in the sum of squared distances.

    Umeyama 1991, equations 40 to 43: never a reflection, also where a reflection would come nearer.

    Args:
        source, target: float [N, 2], N at least 2, not all of `source` equal.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    centre, aim = source.mean(axis=0), target.mean(axis=0)
    spread = ((source - centre) ** 2).sum(axis=1).mean()
    covariance = (target - aim).T @ (source - centre) / len(source)  # [2, 2], equation 38
    u, d, vt = np.linalg.svd(covariance)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])  # S of equations 39 and 43
    linear = (u * sign) @ vt * (d @ sign / spread)  # c R, equations 40 and 42
    return Similarity(np.column_stack([linear, aim - linear @ centre]))  # t, equation 41


def fit(points: np.ndarray, target: np.ndarray) -> Similarity | PointsFault:
    """The similarity from a face's points [5, 2] to a template's, or why there is none that shows a face."""
    points = np.asarray(points, np.float64)
    if not np.isfinite(points).all() or np.abs(points).max() > 1e6:
        return PointsFault.NOT_FINITE
    centred = points - points.mean(axis=0)
    long, short = np.linalg.svd(centred, compute_uv=False)
    if long < 1e-3:
        return PointsFault.EQUAL
    if short < 1e-3 * long:
        return PointsFault.COLLINEAR
    if np.linalg.det((target - target.mean(axis=0)).T @ centred) <= 0:
        return PointsFault.MIRRORED
    return umeyama(points, target)


def between(source: Template, source_resolution: int, target: Template, target_resolution: int) -> Similarity:
    """From pixels of a picture aligned to `source` to pixels of one aligned to `target`.

    Exact between 'arcface_112' and 'portrait', which are one template in two squares; else the nearest similarity.
    """
    return umeyama(source.at(source_resolution), target.at(target_resolution))


# ----------------------------------------------------------------------------
# What a model sees of pictures that are aligned otherwise than those that it was trained on.

_ALIKE = 1e-4  # of a side, a hundredth of a pixel at 112
_WIDEST = 4.0  # sides of a picture; far more than the frame of any template of faces


def frame_between(pictures: Template | None, model: Template | None) -> Frame | None:
    """The square of pictures aligned to `pictures` in which the points lie as `model` has them.

    Scale and shift that bring the points nearest to the model's, without rotation: faces stand upright in both. Exact
    between 'arcface_112' and 'portrait'. None: all of a picture, because both are alike or one is not known.

    Raises UserError for templates that have no such square.
    """
    if pictures is None or model is None or np.abs(pictures.points - model.points).max() < _ALIKE:
        return None
    centre, aim = pictures.points.mean(axis=0), model.points.mean(axis=0)
    spread = ((pictures.points - centre) ** 2).sum()
    scale = ((pictures.points - centre) * (model.points - aim)).sum() / spread  # sides of the model's input a picture's
    if not 1 / _WIDEST <= scale <= _WIDEST:
        raise UserError(
            f"alignment: the pictures are aligned as {pictures.name}, and no square of them shows a face as "
            f"{model.name}, which the model expects; prepare them with dataset_tool.py prepare --align"
        )
    left, top = centre - aim / scale
    return Frame(float(left), float(top), float(1 / scale))


def sight(pictures: Template | None, model: Template | None) -> str | None:
    """A line that tells people what the model sees; None where that is as it should be."""
    if pictures is None or model is None:
        if model is not None:
            return f"The model expects {model.name}, how the pictures are aligned is not known: it sees them whole"
        return None
    frame = frame_between(pictures, model)
    if frame is None:
        return None
    left, top, side = (f"{value:.0%}" for value in frame)
    beyond = min(frame.left, frame.top) < -_ALIKE or max(frame.left, frame.top) + frame.side > 1 + _ALIKE
    return (
        f"Pictures are aligned as {pictures.name}, the model as {model.name}: it sees the square of {side} of their "
        f"side at ({left}, {top}){', beyond their border' if beyond else ''}"
    )


# ----------------------------------------------------------------------------
# Pictures.

_FINE = 3  # samples a target pixel along each axis, before the filter averages them
_RIM = 3  # target pixels around the square that the filter looks at


def warp(image: np.ndarray, transform: Similarity, resolution: int, filter: str = "lanczos") -> np.ndarray:
    """The square picture that `transform` brings into [0, resolution): antialiased, sub-pixel exact, the same anywhere.

    The picture is taken for a continuous surface (Lanczos), sampled three times as finely as the target needs along
    the target's own axes, and averaged by the filter. Where it is enlarged there is nothing to average away, and
    'lanczos' samples it once. Outside, the picture's border goes on: its mirror image would show parts of faces twice.

    Args:
        image: uint8 [H, W, C], C 1 or 3.
        transform: from pixels of the picture to pixels of the result.
        resolution: side of the result.
        filter: 'lanczos' (sharp) or 'area' (the mean over each target pixel).

    Returns:
        uint8 [resolution, resolution, C].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"image must be uint8 [H, W, 1 or 3], not {image.dtype} {image.shape}")
    back = transform.inverse()
    step = back.scale  # source pixels a target pixel
    linear = back.matrix[:, :2]
    offset = back.matrix[:, 2] + 0.5 - linear.sum(axis=1) * 0.5  # from now on (0, 0) is the picture's corner

    # Very large pictures: whole blocks, none wider than a third of a target pixel.
    block = max(1, int(step / _FINE))
    if block > 1:
        image = _as_array(_as_image(image).reduce(block))
        linear, offset, step = linear / block, offset / block, step / block

    # The part that is seen, and finer where it is not finer than the target already.
    image, corner = _part(image, linear, offset, resolution)
    offset = offset - corner
    picture = _as_image(image)
    if step < 2:
        picture = picture.resize((_FINE * picture.width, _FINE * picture.height), Image.Resampling.LANCZOS)
        linear, offset = linear * _FINE, offset * _FINE

    # Samples along the target's axes, with a rim, and the filter over them.
    fine = 1 if step <= 1 + 1e-9 and filter == "lanczos" else _FINE
    size = resolution + 2 * _RIM
    (a, b), (c, d) = linear / fine
    x, y = offset - linear.sum(axis=1) * _RIM
    picture = picture.transform(
        (size * fine, size * fine), Image.Transform.AFFINE, (a, b, x, c, d, y), Image.Resampling.BICUBIC
    )
    picture = picture.resize((size, size), FILTERS[filter]).crop((_RIM, _RIM, size - _RIM, size - _RIM))
    return _as_array(picture)


def share_outside(transform: Similarity, shape: tuple[int, ...], resolution: int) -> float:
    """How much of the target square shows nothing of a picture [H, W, ...]: 0 to 1, on a grid of 64x64 places."""
    places = (np.arange(64) + 0.5) / 64 * resolution - 0.5
    seen = transform.inverse()(np.stack(np.meshgrid(places, places), axis=-1))  # [64, 64, 2], x y
    inside = ((seen >= -0.5) & (seen <= np.array(shape[1::-1]) - 0.5)).all(axis=-1)
    return 1 - float(inside.mean())


def _part(
    image: np.ndarray, linear: np.ndarray, offset: np.ndarray, resolution: int, margin: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels under the target square, its rim and a margin for the filters; and where they start, int [2]."""
    near, far = -_RIM, resolution + _RIM
    ends = np.array([[near, near], [near, far], [far, near], [far, far]]) @ linear.T + offset  # [4, 2]
    low = np.floor(ends.min(axis=0)).astype(np.int64) - margin
    high = np.ceil(ends.max(axis=0)).astype(np.int64) + margin
    columns, rows = (
        np.arange(start, stop).clip(0, size - 1)
        for start, stop, size in zip(low, high, (image.shape[1], image.shape[0]), strict=True)
    )
    return image[np.ix_(rows, columns)], low


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _as_array(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1)

"""How well two pictures of one scene lie on each other where their grey values differ: a visible and an infrared one.

What the spectra share are edges. Lamp and skin change their height and even their sign, not their place, nor the line
along which they run. So a picture is made a field that knows no contrast: a gradient g, as a complex number, becomes
g^2 / |g|, which is the same for g and -g; and it is taken in units of its neighbourhood's, so that an eyelid counts as
much as a collar (doubled angles: Granlund 1978). The correlation of two such fields is what orientations agree in.
Where it peaks, over shifts of one picture, is how far the two lie apart; at no shift it says how well they agree.

Pictures are float32 [N, H, W], grey, from 0 to 255, on any device; each has its own result.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURHOOD = 7  # pixels along each side, whose gradients are the unit of the middle's
FAINT = 4.0  # grey levels a pixel: gradients of a neighbourhood well under it are noise
TAPER = 0.1  # of a side, at each end: there the field fades out, for a shift brings in what the other does not show
REFINEMENTS = 3
BINS = 16  # of grey values, for the mutual information


def grey(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] -> float32 [N, H, W]: of colours red, which lies next to the infrared. Skin and its shadows
    look there most like it: on 32x32 faces the shift's error is a quarter less than that of luma."""
    return images[:, 0].float()


# ----------------------------------------------------------------------------
# Orientation.


def orientation(pictures: Tensor) -> Tensor:
    """complex64 [N, H, W]: at each pixel the gradient's strength in its neighbourhood, and twice its angle."""
    padded = functional.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down = _across(padded[:, 2:] - padded[:, :-2], dim=2) / 2  # [N, H, W]
    right = _across(padded[:, :, 2:] - padded[:, :, :-2], dim=1) / 2  # [N, H, W]
    squared = down.square() + right.square()
    reach = NEIGHBOURHOOD // 2
    around = functional.pad(squared[:, None], (reach,) * 4, mode="replicate")
    around = functional.avg_pool2d(functional.avg_pool2d(around, (NEIGHBOURHOOD, 1), 1), (1, NEIGHBOURHOOD), 1)[:, 0]
    weight = 1 / (squared * (around + FAINT**2)).sqrt().clamp(min=1e-6)
    return torch.complex((right.square() - down.square()) * weight, 2 * right * down * weight)


def _across(values: Tensor, dim: int) -> Tensor:
    """Smoothed a little along `dim`, as a normal distribution of half a pixel would; one shorter at each end."""
    size = values.shape[dim]
    before, here, after = (values.narrow(dim, start, size - 2) for start in range(3))
    return (before + 6 * here + after) / 8


def window(pictures: Tensor) -> Tensor:
    """For pictures [N, H, W], [H, W]: 1 in the middle, falling to 0 at the border over TAPER of each side (Tukey's)."""
    rows, columns = (_fading(size, pictures.device) for size in pictures.shape[1:])
    return rows[:, None] * columns


def _fading(size: int, device: torch.device) -> Tensor:
    places = (torch.arange(size, device=device) + 0.5) / size
    inside = (torch.minimum(places, 1 - places) / TAPER).clamp(max=1)
    return (inside * (torch.pi / 2)).sin().square()


def gradient_correlation(first: Tensor, second: Tensor) -> Tensor:
    """[N] in [-1, 1]: how well the orientations agree where the pictures lie. 0 where one of them shows no edge."""
    weight = window(first)
    ours, theirs = orientation(first) * weight, orientation(second) * weight
    lengths = (_energy(ours) * _energy(theirs)).sqrt()
    return _agreement(ours, theirs) / lengths.clamp(min=1e-12)


def _agreement(ours: Tensor, theirs: Tensor) -> Tensor:
    """Real part of the inner product, [N]."""
    return (torch.view_as_real(ours) * torch.view_as_real(theirs)).sum(dim=(1, 2, 3))


def _energy(field: Tensor) -> Tensor:
    return torch.view_as_real(field).square().sum(dim=(1, 2, 3))


# ----------------------------------------------------------------------------
# Displacement.


def reach_of(pictures: Tensor) -> int:
    """The largest shift that is looked for along each side, in pixels."""
    return min(pictures.shape[1:]) // 4


def displacement(first: Tensor, second: Tensor) -> Tensor:
    """How far below and to the right of its place in `first` the scene lies in `second`: [N, 2], in pixels.

    First the whole shift at which the orientations agree best. Then the second picture is moved back by it, and the
    peak of a parabola through the agreement at no shift and at the eight neighbouring ones says what is left; again
    with that, until next to nothing is left and the parabola's own error with it. A pair of which one picture shows no
    edge has no shift; it is said to be as far apart as is looked for: (reach, 0).
    """
    reach, weight = reach_of(first), window(first)
    ours = orientation(first) * weight  # [N, H, W]
    shift, blind = _whole_shift(ours, orientation(second) * weight, reach)  # [N, 2], [N]
    for _ in range(REFINEMENTS):
        shift = (shift + _peak(_agreements(ours, orientation(moved(second, shift)), weight))).clamp(-reach, reach)
    return torch.where(blind[:, None], shift.new_tensor([reach, 0]), shift)


def moved(pictures: Tensor, shift: Tensor) -> Tensor:
    """Pictures [N, H, W] moved up and to the left by shift [N, 2], in pixels, bicubic, the border repeated."""
    number, height, width = pictures.shape
    down = torch.arange(height, device=pictures.device) + 0.5 + shift[:, :1]  # [N, H]
    right = torch.arange(width, device=pictures.device) + 0.5 + shift[:, 1:]  # [N, W]
    places = torch.stack(
        [
            (right * (2 / width) - 1)[:, None].expand(number, height, width),
            (down * (2 / height) - 1)[:, :, None].expand(number, height, width),
        ],
        dim=-1,
    )
    return functional.grid_sample(
        pictures[:, None], places, mode="bicubic", padding_mode="border", align_corners=False
    )[:, 0]


def _whole_shift(ours: Tensor, theirs: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The shift of the best agreement, float [N, 2], and whether there is none at all, bool [N]."""
    spectrum = torch.fft.fft2(ours).conj() * torch.fft.fft2(theirs)
    agreement = torch.fft.fftshift(torch.fft.ifft2(spectrum).real, dim=(1, 2))  # [N, H, W], no shift in the middle
    middle = [size // 2 for size in agreement.shape[1:]]
    near = agreement[:, middle[0] - reach : middle[0] + reach + 1, middle[1] - reach : middle[1] + reach + 1]
    best = near.flatten(1).argmax(dim=1)
    shift = torch.stack([best // near.shape[2], best % near.shape[2]], dim=1) - reach
    return shift.float(), (_energy(ours) == 0) | (_energy(theirs) == 0)


def _agreements(ours: Tensor, theirs: Tensor, weight: Tensor) -> Tensor:
    """[N, 3, 3]: how well `ours`, which the window has cut out, agrees with `theirs` moved by -1, 0, 1 pixels."""
    height, width = weight.shape
    inner, seen = ours[:, 1:-1, 1:-1], weight[1:-1, 1:-1]
    rows = []
    for down in range(3):
        for right in range(3):
            part = theirs[:, down : height - 2 + down, right : width - 2 + right]
            rows.append(_agreement(inner, part) / _energy(part * seen).sqrt().clamp(min=1e-12))
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _peak(values: Tensor) -> Tensor:
    """Of a parabola through values [N, 3, 3], from their middle: [N, 2], a pixel at most; 0 where it has no peak."""
    slope = torch.stack([values[:, 2, 1] - values[:, 0, 1], values[:, 1, 2] - values[:, 1, 0]], dim=1) / 2
    down = values[:, 2, 1] + values[:, 0, 1] - 2 * values[:, 1, 1]
    right = values[:, 1, 2] + values[:, 1, 0] - 2 * values[:, 1, 1]
    mixed = (values[:, 2, 2] + values[:, 0, 0] - values[:, 2, 0] - values[:, 0, 2]) / 4
    determinant = down * right - mixed.square()
    solved = torch.stack([mixed * slope[:, 1] - right * slope[:, 0], mixed * slope[:, 0] - down * slope[:, 1]], dim=1)
    is_peak = (determinant > 0) & (down < 0)
    return torch.where(is_peak[:, None], solved / determinant[:, None], 0.0).clamp(-1, 1)


# ----------------------------------------------------------------------------
# Grey values.


def mutual_information(first: Tensor, second: Tensor) -> Tensor:
    """Normalised mutual information (H(A) + H(B)) / H(A, B) of grey values, float64 [N]: 1 where one says nothing about
    the other, 2 where it says all (Studholme, Hill and Hawkes 1999).

    Of BINS classes of equal width between a picture's darkest and brightest value, so exposure does not matter.
    """
    number = len(first)
    cells = _classes(first) * BINS + _classes(second)  # [N, P]
    cells += torch.arange(number, device=cells.device)[:, None] * BINS**2
    joint = torch.bincount(cells.flatten(), minlength=number * BINS**2).view(number, BINS, BINS).double()
    joint /= joint.sum(dim=(1, 2), keepdim=True)
    apart = _entropy(joint.sum(dim=2)) + _entropy(joint.sum(dim=1))
    together = _entropy(joint.flatten(1))
    return torch.where(together > 0, apart / together.clamp(min=1e-12), 1.0)


def _classes(pictures: Tensor) -> Tensor:
    """int64 [N, P] from 0 to BINS - 1."""
    values = pictures.flatten(1)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return ((values - low) * BINS / (high - low).clamp(min=1e-6)).long().clamp(max=BINS - 1)


def _entropy(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(dim=-1)

"""The filter's thresholds: calibrated on a real dataset under one recognition model, kept in thresholds.json.

With mean and standard deviation of the mated scores of real people (FACTS.md):

    unique = same = mean - 2 sd      repeat = mean + sd

The paper's 0.622 and 0.853 belong to its recognition model (iResNet-100 on MS1MV3) and to its faces; another model has
others, so thresholds carry the fingerprint of theirs. A weak model can give values that no cosine can mean; they are
then moved to the nearest value that keeps the rule's sense, and the file and the report say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_json, read_json
from metrics.identity import OperatingPoint, eer_of, point_at_fmr, points_at_fmrs
from metrics.score_counts import ScoreCounts, count_scores, curve_of, rates_at

PAPER_MEAN, PAPER_SD = 0.776, 0.077
REPEAT_CEILING = 0.9999  # over this, a copy of a picture would no longer be a repeat
SIMILARITY_FLOOR = 0.0  # under this, unrelated faces would count as one person
RULES = ("unique", "same", "repeat")
POINTS = ("error_rates", "fmr_points")
NEEDED = ("recognition_model", "mated_mean", "mated_sd", *RULES)
NUMBERS = (*RULES, "mated_mean", "mated_sd", "mated_scores", "nonmated_scores")
MOST = 2**63  # scores; infinity and NaN are not below it


@dataclass(frozen=True)
class Thresholds:
    """Cosines at which the rules of generation.privacy_diversity decide.

    recognition_model: fingerprint. unique, same, repeat: the thresholds in force. mated_mean, mated_sd: what they come
    from. error_rates: FMR and FNMR of the real set at each; empty where they are not known. fmr_points: by the text of
    an FMR, the lowest threshold at which the real set has no more; those that its scores are too few to tell are left
    out. warnings: what was moved.
    """

    recognition_model: str
    mated_mean: float
    mated_sd: float
    unique: float
    same: float
    repeat: float
    mated_scores: int = 0
    nonmated_scores: int = 0
    nonmated_mean: float | None = None
    eer: float | None = None
    error_rates: dict[str, OperatingPoint] = field(default_factory=dict)
    fmr_points: dict[str, OperatingPoint] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What thresholds.json holds."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for points in POINTS:
            plain[points] = {name: point._asdict() for name, point in getattr(self, points).items()}
        plain["warnings"] = list(self.warnings)
        return plain


def from_moments(mean: float, sd: float, recognition_model: str) -> Thresholds:
    """Thresholds from mean and standard deviation of mated scores, clamped where they would lose their sense."""
    notes: list[str] = []
    low, high = mean - 2 * sd, mean + sd
    if low < SIMILARITY_FLOOR:
        notes.append(
            f"mean - 2 sd = {low:.3f} is below {SIMILARITY_FLOOR:g}: pictures of one person vary so much under this "
            f"recognition model that strangers would pass as one person; {SIMILARITY_FLOOR:g} is taken"
        )
        low = SIMILARITY_FLOOR
    if high > REPEAT_CEILING:
        notes.append(f"mean + sd = {high:.3f} is more than a cosine can be; {REPEAT_CEILING} is taken")
        high = REPEAT_CEILING
    return Thresholds(recognition_model, mean, sd, unique=low, same=low, repeat=high, warnings=tuple(notes))


def calibrate(
    features: NDArray, identities: Sequence[str], recognition_model: str, unique_fmr: float | None = None
) -> Thresholds:
    """Thresholds from the features [N, D] of a real dataset and the identity of each; see `from_scores`."""
    return from_scores(*count_scores(features, identities), recognition_model, unique_fmr)


def from_scores(
    mated: ScoreCounts, nonmated: ScoreCounts, recognition_model: str, unique_fmr: float | None = None
) -> Thresholds:
    """Thresholds from the scores of a real dataset.

    unique_fmr: take `unique` where the false match rate of the real set is at most this, instead of mean - 2 sd (for
    models so weak that mean - 2 sd would call every other stranger the same person). Raises ValueError where there are
    no two pictures of one person or no two persons.
    """
    if not mated.total or not nonmated.total:
        missing = "no two pictures of one person" if not mated.total else "only one person"
        raise ValueError(f"there is {missing} in it, so there is nothing to calibrate on")
    plain = from_moments(mated.mean, mated.sd, recognition_model)
    curve = curve_of(mated, nonmated)
    unique, notes = plain.unique, list(plain.warnings)
    if unique_fmr is not None:
        unique = min(point_at_fmr(curve, unique_fmr).threshold, 1.0)
        notes.append(f"unique is the lowest threshold with FMR <= {unique_fmr:g} on the real set, not mean - 2 sd")
    return Thresholds(
        recognition_model,
        plain.mated_mean,
        plain.mated_sd,
        unique=unique,
        same=plain.same,
        repeat=plain.repeat,
        mated_scores=mated.total,
        nonmated_scores=nonmated.total,
        nonmated_mean=nonmated.mean,
        eer=eer_of(curve),
        error_rates={
            name: rates_at(mated, nonmated, value)
            for name, value in zip(RULES, (unique, plain.same, plain.repeat), strict=True)
        },
        fmr_points=fmr_points(mated, nonmated),
        warnings=tuple(notes),
    )


def fmr_points(mated: ScoreCounts, nonmated: ScoreCounts) -> dict[str, OperatingPoint]:
    """By the text of each FMR that the non-mated scores are enough to tell: the lowest threshold with no more, and the
    rates there. Without mated scores there is no FNMR, and nan stands for it."""
    curve = curve_of(mated if mated.total else nonmated, nonmated)
    points = points_at_fmrs(curve, nonmated.total)
    found = {text: point for text, point in points.items() if np.isfinite(point.threshold)}
    return found if mated.total else {text: point._replace(fnmr=float("nan")) for text, point in found.items()}


# ----------------------------------------------------------------------------
# thresholds.json


def save_thresholds(path: StrPath, thresholds: Thresholds) -> None:
    """Writes thresholds.json, atomically."""
    atomic_write_json(path, thresholds.as_dict())


def load_thresholds(path: StrPath, option: str = "--thresholds") -> Thresholds:
    """Reads thresholds.json. Raises UserError that names `option` and the file for what is missing or senseless."""
    values = read_json(path, option)
    where = f"{option}: {path}"
    try:
        missing = [name for name in NEEDED if name not in values]
        if missing:
            raise ValueError(f"nothing called {missing[0]!r} is in it")
        known = {name: values[name] for name in Thresholds.__dataclass_fields__ if name in values}
        for points in POINTS:
            known[points] = {name: OperatingPoint(**point) for name, point in values.get(points, {}).items()}
        loaded = Thresholds(**{**known, "warnings": tuple(values.get("warnings", ()))})
        _check_kinds(loaded)
    except (TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: not a file of thresholds; `filter.py calibrate` makes one ({error})") from error
    if not all(-1 <= getattr(loaded, name) <= 1 for name in RULES):
        raise UserError(f"{where}: unique, same and repeat must be cosines between -1 and 1")
    if loaded.same >= loaded.repeat:
        raise UserError(f"{where}: same ({loaded.same:g}) must be below repeat ({loaded.repeat:g}): nothing would pass")
    return loaded


def _check_kinds(loaded: Thresholds) -> None:
    """Raises ValueError for what is no text, no number, or a number that means nothing: reports show them all."""
    texts = [loaded.recognition_model, *loaded.error_rates, *loaded.fmr_points, *loaded.warnings]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is needed for the recognition model and for each warning")
    points = [*loaded.error_rates.values(), *loaded.fmr_points.values()]
    numbers = [*(getattr(loaded, name) for name in NUMBERS), *(number for point in points for number in point)]
    numbers += [number for number in (loaded.nonmated_mean, loaded.eer) if number is not None]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < MOST:
            raise ValueError(f"{str(number)[:20]!r} is no number that a threshold file holds")

"""Metrics by name: a function becomes one by a decorator, and the name says how many pictures are drawn.

fd_arcface5k = the family `fd_arcface{N}` with N = 5000 drawn pictures, against all real ones
fd_arcface   = as many as there are real ones, at most 50,000
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from dnnlib.errors import UserError

if TYPE_CHECKING:
    from metrics.detectors import Pictures
    from metrics.real import RealPictures

MODULES = ("frechet",)  # those that register metrics
NONE = "none"
MOST_FAKES = 50_000  # where the name tells no number
FEWEST_PICTURES = 2048  # the distance of fewer pictures is known to be biased (PAIN_POINTS row 9)

Fakes = Callable[[int], "Iterable[Pictures]"]  # a number of drawn pairs -> this process's share of them, in batches
# (real, fakes, num_fake) -> value by spectrum. Every process calls it; what they return is summed over processes, so
# either each has a part or the first has all and the others 0.
Compute = Callable[["RealPictures", Fakes, int], dict[str, float]]


class Family(NamedTuple):
    """One registered function. detector: the kind of Detector it needs."""

    compute: Compute
    detector: str
    higher_is_better: bool


class Metric(NamedTuple):
    """A family with its number. named_fakes: None where the name tells none."""

    name: str
    family: Family
    named_fakes: int | None

    def num_fake(self, num_real: int) -> int:
        """How many pairs are drawn."""
        return self.named_fakes if self.named_fakes is not None else min(num_real, MOST_FAKES)


FAMILIES: dict[str, Family] = {}


def register(template: str, *, detector: str, higher_is_better: bool) -> Callable[[Compute], Compute]:
    """Makes a function the metric `template`, whose {N} stands for an optional count: nothing, 500, 5k."""

    def decorate(compute: Compute) -> Compute:
        assert template not in FAMILIES, f"{template} is registered twice"
        FAMILIES[template] = Family(compute, detector, higher_is_better)
        return compute

    return decorate


def parse_metrics(text: str, option: str = "--metrics") -> list[Metric]:
    """A list of names with commas between them, or none -> metrics, each once.

    Raises UserError, starting with `option`, for a name that is not known, listing those that are.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [NONE]:
        return []
    if not names:
        raise UserError(f"{option}: no name in {text!r}; {NONE}, or a list of {_known()}")
    return [_parse(name, option) for name in dict.fromkeys(names)]


def _parse(name: str, option: str) -> Metric:
    for module in MODULES:
        importlib.import_module(f"metrics.{module}")
    for template, family in FAMILIES.items():
        pattern = re.escape(template).replace(re.escape("{N}"), r"(?:(?P<count>[1-9]\d{0,8})(?P<kilo>k?))?")
        if found := re.fullmatch(pattern, name, flags=re.ASCII):
            parts = found.groupdict()
            count = int(parts["count"]) * (1000 if parts["kilo"] else 1) if parts.get("count") else None
            if count == 1:
                raise UserError(f"{option}: {name}: one picture has no statistics; {template.replace('{N}', '5k')}")
            return Metric(name, family, count)
    raise UserError(f"{option}: {name}: no such metric; {NONE}, or a list of {_known()}")


def _known() -> str:
    """fd_arcface (also with a count: fd_arcface5k), ..."""
    known = []
    for template in FAMILIES:
        plain, counted = template.replace("{N}", ""), template.replace("{N}", "5k")
        known.append(plain if plain == counted else f"{plain} (with a number of drawn pictures: {counted})")
    return ", ".join(known)

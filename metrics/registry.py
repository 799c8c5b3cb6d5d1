"""Metrics by name: a function becomes one by a decorator, and the name says how many pictures are drawn. What looks
at the pictures for them is registered in the same way.

fid2k          = the family `fid{N}` with N = 2000 drawn pictures, against all real ones
fid50k_full    = the same with 50,000; all real ones count in any case
fid            = as many drawn pictures as there are real ones, at most 50,000
ppl2_wend      = 50,000, because it is no family but one name, whose 2 is none
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch

from dnnlib.errors import UserError
from metrics.observers import Detector, Observer, observer_of
from metrics.rows import Seen

MODULES = (  # those that register metrics
    *("frechet", "kernel_distance", "precision_recall", "inception_score"),
    *("alignment", "cross_spectral", "diversity", "perceptual_path_length"),
)
NONE = "none"
MOST_FAKES = 50_000  # where the name tells no number
BOTH = "vis-nir"  # the spectrum of what compares one with the other


class Result(NamedTuple):
    """One figure. part: which, of the parts that the family names. sd: of what it is the mean of, where it is one."""

    spectrum: str
    value: float
    part: str = ""
    sd: float | None = None


class Setting(NamedTuple):
    """What a computation may depend on beside what was seen: a seed, and a device for large products."""

    seed: int
    device: torch.device


Compute = Callable[[Seen, Seen, Setting], list[Result]]  # (real, drawn, setting), in the first process alone


class Family(NamedTuple):
    """One registered function.

    needs: kinds of observers whose rows it gets, of the drawn pictures and, with `real`, of the real ones. statistics:
    it gets means and covariances of their features instead, which need no memory. conditions: it needs the features
    that a network was given. both: it compares the two spectra. parts: of its figures; the first chooses the best
    network. least, fewest: below so many pictures there is no value, or one that is known to be biased.
    """

    templates: tuple[str, ...]
    compute: Compute
    needs: tuple[str, ...]
    real: bool
    statistics: bool
    conditions: bool
    both: bool
    higher_is_better: bool
    parts: tuple[str, ...]
    least: int
    fewest: int

    def example(self, count: str) -> str:
        """Its first name with so many pictures."""
        return self.templates[0].replace("{N}", count)

    @property
    def plain(self) -> str:
        """Its name without a number."""
        return self.example("")


class Metric(NamedTuple):
    """A family with its number. named_fakes: None where the name tells none."""

    name: str
    family: Family
    named_fakes: int | None

    def num_fake(self, num_real: int, there_are: int | None = None) -> int:
        """How many pairs are looked at; there_are: in a folder, which without a number are all."""
        if self.named_fakes is not None:
            return self.named_fakes
        return min(num_real, MOST_FAKES) if there_are is None else there_are

    def name_of(self, part: str) -> str:
        """Of one figure."""
        return f"{self.name}_{part}" if part else self.name

    @property
    def figures(self) -> list[str]:
        """The names of all figures; the first chooses the best network."""
        return [self.name_of(part) for part in self.family.parts]


FAMILIES: dict[str, Family] = {}


def register(
    *templates: str,
    needs: tuple[str, ...],
    higher_is_better: bool,
    real: bool = True,
    statistics: bool = False,
    conditions: bool = False,
    both: bool = False,
    parts: tuple[str, ...] = ("",),
    least: int = 2,
    fewest: int = 0,
) -> Callable[[Compute], Compute]:
    """Makes a function the metric of these names. In them {N} stands for a count or nothing (500, 5k), {K} for one in
    thousands (5k)."""

    def decorate(compute: Compute) -> Compute:
        assert not set(templates) & FAMILIES.keys(), f"{templates[0]} is registered twice"
        family = Family(
            templates, compute, needs, real, statistics, conditions, both, higher_is_better, parts, least, fewest
        )
        FAMILIES.update(dict.fromkeys(templates, family))
        return compute

    return decorate


# ----------------------------------------------------------------------------
# What looks at the pictures.

Build = Callable[[Detector | None], Observer]
OBSERVERS: dict[str, tuple[str | None, Build]] = {}  # kind -> (kind of the detector it looks with, how it is made)


def observer(kind: str, of: str | None = None) -> Callable[[Build], Build]:
    """Makes a function the maker of the observer that metrics ask for by `kind`. of: the kind of detector that it gets;
    None: it needs none. A kind that is not registered is that of a detector, looking at pairs."""

    def decorate(build: Build) -> Build:
        assert kind not in OBSERVERS, f"{kind} is registered twice"
        OBSERVERS[kind] = (of, build)
        return build

    return decorate


def detectors_of(metrics: Iterable[Metric]) -> dict[str, str]:
    """The kinds of detectors that metrics need, each with the first metric that does."""
    found: dict[str, str] = {}
    for metric in metrics:
        for kind in metric.family.needs:
            detector = OBSERVERS[kind][0] if kind in OBSERVERS else kind
            if detector is not None:
                found.setdefault(detector, metric.name)
    return found


def build_observers(metrics: Iterable[Metric], detectors: Mapping[str, Detector]) -> dict[str, Observer]:
    """Those that metrics need, by kind; detectors: by kind, all of `detectors_of`."""
    found = {}
    for kind in sorted({kind for metric in metrics for kind in metric.family.needs}):
        if kind in OBSERVERS:
            of, build = OBSERVERS[kind]
            found[kind] = build(None if of is None else detectors[of])
        else:
            found[kind] = observer_of(detectors[kind])
    return found


# ----------------------------------------------------------------------------
# Names.


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
        pattern = pattern.replace(re.escape("{K}"), r"(?P<count>[1-9]\d{0,5})(?P<kilo>k)")
        if found := re.fullmatch(pattern, name, flags=re.ASCII):
            parts = found.groupdict()
            count = int(parts["count"]) * (1000 if parts["kilo"] else 1) if parts.get("count") else None
            count = MOST_FAKES if "{" not in template else count
            if count is not None and count < family.least:
                raise UserError(
                    f"{option}: {name}: needs {family.least} pictures or more; {family.example('5k')} would be right"
                )
            return Metric(name, family, count)
    raise UserError(f"{option}: {name}: no such metric; {_meant(name)}{NONE}, or a list of {_known()}")


def _meant(name: str) -> str:
    """`fid50k_full may be meant; ` of a name that is nearly one."""
    counted = [re.sub(r"\{[NK]\}", "50k", template) for template in FAMILIES]
    found = difflib.get_close_matches(name, [*counted, *(family.plain for family in FAMILIES.values())], 1)
    return f"{found[0]} may be meant; " if found else ""


def _known() -> str:
    """fd_arcface, ... (fd_arcface5k, ...: with a number of drawn pictures)."""
    families = [*dict.fromkeys(FAMILIES.values())]
    counted = [one.example("5k") for one in families if one.example("5k") != one.plain]
    return f"{', '.join(one.plain for one in families)} ({', '.join(counted)}: with a number of drawn pictures)"

"""Whether a run can succeed and what it will take, from the candidates judged so far: pure arithmetic.

A run is a chain of chances: a slot's first sample passes with probability a, each later sample of a person with b. The
counts so far give both, so for I identities of S samples with at most T tries a person

    candidates of a person   1 + (S - 1) / b if it took as many as it needs; with the limit,
                             1 + sum of P[Binomial(t, b) < S - 1] over t < T - 1
    completed                P[Binomial(T - 1, b) >= S - 1], the share of people who do not run out of tries
    slots                    I / (a completed), each with a first sample
    candidates               slots + (slots a) (candidates of a person with the limit - 1)

Chances are taken to be alike for all people and to stay as they are. They do not quite: the more people there are, the
more are too like one of them, and the more samples a person has, the more of them repeat. So these are the least that
it takes. A setting is called infeasible only where it would be so at the highest a and b that the counts leave
credible: the upper end of Clopper and Pearson's one-sided 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from generation.records import Plan, Record
from generation.rules import KEPT, Rule
from generation.summary import blame

CONFIDENCE = 0.95
ENOUGH_CANDIDATES = 64  # of a kind, before anything is said of it
MANIFEST_BYTES = 250  # of a judged candidate
MOST_TRIES = 1_000_000  # summed over


@dataclass
class Tally:
    """Verdicts so far: of first samples and of later ones, each verdict -> number, and whose the later ones are."""

    first: dict[str, int] = field(default_factory=dict)
    later: dict[str, int] = field(default_factory=dict)
    people: set[int] = field(default_factory=set)  # slots

    def add(self, record: Record) -> None:
        """Count a judged candidate; what was kept until its person was dropped had passed."""
        counts = self.later if record.seed else self.first
        verdict = KEPT if record.verdict == Rule.TRIES.value else record.verdict
        counts[verdict] = counts.get(verdict, 0) + 1
        if record.seed:
            self.people.add(record.slot)

    @property
    def candidates(self) -> int:
        return sum(self.first.values()) + sum(self.later.values())


@dataclass(frozen=True)
class Estimate:
    """What a whole run is expected to take. Infinite where nothing has passed yet."""

    first_rate: float  # of first samples that pass
    later_rate: float
    completed: float  # share of the people begun who get all their samples
    tries: float  # candidates of a person, without a limit
    slots: float
    candidates: float
    drawn: float  # candidates, with those that a round holds beyond the person's last
    seconds: float
    disk_bytes: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no infinity."""
        return {name: _finite(getattr(self, name)) for name in self.__dataclass_fields__}


def estimate(plan: Plan, tally: Tally, each: float = 0.0, pair_bytes: float = 0.0, spare: float = 1.0) -> Estimate:
    """each: seconds that a candidate takes to be drawn and judged. pair_bytes: of a pair's files. spare: disk that is
    needed while the dataset is put together, as a multiple of its pictures (generation.layouts)."""
    return _expected(plan, _rate(tally.first), _rate(tally.later), each, pair_bytes * spare)


def _expected(plan: Plan, first: float, later: float, each: float = 0.0, pair_bytes: float = 0.0) -> Estimate:
    wanted, most = plan.samples_per_id - 1, min(plan.tries - 1, MOST_TRIES)
    completed = float(stats.binom.sf(wanted - 1, plan.tries - 1, later)) if wanted else 1.0
    slots = plan.ids / (first * completed) if first * completed else math.inf
    unfinished = stats.binom.cdf(wanted - 1, np.arange(most), later)  # after so many later candidates
    judged = float(unfinished.sum())
    drawn = float(sum(unfinished[t] * min(plan.round_size, most - t) for t in range(0, most, plan.round_size)))
    people = slots * first if math.isfinite(slots) else 0.0
    candidates = slots + people * judged
    return Estimate(
        first_rate=first,
        later_rate=later,
        completed=completed,
        tries=1 + (wanted / later if later else math.inf if wanted else 0),
        slots=slots,
        candidates=candidates,
        drawn=slots + people * drawn,
        seconds=each * (slots + people * drawn) if each else 0.0,
        disk_bytes=plan.ids * plan.samples_per_id * pair_bytes + candidates * MANIFEST_BYTES,
    )


def infeasible(plan: Plan, tally: Tally, people: int = 1) -> str:
    """One line that says why the run can hardly succeed, which rule is in the way and what to change; '' where it may.

    Says nothing before ENOUGH_CANDIDATES of a kind have been judged, nor of later ones before they are of so many
    `people`, who differ.
    """
    first, later = upper_bound(*_passed(tally.first)), upper_bound(*_passed(tally.later))
    best = _expected(plan, first, 1.0)
    if _number(tally.first) >= ENOUGH_CANDIDATES and best.slots > plan.max_slots:
        return (
            f"--max-slots: {plan.ids:,} identities need about {_about(best.slots)} people to be tried or more, but "
            f"{plan.max_slots:,} are allowed: {_of(tally.first, 'first samples')} passed; {_blame(tally.first)}"
        )
    best = _expected(plan, 1.0, later)
    enough = _number(tally.later) >= ENOUGH_CANDIDATES and len(tally.people) >= min(people, plan.ids)
    if enough and best.tries > plan.tries:
        return (
            f"--tries: a person needs about {_about(best.tries)} candidates or more, but {plan.tries:,} are allowed: "
            f"{_of(tally.later, 'later samples')} passed; {_blame(tally.later)}"
        )
    return ""


def upper_bound(passed: int, judged: int, confidence: float = CONFIDENCE) -> float:
    """The highest chance of passing under which no more than `passed` of `judged` is not yet incredible: the upper end
    of Clopper and Pearson's one-sided interval. 1 where nothing was judged."""
    return 1.0 if passed >= judged else float(stats.beta.ppf(confidence, passed + 1, judged - passed))


# ----------------------------------------------------------------------------
# Words.


def duration(seconds: float) -> str:
    """Such as 40 s, 12 min, 3.5 h, 2.1 days; 'for ever' where it is infinite."""
    if not math.isfinite(seconds):
        return "for ever"
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"


def data_size(count: float) -> str:
    """Such as 3.2 GiB."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1024:.3g} KiB"


def _about(number: float) -> str:
    return f"{number:,.0f}" if math.isfinite(number) else "endlessly many"


def _of(counts: Mapping[str, int], what: str) -> str:
    return f"{counts.get(KEPT, 0):,} of {_number(counts):,} {what}"


def _blame(counts: Mapping[str, int]) -> str:
    return blame({verdict: count for verdict, count in counts.items() if verdict != KEPT}, _number(counts))


def _passed(counts: Mapping[str, int]) -> tuple[int, int]:
    return counts.get(KEPT, 0), _number(counts)


def _number(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _rate(counts: Mapping[str, int]) -> float:
    """Share that passed; of none judged, all may."""
    passed, judged = _passed(counts)
    return passed / judged if judged else 1.0


def _finite(value: float) -> Any:
    return value if math.isfinite(value) else None

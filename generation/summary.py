"""What a finished selection amounts to: the figures of summary.json, and the words for a shortfall."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation.finished import Finished
from generation.records import Outcome, Plan, Record
from generation.rules import KEPT, Rule
from generation.thresholds import Thresholds
from metrics import identity

MOST_SCORED = 4000  # samples that go into mated and non-mated scores; of more, every n-th person is taken

RULE_WORDS = {
    Rule.FACE: "no single clear face",
    Rule.FRONTAL: "not facing the camera",
    Rule.QUALITY: "not sharp or not clear enough",
    Rule.PRIVATE: "too like a real person",
    Rule.UNIQUE: "too like another synthetic person",
    Rule.SAME: "not like the own first picture",
    Rule.REPEAT: "too like another own picture",
    Rule.TRIES: "person gave up after all tries",
}

ADVICE = {
    Rule.FACE: "the generator must draw clearer faces: train longer, lower --truncation or --min-face-prob, "
    "or go without (--detector none)",
    Rule.FRONTAL: "the generator draws faces that look aside: train longer or lower --truncation, or --detector none",
    Rule.QUALITY: "the samples are not as sharp or as clear to the recognition model as asked: train longer, or lower "
    "--min-feature-norm or --min-sharpness",
    Rule.PRIVATE: "the samples are too like real people: train longer, raise --truncation, or use a recognition model "
    "that separates better and calibrate again",
    Rule.UNIQUE: "the people are too like one another: ask for fewer --ids, try --identities spread or random, or "
    "raise --truncation",
    Rule.SAME: "samples of a person are too unlike: lower --truncation or train longer",
    Rule.REPEAT: "samples of a person are too alike: raise --truncation or ask for fewer --samples-per-id",
    Rule.TRIES: "people run out of tries: raise --tries or ask for fewer --samples-per-id",
}


class Thinned:
    """Values that come one after the other; of more than `most`, every n-th is kept."""

    def __init__(self, most: int = MOST_SCORED) -> None:
        self.most, self.every, self._seen = most, 1, 0
        self.kept: list[float] = []

    def add(self, value: float) -> None:
        if self._seen % self.every == 0:
            self.kept.append(value)
        self._seen += 1
        if len(self.kept) > self.most:
            self.kept, self.every = self.kept[::2], 2 * self.every

    def array(self) -> NDArray[np.float64]:
        return np.array(self.kept, dtype=np.float64)


@dataclass
class Counts:
    """What is counted while records go by."""

    verdicts: Counter[str] = field(default_factory=Counter)  # of all
    vain: Counter[str] = field(default_factory=Counter)  # of slots that did not become people
    highest_real: float = -math.inf  # similarity of a kept sample to a real feature
    real_kept: Thinned = field(default_factory=Thinned)
    real_refused: Thinned = field(default_factory=Thinned)  # of those that were too like a real person

    def seen(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, counted as they are taken."""
        for record in records:
            self.verdicts[record.verdict] += 1
            if record.identity is None:
                self.vain[record.verdict] += 1
            real = record.max_sim_real
            if real is not None and math.isfinite(real):
                if record.verdict == KEPT:
                    self.highest_real = max(self.highest_real, real)
                    self.real_kept.add(real)
                elif record.verdict == Rule.PRIVATE.value:
                    self.real_refused.add(real)
            yield record

    def refusals(self) -> dict[str, int]:
        """Rule -> number of candidates that it refused, every rule in the order of the rules."""
        return {rule.value: self.verdicts[rule.value] for rule in Rule}


@dataclass(frozen=True)
class Scores:
    """Scores of the kept samples, of many a part. Empty arrays where there is nothing to compare."""

    mated: NDArray[np.float64]
    nonmated: NDArray[np.float64]
    real: NDArray[np.float64]  # the highest similarity of kept samples to a real feature
    refused: NDArray[np.float64]  # the same of candidates that were too like a real person


def every_nth(people: int, samples: int) -> int:
    """Every n-th of so many people of `samples` pairs each is scored: the number of scores grows with the square."""
    return -(-people * samples // MOST_SCORED) or 1


def score(finished: Finished, counts: Counts) -> Scores:
    """Mated and non-mated scores of some people, and similarities to real people."""
    identities = list(finished.outcome.people)
    every = every_nth(len(identities), finished.plan.samples_per_id)
    some = [finished.person(identity) for identity in identities[::every]]
    mated: NDArray[np.float64] = np.empty(0)
    nonmated: NDArray[np.float64] = np.empty(0)
    if some:
        labels = [person.identity for person in some for _ in person.embeddings["vis"]]
        mated, nonmated = identity.mated_nonmated(np.concatenate([person.embeddings["vis"] for person in some]), labels)
    return Scores(mated, nonmated, counts.real_kept.array(), counts.real_refused.array())


def summarise(people: int, counts: Counts, scores: Scores, thresholds: Thresholds, seconds: float) -> dict[str, Any]:
    """The object of summary.json. people: who are in the dataset. Figures that need more people or samples than there
    are, are null."""
    pairs = counts.verdicts[KEPT]
    mated, nonmated = scores.mated, scores.nonmated
    return {
        "identities_kept": people,
        "pairs_kept": pairs,
        "candidates": counts.verdicts.total(),
        "refused": counts.refusals(),
        "mated_mean": float(mated.mean()) if len(mated) else None,
        "mated_sd": float(mated.std()) if len(mated) else None,
        "nonmated_mean": float(nonmated.mean()) if len(nonmated) else None,
        "eer": identity.eer(mated, nonmated) if len(mated) and len(nonmated) else None,
        "max_real_similarity": counts.highest_real if math.isfinite(counts.highest_real) else None,
        "threshold_unique": thresholds.unique,
        "threshold_same": thresholds.same,
        "threshold_repeat": thresholds.repeat,
        "pairs_per_second": pairs / seconds if seconds > 0 else 0.0,
        "seconds": seconds,
    }


def explain_shortfall(outcome: Outcome, counts: Counts, plan: Plan) -> str:
    """One sentence: what stopped the run, the rule that refused most, and the option to change."""
    refused = {rule.value: counts.vain[rule.value] for rule in Rule if counts.vain[rule.value]}
    if outcome.shortfall == "tries":
        limit = f"the first {len(outcome.dropped)} people all ran out of tries (--tries {plan.tries})"
    else:
        limit = f"{outcome.slots_used} people were tried (--max-slots {plan.max_slots})"
    if outcome.shortfall == "slots" and outcome.slots_used == plan.given:
        limit = f"all {plan.given} people in the file of --identities were tried"
    kept = f"{len(outcome.people)} of {plan.ids} identities were completed: {limit}"
    if not refused:
        return f"{kept}; raise --max-slots" if outcome.slots_used != plan.given else kept
    return f"{kept}; {blame(refused, counts.vain.total())}"


def blame(refused: Mapping[str, int], judged: int) -> str:
    """The rule that refused most of the `judged` candidates, and the option to change. refused: rule -> number."""
    leading = max(refused, key=lambda rule: (refused[rule], rule))
    return f"rule '{leading}' refused {refused[leading]} of {judged} candidates; {ADVICE[Rule(leading)]}"


def table(summary: dict[str, Any]) -> str:
    """The summary for a terminal: a line a figure."""
    refused = {f"refused: {rule}": count for rule, count in summary["refused"].items() if count}
    rows = {**{key: value for key, value in summary.items() if key != "refused"}, **refused}
    width = max(len(name) for name in rows)
    return "\n".join(f"  {name.replace('_', ' '):<{width}}  {_figure(value)}" for name, value in rows.items())


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

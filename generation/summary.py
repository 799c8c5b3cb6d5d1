"""What a finished selection amounts to: final similarities, the figures of summary.json, the words for a shortfall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation.privacy_diversity import KEPT, Rule
from generation.records import Outcome, Person, Plan, Record
from generation.thresholds import Thresholds
from metrics import identity
from torch_utils.search import nearest

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
    Rule.UNIQUE: "the people are too like one another: ask for fewer --ids, try --identities real-like or random, or "
    "raise --truncation",
    Rule.SAME: "samples of a person are too unlike: lower --truncation or train longer",
    Rule.REPEAT: "samples of a person are too alike: raise --truncation or ask for fewer --samples-per-id",
    Rule.TRIES: "people run out of tries: raise --tries or ask for fewer --samples-per-id",
}


@dataclass(frozen=True)
class Scores:
    """Scores of the kept samples. Empty arrays where there is nothing to compare."""

    mated: NDArray[np.float64]
    nonmated: NDArray[np.float64]
    real: NDArray[np.float64]  # the highest similarity of each kept sample to a real feature


def finish_records(people: Sequence[Person], absolute: bool) -> None:
    """Give every kept record its similarities within the finished dataset.

    While the work went on, a sample was compared with those before it; afterwards `max_sim_other` is over the
    references of all other identities and `max_sim_same` over all other samples of its own, whatever the order.
    """
    if not people:
        return
    references = np.stack([person.embeddings["vis"][0] for person in people])  # [I, D]
    for row, person in enumerate(people):
        count = len(person.embeddings["vis"])
        other, _ = nearest(person.embeddings["vis"], references, absolute, exclude=np.full(count, row))
        same, _ = nearest(person.embeddings["vis"], person.embeddings["vis"], exclude=np.arange(count))
        kept = [record for record in person.records if record.verdict == KEPT]
        for record, to_other, to_same in zip(kept, other, same, strict=True):
            record.max_sim_other = float(to_other) if len(people) > 1 else None
            record.max_sim_same = float(to_same) if count > 1 else None


def score(people: Sequence[Person]) -> Scores:
    """Mated and non-mated scores and highest real similarities of the kept samples."""
    samples = sum(len(person.embeddings["vis"]) for person in people)
    some = people[:: -(-samples // MOST_SCORED)] if samples else []
    mated: NDArray[np.float64] = np.empty(0)
    nonmated: NDArray[np.float64] = np.empty(0)
    if some:
        labels = [person.identity for person in some for _ in person.embeddings["vis"]]
        mated, nonmated = identity.mated_nonmated(np.concatenate([person.embeddings["vis"] for person in some]), labels)
    kept = [record for person in people for record in person.records if record.verdict == KEPT]
    real = np.array([record.max_sim_real for record in kept if record.max_sim_real is not None], dtype=np.float64)
    return Scores(mated, nonmated, real[np.isfinite(real)])


def refusals(records: Sequence[Record]) -> dict[str, int]:
    """Rule -> number of candidates that it refused, every rule in the order of the rules."""
    counts = Counter(record.verdict for record in records)
    return {rule.value: counts[rule.value] for rule in Rule}


def summarise(outcome: Outcome, scores: Scores, thresholds: Thresholds, seconds: float) -> dict[str, Any]:
    """The object of summary.json. Figures that need more people or samples than there are, are null."""
    records = outcome.records()
    pairs = sum(record.verdict == KEPT for record in records)
    mated, nonmated = scores.mated, scores.nonmated
    return {
        "identities_kept": len(outcome.people),
        "pairs_kept": pairs,
        "candidates": len(records),
        "refused": refusals(records),
        "mated_mean": float(mated.mean()) if len(mated) else None,
        "mated_sd": float(mated.std()) if len(mated) else None,
        "nonmated_mean": float(nonmated.mean()) if len(nonmated) else None,
        "eer": identity.eer(mated, nonmated) if len(mated) and len(nonmated) else None,
        "max_real_similarity": float(scores.real.max()) if len(scores.real) else None,
        "threshold_unique": thresholds.unique,
        "threshold_same": thresholds.same,
        "threshold_repeat": thresholds.repeat,
        "pairs_per_second": pairs / seconds if seconds > 0 else 0.0,
        "seconds": seconds,
    }


def explain_shortfall(outcome: Outcome, plan: Plan) -> str:
    """One sentence: what stopped the run, the rule that refused most, and the option to change."""
    records = [*outcome.refused_slots, *(record for person in outcome.dropped for record in person.records)]
    counts = {rule: count for rule, count in refusals(records).items() if count}
    if outcome.shortfall == "tries":
        limit = f"the first {len(outcome.dropped)} people all ran out of tries (--tries {plan.tries})"
    else:
        limit = f"{outcome.slots_used} people were tried (--max-slots {plan.max_slots})"
    kept = f"{len(outcome.people)} of {plan.ids} identities were completed: {limit}"
    if not counts:
        return f"{kept}; raise --max-slots"
    return f"{kept}; {blame(counts, len(records))}"


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

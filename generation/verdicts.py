"""What the rules in force say about candidates: first samples alone, later ones beside those that a person has.

Embeddings in, verdicts out; the rules themselves are in generation.privacy_diversity. The first rule that a candidate
breaks is its verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Candidates, Embeddings
from generation.privacy_diversity import (
    KEPT,
    Rule,
    Unit,
    admit_in_order,
    is_frontal,
    is_private,
    is_same_person,
    is_unique,
    shows_one_face,
)
from generation.records import Plan
from generation.thresholds import Thresholds


class RoundVerdicts(NamedTuple):
    """Of the candidates of a round that were needed, in order."""

    verdicts: list[str]  # KEPT or the rule
    sim_reference: NDArray[np.float64]
    max_sim_real: NDArray[np.float64]
    max_sim_other: NDArray[np.float64]
    max_sim_same: NDArray[np.float64]


def judge_references(
    candidates: Candidates, real: Unit, thresholds: Thresholds, plan: Plan
) -> tuple[list[str], NDArray[np.float64]]:
    """Rules that a first sample can be judged by alone: (verdict [N], highest similarity to a real feature [N])."""
    private = is_private(candidates.embeddings["vis"], real, thresholds.unique, plan.absolute)
    rules = [(Rule.PRIVATE, private.passed)]
    if candidates.faces is not None:
        faces = candidates.faces
        rules.insert(0, (Rule.FACE, shows_one_face(faces.found, faces.probability, plan.min_face_prob)))
        rules.insert(1, (Rule.FRONTAL, is_frontal(faces.points)))
    return first_broken(rules, len(candidates.embeddings["vis"])), private.similarity


def first_broken(rules: Sequence[tuple[Rule, NDArray[np.bool_]]], count: int) -> list[str]:
    """The verdict on each of `count` candidates: the first rule that it broke, or KEPT."""
    verdicts = [KEPT] * count
    for rule, passed in reversed(rules):
        for row in np.flatnonzero(~passed):
            verdicts[row] = rule.value
    return verdicts


def judge_round(
    made: Candidates,
    accepted: Embeddings,
    own: int,
    real: Unit,
    references: Unit,
    thresholds: Thresholds,
    plan: Plan,
) -> RoundVerdicts:
    """Judge a round of a person's candidates in order.

    accepted: embeddings of the samples that the person has, each [S, D], the reference first. own: the row of that
    reference in `references` [M, D]. Ends with the candidate that completes the person: the rest is not needed.
    """
    embeddings, before = made.embeddings["vis"], accepted["vis"]
    wanted = plan.samples_per_id - len(before)
    private = is_private(embeddings, real, thresholds.unique, plan.absolute)
    unique = is_unique(embeddings, references, thresholds.unique, plan.absolute, np.full(len(embeddings), own))
    same = is_same_person(embeddings, before[0], thresholds.same)
    others = private.passed & unique.passed & same.passed
    fresh = admit_in_order(embeddings, before, thresholds.repeat, considered=others, limit=wanted)
    needed = len(embeddings)
    if fresh.passed.sum() == wanted:
        needed = int(np.flatnonzero(fresh.passed)[-1]) + 1
    rules = [(Rule.PRIVATE, private.passed), (Rule.UNIQUE, unique.passed), (Rule.SAME, same.passed)]
    verdicts = first_broken([*rules, (Rule.REPEAT, fresh.passed)], len(embeddings))[:needed]
    return RoundVerdicts(verdicts, *(judged.similarity[:needed] for judged in (same, private, unique, fresh)))

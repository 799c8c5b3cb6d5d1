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
    Judged,
    Unit,
    admit_in_order,
    is_frontal,
    is_good,
    is_private,
    is_same_person,
    is_unique,
    sharpness,
    shows_one_face,
)
from generation.records import Plan
from generation.rules import KEPT, Rule, Rules
from generation.thresholds import Thresholds
from torch_utils.search import Gallery

Similarities = dict[str, dict[str, NDArray[np.float64]]]  # checked spectrum -> which similarity -> [N]
Broken = tuple[Rule, NDArray[np.bool_]]  # a rule, and who passed it: [N]


class ReferenceVerdicts(NamedTuple):
    """Of N first samples."""

    verdicts: list[str]  # KEPT or the rule
    max_sim_real: NDArray[np.float64]
    checked: Similarities


class RoundVerdicts(NamedTuple):
    """Of the candidates of a round that were needed, in order."""

    verdicts: list[str]  # KEPT or the rule
    sim_reference: NDArray[np.float64]
    max_sim_real: NDArray[np.float64]
    max_sim_other: NDArray[np.float64]
    max_sim_same: NDArray[np.float64]
    checked: Similarities


def judge_references(
    candidates: Candidates, real: Gallery | Unit, thresholds: Thresholds, plan: Plan
) -> ReferenceVerdicts:
    """Rules that a first sample can be judged by alone. real: the features that it is compared with, [R, D]."""
    rules, embeddings = plan.rules, candidates.embeddings
    private = {name: _private(embeddings[name], real, thresholds, rules) for name in ("vis", *rules.checked)}
    broken = [*_face(candidates, rules), *_quality(candidates, rules), (Rule.PRIVATE, _all(private))]
    checked = {
        name: {"sim_reference": np.ones(len(embeddings[name])), "max_sim_real": private[name].similarity}
        for name in rules.checked
    }
    return ReferenceVerdicts(first_broken(broken, len(embeddings["vis"])), private["vis"].similarity, checked)


def admit_references(
    embeddings: Unit,
    gallery: Gallery | Unit,
    thresholds: Thresholds,
    rules: Rules,
    considered: NDArray[np.bool_],
    limit: int,
) -> Judged:
    """First samples [N, D], in order, that are unique beside the gallery and those of them that are admitted before.

    considered [N]: whom no other rule refuses; limit: as many at most. See `admit_in_order`.
    """
    highest = rules.ceiling(Rule.UNIQUE, thresholds.unique)
    return admit_in_order(embeddings, gallery, highest, considered, limit, rules.absolute)


def first_broken(rules: Sequence[Broken], count: int) -> list[str]:
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
    real: Gallery | Unit,
    references: Gallery | Unit,
    thresholds: Thresholds,
    plan: Plan,
) -> RoundVerdicts:
    """Judge a round of a person's candidates in order.

    accepted: embeddings of the samples that the person has, each [S, D], the reference first. own: the row of that
    reference in `references` [M, D]. Ends with the candidate that completes the person: the rest is not needed.
    """
    rules, embeddings, before = plan.rules, made.embeddings["vis"], accepted["vis"]
    count, wanted = len(embeddings), plan.samples_per_id - len(before)
    spectra = ("vis", *rules.checked)
    private = {name: _private(made.embeddings[name], real, thresholds, rules) for name in spectra}
    ceiling, floor = rules.ceiling(Rule.UNIQUE, thresholds.unique), rules.floor(Rule.SAME, thresholds.same)
    unique = is_unique(embeddings, references, ceiling, rules.absolute, np.full(count, own))
    same = {name: is_same_person(made.embeddings[name], accepted[name][0], floor) for name in spectra}
    broken = [*_quality(made, rules), (Rule.PRIVATE, _all(private)), (Rule.UNIQUE, unique.passed)]
    broken.append((Rule.SAME, _all(same)))
    others = np.logical_and.reduce([passed for _, passed in broken])
    repeat = rules.ceiling(Rule.REPEAT, thresholds.repeat)
    fresh = admit_in_order(embeddings, before, repeat, considered=others, limit=wanted)
    needed = count
    if fresh.passed.sum() == wanted:
        needed = int(np.flatnonzero(fresh.passed)[-1]) + 1
    verdicts = first_broken([*broken, (Rule.REPEAT, fresh.passed)], count)[:needed]
    checked = {
        name: {
            "sim_reference": same[name].similarity[:needed],
            "max_sim_real": private[name].similarity[:needed],
        }
        for name in rules.checked
    }
    plain = [judged.similarity[:needed] for judged in (same["vis"], private["vis"], unique, fresh)]
    return RoundVerdicts(verdicts, plain[0], plain[1], plain[2], plain[3], checked)


def checked_of(similarities: Similarities, row: int) -> dict[str, dict[str, float]] | None:
    """What a candidate's record says about its other spectra; None where none is checked."""
    found = {name: {key: float(rows[row]) for key, rows in kinds.items()} for name, kinds in similarities.items()}
    return found or None


# ----------------------------------------------------------------------------
# Single rules, as far as they are in force.


def _face(candidates: Candidates, rules: Rules) -> list[Broken]:
    """Nothing where nobody looked for faces."""
    faces, found = candidates.faces, []
    if faces is not None and Rule.FACE in rules.active:
        found.append((Rule.FACE, shows_one_face(faces.found, faces.probability, rules.min_face_prob)))
    if faces is not None and Rule.FRONTAL in rules.active:
        found.append((Rule.FRONTAL, is_frontal(faces.points)))
    return found


def _quality(candidates: Candidates, rules: Rules) -> list[Broken]:
    found: list[Broken] = []
    if Rule.QUALITY in rules.active and rules.min_feature_norm is not None:
        found.append((Rule.QUALITY, is_good(candidates.norms["vis"], rules.min_feature_norm)))
    if Rule.QUALITY in rules.active and rules.min_sharpness is not None:
        found.append((Rule.QUALITY, is_good(sharpness(candidates.pictures["vis"]), rules.min_sharpness)))
    return found


def _private(embeddings: Unit, real: Gallery | Unit, thresholds: Thresholds, rules: Rules) -> Judged:
    return is_private(embeddings, real, rules.ceiling(Rule.PRIVATE, thresholds.unique), rules.absolute)


def _all(judged: dict[str, Judged]) -> NDArray[np.bool_]:
    """Who passed in every spectrum."""
    return np.logical_and.reduce([found.passed for found in judged.values()])

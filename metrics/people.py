"""Whose pictures are whose: pairs of one person, and pairs of strangers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.pictures import Rows


def people_of(labels: Rows, number: int | None = None) -> NDArray[np.int64]:
    """Of the first `number` pairs, a number each: equal for pairs of one person, or drawn at one condition.

    labels: see pictures.Side. Conditions count as different people where they differ at all.
    """
    if "identities" in labels:
        return np.unique(labels["identities"][:number], return_inverse=True)[1].reshape(-1)
    return np.unique(labels["conditions"][:number], axis=0, return_inverse=True)[1].reshape(-1)


def strangers_of(people: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each pair one of another person: [N], or [0] where all are of one.

    It lies half of all pairs ahead, or is the next one there that is a stranger: a person's pairs, which may stand side
    by side, so meet several others.
    """
    number = len(people)
    if not (people != people[:1]).any():
        return np.empty(0, dtype=np.int64)
    others = (np.arange(number) + number // 2) % number
    while (own := people == people[others]).any():
        others[own] = (others[own] + 1) % number
    return others


def siblings_of(people: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair of a person who has several, and the person's next one, after the last the first: [M], [M]."""
    order = np.argsort(people, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(people[order]) != 0))  # of each person
    following = np.roll(order, -1)
    following[np.append(begins[1:], len(order)) - 1] = order[begins]
    several = following != order
    return order[several], following[several]

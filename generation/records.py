"""What a run is made of: the plan, a judged candidate, a finished block, round and person, and what it came to."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Embeddings, Encoded
from generation.privacy_diversity import Unit
from generation.rules import USUAL_RULES, Rules


@dataclass(frozen=True)
class Plan:
    """What is wanted. Everything in it may change the dataset, except `batch`."""

    ids: int  # identities
    samples_per_id: int  # pairs of each, the reference included
    tries: int = 2500  # candidates of a person, the reference included
    round_size: int = 16  # candidates rendered and judged together
    max_slots: int = 1000  # people tried at most
    rules: Rules = USUAL_RULES
    given: int | None = None  # people in the user's own file; None: endless
    batch: int = 32  # candidates in memory at a time

    @property
    def rounds_pending(self) -> int:
        """Judged rounds that may wait for their pictures to be encoded while the next one is drawn."""
        return max(0, self.batch // self.round_size - 1)

    @property
    def absolute(self) -> bool:
        """|cos| in the private and unique rules."""
        return self.rules.absolute


@dataclass
class Record:
    """A judged candidate: a line of manifest.jsonl. `seed` is the attempt within the slot's own stream."""

    slot: int
    seed: int
    verdict: str
    identity: int | None = None
    sample: int | None = None
    sim_reference: float | None = None
    max_sim_real: float | None = None
    max_sim_other: float | None = None
    max_sim_same: float | None = None
    checked: dict[str, dict[str, float]] | None = None  # of other spectra, where they are checked


@dataclass
class Block:
    """First samples of neighbouring slots. Those in `passed` alone can be kept: only they have the rest."""

    verdicts: list[str]  # KEPT or the rule, N of them
    max_sim_real: NDArray[np.float64]  # [N]
    passed: NDArray[np.int64]  # [P] rows that broke no rule
    embeddings: Embeddings  # each [P, D]
    encoded: list[Encoded]  # P pairs; empty where only the rest was asked for
    checked: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)  # generation.verdicts.Similarities


@dataclass
class Round:
    """Candidates of one person, judged together, as far as they were needed."""

    records: list[Record]
    embeddings: Embeddings  # of the accepted ones, each [A, D]
    encoded: list[Encoded]  # A pairs


@dataclass
class Person:
    """A slot that was grown: complete with all samples, or dropped."""

    slot: int
    identity: int
    complete: bool
    records: list[Record]
    embeddings: Embeddings  # each [S, D], of the accepted samples in order, the reference first


@dataclass
class Outcome:
    """What a run came to, without what its parts hold of each person and block (generation.finished reads them)."""

    people: dict[int, int]  # identity -> slot of those who are complete, by identity
    references: Unit  # [I, D] theirs, in that order
    dropped: list[int]  # slots
    others: array[float]  # for each slot used: similarity to the nearest person kept; NaN: not compared
    shortfall: str = ""  # why fewer identities than wanted: 'slots' or 'tries'

    @property
    def slots_used(self) -> int:
        """Slots that were judged, from the first on."""
        return len(self.others)


Watch = Callable[[Sequence[Record], "Person | None"], None]


def watch_nothing(records: Sequence[Record], person: Person | None) -> None:
    """The default of `Selection.watch`, which gets records as they are judged, and people as they are finished."""

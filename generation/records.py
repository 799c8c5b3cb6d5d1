"""What a run is made of: the plan, a judged candidate, a finished block, a finished person, and where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Embeddings, Pictures
from generation.privacy_diversity import USUAL_RULES, Rules


@dataclass(frozen=True)
class Plan:
    """What is wanted. Everything in it may change the dataset, except `batch`."""

    ids: int  # identities
    samples_per_id: int  # pairs of each, the reference included
    tries: int = 2500  # candidates of a person, the reference included
    round_size: int = 16  # candidates rendered and judged together
    max_slots: int = 1000  # people tried at most
    rules: Rules = USUAL_RULES
    batch: int = 64  # candidates in memory at a time

    @property
    def people_at_once(self) -> int:
        return max(1, self.batch // self.round_size)

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
    """First samples of neighbouring slots. `pictures` are of the slots in `passed`, the only ones that can be kept."""

    embeddings: Embeddings  # each [N, D]
    verdicts: list[str]  # KEPT or the rule, N of them
    max_sim_real: NDArray[np.float64]  # [N]
    passed: NDArray[np.int64]  # [P] rows that broke no rule
    pictures: Pictures  # each [P, C, H, W]
    checked: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)  # generation.verdicts.Similarities


@dataclass
class Person:
    """A slot that was grown: complete with all samples, or dropped."""

    slot: int
    identity: int
    complete: bool
    records: list[Record]
    embeddings: Embeddings  # each [S, D], of the accepted samples in order, the reference first


class Store(Protocol):
    """Keeps finished work. What `load_*` returns equals what was saved; None where nothing was."""

    def load_block(self, index: int) -> Block | None: ...
    def save_block(self, index: int, block: Block) -> None: ...
    def load_person(self, slot: int) -> Person | None: ...
    def save_person(self, person: Person, pictures: list[Pictures]) -> None: ...


@dataclass
class Outcome:
    """What a run came to."""

    people: list[Person]  # complete, by identity
    dropped: list[Person]
    refused_slots: list[Record]
    slots_used: int
    shortfall: str = ""  # why fewer identities than wanted: 'slots' or 'tries'

    def records(self) -> list[Record]:
        """Every judged candidate, by slot and attempt."""
        everything = self.refused_slots + [r for person in self.people + self.dropped for r in person.records]
        return sorted(everything, key=lambda record: (record.slot, record.seed))


Watch = Callable[[Sequence[Record], "Person | None"], None]


def watch_nothing(records: Sequence[Record], person: Person | None) -> None:
    """The default of `Selection.watch`."""

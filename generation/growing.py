"""Phase 3: a person's samples, round after round, each stored as soon as its pictures are encoded.

A round is a fixed number of candidates from the person's own seeds, each checked against every real feature, every
other reference, the person's own reference and its accepted samples, until `samples_per_id` are in or `tries` are used
up. People do not depend on one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Embeddings, Encoded
from generation.encoding import begin_encoding
from generation.layouts import Layout
from generation.parts import Parts
from generation.phase import Phase
from generation.records import Person, Plan, Record, Round, Watch
from generation.references import Blocks
from generation.rules import KEPT, Rule
from generation.storing import StoreLater
from generation.verdicts import checked_of, judge_round
from torch_utils.search import Gallery
from torch_utils.stop_signals import SharedStop


@dataclass
class Growing:
    """A person in the making."""

    slot: int
    identity: int
    feature: NDArray[np.float32]  # [D]
    records: list[Record]
    embeddings: Embeddings  # accepted, each [S, D]
    encoded: list[Encoded]  # accepted, as far as they are stored
    attempts: int = 1

    @property
    def count(self) -> int:
        """Samples that it has."""
        return len(self.embeddings["vis"])

    def next_round(self, plan: Plan) -> range:
        """The attempts that come next; none where the person is complete or out of tries."""
        wants = self.count < plan.samples_per_id
        return range(self.attempts, min(self.attempts + plan.round_size, plan.tries) if wants else self.attempts)

    def take(self, attempts: range, records: Sequence[Record], embeddings: Embeddings) -> None:
        """A judged round's records, and the embeddings of those that it kept."""
        for sample, record in enumerate((record for record in records if record.verdict == KEPT), self.count):
            record.sample = sample
        self.embeddings = {name: np.concatenate([rows, embeddings[name]]) for name, rows in self.embeddings.items()}
        self.records += records
        self.attempts = attempts.stop

    def finish(self, complete: bool) -> Person:
        """The person, its records in their last form."""
        for record in self.records:
            record.identity = self.identity if complete else None
            if not complete and record.verdict == KEPT:
                record.verdict, record.sample = Rule.TRIES.value, None
        return Person(self.slot, self.identity, complete, self.records, self.embeddings)


@dataclass
class Grower(Phase):
    """Grows people one after the other, and keeps each finished round."""

    blocks: Blocks
    parts: Parts
    layout: Layout
    watch: Watch
    stop: SharedStop

    def __post_init__(self) -> None:
        self._later: StoreLater[Person | None] = StoreLater(self.plan.rounds_pending if self.encoder.beside else 0)

    def grow(self, identity: int, slot: int, references: Gallery, own: int) -> bool | None:
        """Whether the person becomes complete; None where the run was asked to stop before that was known.

        references: [M, D] of everybody, own: the row of the person's among them. What is still being encoded is stored
        later, by `flush` at the latest.
        """
        person = self.parts.load_person(slot)
        if person is not None and person.identity == identity:
            self.watch(person.records[1:], person)  # the pass in slot order has shown the first
            return person.complete
        growing = self._start(identity, slot)
        while attempts := growing.next_round(self.plan):
            if self.stop.received:
                return None
            self._round(growing, attempts, references, own)
        complete = growing.count >= self.plan.samples_per_id
        self._show(self._later.put(partial(self._finish, growing, complete)))
        return complete

    def flush(self) -> None:
        """Store all that is still being encoded."""
        self._show(self._later.flush())

    def _start(self, identity: int, slot: int) -> Growing:
        """With the first sample and all stored rounds."""
        first, embeddings, encoded = self.blocks.reference(slot)
        growing = Growing(slot, identity, self.sampler([slot])[0], [first], embeddings, [encoded])
        while attempts := growing.next_round(self.plan):
            found = self.parts.load_round(slot, attempts.start)
            if found is None:
                break
            growing.take(attempts, found.records, found.embeddings)
            growing.encoded += found.encoded
        self.watch(growing.records[1:], None)
        return growing

    def _round(self, growing: Growing, attempts: range, references: Gallery, own: int) -> None:
        """One round of candidates for one person."""
        features = np.repeat(growing.feature[None], len(attempts), axis=0)  # [N, D]
        made = self.maker.make(features, [growing.slot] * len(attempts), attempts)
        found = judge_round(made, growing.embeddings, own, self.real, references, self.thresholds, self.plan)
        records = [
            Record(
                growing.slot,
                attempts[row],
                verdict,
                sim_reference=float(found.sim_reference[row]),
                max_sim_real=float(found.max_sim_real[row]),
                max_sim_other=float(found.max_sim_other[row]),
                max_sim_same=float(found.max_sim_same[row]),
                checked=checked_of(found.checked, row),
            )
            for row, verdict in enumerate(found.verdicts)
        ]
        passed = [row for row, record in enumerate(records) if record.verdict == KEPT]
        embeddings = {name: made.embeddings[name][passed] for name in growing.embeddings}
        encoded = begin_encoding(self.encoder, made, passed)
        growing.take(attempts, records, embeddings)
        self.watch(records, None)
        self._show(self._later.put(partial(self._save_round, growing, attempts.start, records, embeddings, encoded)))

    def _show(self, finished: Sequence[Person | None]) -> None:
        for person in finished:
            if person is not None:
                self.watch([], person)

    # ------------------------------------------------------------------------
    # What is stored once its pictures are encoded, in this order.

    def _save_round(
        self,
        growing: Growing,
        attempt: int,
        records: list[Record],
        embeddings: Embeddings,
        encoded: Sequence[Callable[[], Encoded]],
    ) -> None:
        files = [wait() for wait in encoded]
        growing.encoded += files
        self.parts.save_round(growing.slot, attempt, Round(records, embeddings, files))

    def _finish(self, growing: Growing, complete: bool) -> Person:
        person = growing.finish(complete)
        if complete:
            self.layout.add(person.identity, growing.encoded)
        self.parts.save_person(person)
        return person

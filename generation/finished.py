"""A finished selection, read back from its parts: every record in its last form, one person after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dnnlib.errors import UserError
from generation.parts import Parts
from generation.records import Outcome, Person, Plan, Record
from generation.references import refused_records
from generation.rules import KEPT
from torch_utils.search import Gallery, nearest

PEOPLE_AT_ONCE = 64  # whose samples are compared with all references at a time
SLOTS_AT_ONCE = 4096  # that wait for so many people: where most are refused, those are far between


@dataclass(frozen=True)
class Finished:
    """What a run has come to, and the parts that hold it."""

    outcome: Outcome
    parts: Parts
    plan: Plan
    device: torch.device | str = "cpu"

    def records(self) -> Iterator[Record]:
        """Every judged candidate, by slot and attempt. Raises UserError for a part that is whole no longer."""
        references = Gallery.of(self.outcome.references, self.device)
        row_of = {identity: row for row, identity in enumerate(self.outcome.people)}
        waiting: list[list[Record] | Person] = []  # in order, until there are people enough to be finished together
        people = 0
        grown = {*self.outcome.people.values(), *self.outcome.dropped}
        for record in self._slots():
            if record.slot not in grown:
                waiting.append([record])
            else:
                person = self.parts.finished_person(record.slot)
                waiting.append(person if person.complete else person.records)
                people += person.complete
            if people == PEOPLE_AT_ONCE or len(waiting) >= SLOTS_AT_ONCE:
                yield from self._finish(waiting, references, row_of)
                waiting, people = [], 0
        yield from self._finish(waiting, references, row_of)

    def person(self, identity: int) -> Person:
        """A complete person, as its part holds it."""
        return self.parts.finished_person(self.outcome.people[identity])

    def _slots(self) -> Iterator[Record]:
        """A record of each slot that was used, refused or not."""
        used = range(self.outcome.slots_used)
        for index in range(-(-len(used) // self.plan.round_size)):
            block = self.parts.load_block(index)
            if block is None:
                raise UserError(f"--outdir: {self.parts.folder}: block {index} is damaged or gone; the same command "
                                "makes it again")  # fmt: skip
            yield from refused_records(block, index * self.plan.round_size, used, self.outcome.others)

    def _finish(
        self, waiting: Sequence[list[Record] | Person], references: Gallery, row_of: dict[int, int]
    ) -> Iterator[Record]:
        """The records of all, those of people with their similarities within the finished dataset."""
        people = [entry for entry in waiting if isinstance(entry, Person)]
        finish_records(people, references, [row_of[person.identity] for person in people], self.plan)
        for entry in waiting:
            yield from entry.records if isinstance(entry, Person) else entry


def finish_records(people: Sequence[Person], references: Gallery, rows: Sequence[int], plan: Plan) -> None:
    """Give every kept record of the people its similarities within the finished dataset.

    While the work went on, a sample was compared with those before it; afterwards `max_sim_other` is over the
    references of all other identities and `max_sim_same` over all other samples of its own, whatever the order.
    references: [I, D] of all; rows: where those of `people` are among them.
    """
    if not people:
        return
    counts = [len(person.embeddings["vis"]) for person in people]
    samples = np.concatenate([person.embeddings["vis"] for person in people])  # [N, D]
    others, _ = nearest(samples, references, plan.absolute, exclude=np.repeat(rows, counts))
    for person, end, count in zip(people, np.cumsum(counts).tolist(), counts, strict=True):
        same, _ = nearest(samples[end - count : end], samples[end - count : end], exclude=np.arange(count))
        kept = [record for record in person.records if record.verdict == KEPT]
        for record, to_other, to_same in zip(kept, others[end - count : end], same, strict=True):
            record.max_sim_other = float(to_other) if len(references) > 1 else None
            record.max_sim_same = float(to_same) if count > 1 else None

"""Phases 1 and 2: first samples of neighbouring slots in blocks, by all processes; then one pass in slot order.

Blocks do not depend on one another, so processes share them out, and some more are made at once than may be needed:
what lies beyond the last slot that is used is not recorded. The pass keeps the slots whose reference is unlike every
reference chosen before and every sample of the people there are already.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Embeddings, Encoded
from generation.encoding import begin_encoding
from generation.parts import Parts
from generation.phase import Phase
from generation.privacy_diversity import Unit
from generation.records import Block, Record, Watch
from generation.rules import KEPT, Rule
from generation.storing import StoreLater
from generation.verdicts import admit_references, checked_of, judge_references
from torch_utils.distributed import Tickets, from_rank_zero, gathered, rank, world_size
from torch_utils.search import Gallery, nearest
from torch_utils.stop_signals import SharedStop

MOST_IN_WAVE = 4096  # slots whose embeddings are in memory at a time
PEOPLE_AT_ONCE = 256  # whose samples are
ADMITTED_AT_ONCE = 256  # candidates compared with one another


class Stopped(Exception):
    """The run was asked to leave; what is finished is stored."""


def meet(stop: SharedStop) -> None:
    """Waits for all processes. Raises Stopped where any was asked to leave."""
    if stop():
        raise Stopped


# ----------------------------------------------------------------------------
# Phase 1.


@dataclass
class Blocks(Phase):
    """First samples, judged by the rules that concern them alone."""

    parts: Parts
    watch: Watch
    stop: SharedStop

    def get(self, index: int, pictures: bool = False) -> Block:
        """Block `index`, from its part or made now."""
        return self.parts.load_block(index, pictures) or self._make(index)()

    def prepare(self, indices: range) -> None:
        """What the identities of these blocks have in common, on rank 0; the others find it among the parts."""
        size = self.plan.round_size
        self.sampler.prepare(range(indices.start * size, indices.stop * size))

    def make_all(self, indices: Sequence[int]) -> None:
        """Has all processes make those that are not there. Raises Stopped."""
        later: StoreLater[Block] = StoreLater(self.plan.rounds_pending if self.encoder.beside else 0)
        for number in Tickets(len(indices)):
            if self.stop.received:
                break
            if self.parts.load_block(indices[number]) is None:
                later.put(self._make(indices[number]))
        later.flush()
        meet(self.stop)

    def reference(self, slot: int) -> tuple[Record, Embeddings, Encoded]:
        """A slot that passed as the first sample of a person: its record, embeddings (each [1, D]) and pictures."""
        index, row = divmod(slot, self.plan.round_size)
        block = self.get(index, pictures=True)
        place = int(np.flatnonzero(block.passed == row)[0])
        embeddings = {name: rows[place : place + 1] for name, rows in block.embeddings.items()}
        real, checked = float(block.max_sim_real[row]), checked_of(block.checked, row)
        record = Record(slot, 0, KEPT, sample=0, sim_reference=1.0, max_sim_real=real, checked=checked)
        return record, embeddings, block.encoded[place]

    def _make(self, index: int) -> Callable[[], Block]:
        """Draws and judges a block; what comes back waits for its pictures' files and stores it."""
        size = self.plan.round_size
        slots = range(index * size, (index + 1) * size)
        made = self.maker.make(self.sampler(slots), slots, [0] * size, detect=True)
        found = judge_references(made, self.real, self.thresholds, self.plan)
        passed = np.array([row for row, verdict in enumerate(found.verdicts) if verdict == KEPT], dtype=np.int64)
        embeddings = {name: rows[passed] for name, rows in made.embeddings.items()}
        encoded = begin_encoding(self.encoder, made, passed.tolist())

        def store() -> Block:
            files = [wait() for wait in encoded]
            block = Block(found.verdicts, found.max_sim_real, passed, embeddings, files, found.checked)
            self.parts.save_block(index, block)
            return block

        return store


# ----------------------------------------------------------------------------
# Phase 2.


class Chosen(NamedTuple):
    """Slots that become people, unless they run out of tries."""

    slots: list[int]
    references: list[NDArray[np.float32]]  # [D] each


class _Admitted(NamedTuple):
    """What rank 0 tells the others of a wave."""

    slots: list[int]
    references: NDArray[np.float32]  # [N, D]
    next_slot: int


@dataclass
class References:
    """The pass in slot order, which goes on where it stopped. Every process calls `choose`; rank 0 decides."""

    blocks: Blocks
    next_slot: int = 0
    found: int = 0
    # Rank 0 alone: for each slot before next_slot, see Outcome.others.
    others: array[float] = field(default_factory=lambda: array("d"))

    def choose(self, wanted: int, people: Sequence[int]) -> Chosen:
        """Up to `wanted` next slots whose references are unlike all samples of `people` (slots), and each other.

        Raises Stopped.
        """
        chosen, gallery = Chosen([], []), Gallery(self.blocks.real.rows.shape[1], self.blocks.real.rows.device)
        while len(chosen.slots) < wanted and self.next_slot < self.blocks.plan.max_slots:
            wave = self._wave(wanted - len(chosen.slots))
            from_rank_zero(partial(self.blocks.prepare, wave))
            self.blocks.make_all(wave)
            before = self._nearest_sample(wave, people)
            admit = partial(self._admit, wave, wanted - len(chosen.slots), before, gallery)
            admitted: _Admitted = from_rank_zero(admit)
            chosen.slots.extend(admitted.slots)
            chosen.references.extend(admitted.references)
            self.found += len(admitted.slots)
            self.next_slot = admitted.next_slot
        return chosen

    def _wave(self, missing: int) -> range:
        """Blocks that are likely to be needed next, one a process at least."""
        size, plan = self.blocks.plan.round_size, self.blocks.plan
        rate = max(self.found, 1) / self.next_slot if self.next_slot else 1.0
        likely = max(world_size(), min(int(missing / rate), MOST_IN_WAVE) // size)
        first, last = self.next_slot // size, -(-plan.max_slots // size)
        return range(first, min(first + likely, last))

    def _alone(self, wave: range) -> tuple[dict[int, Block], list[int], Unit]:
        """Blocks of the wave, the slots in them that broke no rule alone, in order, and their embeddings [N, D]."""
        size = self.blocks.plan.round_size
        blocks = {index: self.blocks.get(index) for index in wave}
        slots: list[int] = []
        rows = []
        for index, block in blocks.items():
            there = [index * size + int(row) for row in block.passed]
            inside = [place for place, slot in enumerate(there) if slot in self._unused(wave)]
            slots += [there[place] for place in inside]
            rows.append(block.embeddings["vis"][inside])
        return blocks, slots, np.concatenate(rows)

    def _unused(self, wave: range) -> range:
        """The wave's slots that have not been used and may be."""
        return range(self.next_slot, min(wave.stop * self.blocks.plan.round_size, self.blocks.plan.max_slots))

    def _nearest_sample(self, wave: range, people: Sequence[int]) -> NDArray[np.float64] | None:
        """[N] highest similarity of each slot of `_alone` to any sample of the people; None where there is nobody.

        Each process reads some of the people, a few at a time.
        """
        if not people:
            return None
        _, _, embeddings = self._alone(wave)
        best = np.full(len(embeddings), -np.inf)
        mine = people[rank() :: world_size()]
        for start in range(0, len(mine), PEOPLE_AT_ONCE):
            some = [self.blocks.parts.finished_person(slot) for slot in mine[start : start + PEOPLE_AT_ONCE]]
            samples = np.concatenate([person.embeddings["vis"] for person in some])  # [M, D]
            gallery = Gallery.of(samples, self.blocks.real.rows.device)
            best = np.maximum(best, nearest(embeddings, gallery, self.blocks.plan.absolute)[0])
        return np.maximum.reduce(gathered(best))

    def _admit(self, wave: range, wanted: int, before: NDArray[np.float64] | None, gallery: Gallery) -> _Admitted:
        """The pass over the blocks of a wave, on rank 0. before: as of `_nearest_sample`."""
        plan, thresholds = self.blocks.plan, self.blocks.thresholds
        highest = plan.rules.ceiling(Rule.UNIQUE, thresholds.unique)
        end = self._unused(wave).stop
        blocks, slots, embeddings = self._alone(wave)
        similarity = np.full(len(slots), -np.inf) if before is None else before
        admitted: list[int] = []  # rows
        compared = len(slots)
        for start in range(0, len(slots), ADMITTED_AT_ONCE):
            part = slice(start, start + ADMITTED_AT_ONCE)
            fresh, left = similarity[part] <= highest, wanted - len(admitted)
            judged = admit_references(embeddings[part], gallery, thresholds, plan.rules, fresh, left)
            similarity[part] = np.maximum(similarity[part], judged.similarity)
            admitted += (np.flatnonzero(judged.passed) + start).tolist()
            gallery.append(embeddings[part][judged.passed])
            if len(admitted) == wanted:
                compared, end = admitted[-1] + 1, slots[admitted[-1]] + 1
                break
        others = dict(zip(slots[:compared], similarity.tolist(), strict=False))
        self._record(blocks, end, others, {slots[row] for row in admitted})
        return _Admitted([slots[row] for row in admitted], embeddings[admitted], end)

    def _record(self, blocks: dict[int, Block], end: int, others: dict[int, float], chosen: set[int]) -> None:
        """Notes the slots from next_slot to `end`, and shows them all: those refused alone would mislead who counts."""
        used = range(self.next_slot, end)
        self.others.extend(others.get(slot, np.nan) for slot in used)
        records = [
            record
            for index, block in blocks.items()
            for record in refused_records(block, index * self.blocks.plan.round_size, used, self.others)
        ]
        for record in records:
            record.verdict = KEPT if record.slot in chosen else record.verdict
        self.blocks.watch(records, None)


def refused_records(block: Block, first: int, used: range, others: Sequence[float]) -> Iterator[Record]:
    """A record of each slot of the block that is in `used`, as if none had been chosen. first: its first slot."""
    for row, verdict in enumerate(block.verdicts):
        slot = first + row
        if slot in used:
            alone = verdict == KEPT
            other = others[slot] if alone else None
            real = float(block.max_sim_real[row])
            checked = checked_of(block.checked, row)
            word = Rule.UNIQUE.value if alone else verdict
            yield Record(slot, 0, word, max_sim_real=real, max_sim_other=other, checked=checked)

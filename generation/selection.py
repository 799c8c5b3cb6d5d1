"""Which candidates become the dataset: the phases of a run, the same result whatever the order of the work.

1. *Slots.* Slot i has an identity feature and a first sample of its own; a block of them is rendered and checked (face,
   frontal, private). Blocks do not depend on one another.
2. *People.* One pass in slot order keeps the slots whose reference is unlike every reference kept before.
3. *Samples.* For each person, rounds of a fixed number of candidates from the person's own seeds, each checked against
   every real feature, every other reference, the person's own reference and its accepted samples, until
   `samples_per_id` are in or `tries` are used up. People do not depend on one another.

A person who is not completed is dropped, and after all people of a wave are done the next unique slots take the free
identity numbers (a new reference must also be unlike every accepted sample of the people who stay), until all numbers
are taken or the slots run out. Blocks and people are the units of work: a store keeps each that is finished, so a run
that starts again finds them there, and several processes may share them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generation.candidates import CandidateMaker, Embeddings, Pictures
from generation.identity_sampling import IdentitySampler
from generation.privacy_diversity import KEPT, Judged, Rule, Unit
from generation.records import Block, Outcome, Person, Plan, Record, Store, Watch, watch_nothing
from generation.thresholds import Thresholds
from generation.verdicts import admit_references, checked_of, judge_references, judge_round

GIVE_UP_AFTER = 20  # people in a row from the start of whom none was completed


# ----------------------------------------------------------------------------
# Phase 3: a person's samples.


@dataclass
class Growing:
    """A person in the making."""

    slot: int
    identity: int
    own: int  # row of its reference among all references
    feature: NDArray[np.float32]  # [D]
    embeddings: Embeddings  # accepted, each [S, D]
    pictures: list[Pictures]  # accepted, each [C, H, W]
    records: list[Record]
    attempts: int = 1

    @property
    def count(self) -> int:
        """Samples that it has."""
        return len(self.pictures)

    def finish(self, complete: bool) -> tuple[Person, list[Pictures]]:
        """The person, and the pictures to write: none where it is dropped."""
        for record in self.records:
            record.identity = self.identity if complete else None
            if not complete and record.verdict == KEPT:
                record.verdict, record.sample = Rule.TRIES.value, None
        person = Person(self.slot, self.identity, complete, self.records, self.embeddings)
        return person, self.pictures if complete else []


# ----------------------------------------------------------------------------
# The whole run.


@dataclass
class Selection:
    """One run: what goes in, and `run`."""

    plan: Plan
    thresholds: Thresholds
    real: Unit  # [R, D] every real feature, length one
    sampler: IdentitySampler
    maker: CandidateMaker
    store: Store
    watch: Watch = watch_nothing
    refused_slots: list[Record] = field(default_factory=list)
    next_slot: int = 0

    def run(self) -> Outcome:
        """All phases. The outcome says whether, and why, there are fewer identities than wanted."""
        kept: dict[int, Person] = {}
        dropped: list[Person] = []
        shortfall = ""
        while len(kept) < self.plan.ids and not shortfall:
            if self._hopeless(kept, dropped):
                shortfall = "tries"
                break
            free = [identity for identity in range(self.plan.ids) if identity not in kept]
            chosen = self._choose(len(free), [kept[identity].embeddings["vis"] for identity in sorted(kept)])
            if len(chosen) < len(free):
                shortfall = "slots"
            jobs = list(zip(free, chosen, strict=False))
            rows, references = self._references(kept, jobs)
            patience = max(0, GIVE_UP_AFTER - len(kept) - len(dropped))
            for part in (jobs[:patience], jobs[patience:]):
                if part and self._hopeless(kept, dropped):
                    continue
                for person in self._grow_all(part, rows, references):
                    if person.complete:
                        kept[person.identity] = person
                    else:
                        dropped.append(person)
        people = [kept[identity] for identity in sorted(kept)]
        return Outcome(people, dropped, self.refused_slots, self.next_slot, shortfall)

    @staticmethod
    def _hopeless(kept: dict[int, Person], dropped: list[Person]) -> bool:
        return not kept and len(dropped) >= GIVE_UP_AFTER

    # ------------------------------------------------------------------------
    # Phases 1 and 2.

    def _block(self, index: int) -> Block:
        """Block `index`, from the store or made now."""
        block = self.store.load_block(index)
        if block is None:
            size = self.plan.round_size
            slots = range(index * size, (index + 1) * size)
            candidates = self.maker.make(self.sampler(slots), slots, [0] * size, detect=True)
            found = judge_references(candidates, self.real, self.thresholds, self.plan)
            passed = np.array([row for row, verdict in enumerate(found.verdicts) if verdict == KEPT], dtype=np.int64)
            pictures = {name: images[passed] for name, images in candidates.pictures.items()}
            block = Block(candidates.embeddings, found.verdicts, found.max_sim_real, passed, pictures, found.checked)
            self.store.save_block(index, block)
        return block

    def _choose(self, wanted: int, accepted: list[Unit]) -> list[int]:
        """Up to `wanted` next slots whose references are unlike all in `accepted` (each [S, D]) and each other."""
        chosen: list[int] = []
        gallery = np.concatenate(accepted) if accepted else None
        while len(chosen) < wanted and self.next_slot < self.plan.max_slots:
            index, offset = divmod(self.next_slot, self.plan.round_size)
            block = self._block(index)
            end = min(self.plan.round_size, offset + self.plan.max_slots - self.next_slot)
            embeddings = block.embeddings["vis"][offset:end]  # [N, D]
            gallery = np.empty((0, embeddings.shape[1]), dtype=np.float32) if gallery is None else gallery
            alone = np.array([verdict == KEPT for verdict in block.verdicts[offset:end]])
            judged = admit_references(
                embeddings, gallery, self.thresholds, self.plan.rules, alone, wanted - len(chosen)
            )
            used = end - offset
            if len(chosen) + judged.passed.sum() == wanted:
                used = int(np.flatnonzero(judged.passed)[-1]) + 1
            self._refuse_slots(block, offset, judged, alone, used)
            chosen += [self.next_slot + int(row) for row in np.flatnonzero(judged.passed)]
            gallery = np.concatenate([gallery, embeddings[judged.passed]])
            self.next_slot += used
        return chosen

    def _refuse_slots(self, block: Block, offset: int, judged: Judged, alone: NDArray[np.bool_], used: int) -> None:
        """Records of the slots among the next `used` that were not chosen."""
        records = []
        for row in np.flatnonzero(~judged.passed[:used]):
            verdict = Rule.UNIQUE.value if alone[row] else block.verdicts[offset + row]
            other = float(judged.similarity[row]) if alone[row] else None
            real = float(block.max_sim_real[offset + row])
            records.append(Record(self.next_slot + int(row), 0, verdict, max_sim_real=real, max_sim_other=other))
        self.refused_slots += records
        self.watch(records, None)

    # ------------------------------------------------------------------------
    # Phase 3.

    def _references(self, kept: dict[int, Person], jobs: list[tuple[int, int]]) -> tuple[dict[int, int], Unit]:
        """References of everybody [M, D], and the row of each identity number among them."""
        found = {identity: person.embeddings["vis"][0] for identity, person in kept.items()}
        found |= {identity: self._reference(slot)[0]["vis"][0] for identity, slot in jobs}
        order = sorted(found)
        references = np.stack([found[identity] for identity in order]) if order else np.empty((0, 1), np.float32)
        return {identity: row for row, identity in enumerate(order)}, references

    def _reference(self, slot: int) -> tuple[Embeddings, Pictures, float]:
        """Embeddings (each [1, D]), pictures and highest similarity to a real feature of the slot's first sample."""
        index, row = divmod(slot, self.plan.round_size)
        block = self._block(index)
        place = int(np.flatnonzero(block.passed == row)[0])
        embeddings = {name: rows[row : row + 1] for name, rows in block.embeddings.items()}
        return embeddings, {k: v[place] for k, v in block.pictures.items()}, float(block.max_sim_real[row])

    def _grow_all(self, jobs: Sequence[tuple[int, int]], rows: dict[int, int], references: Unit) -> Iterator[Person]:
        """Grow (identity, slot) pairs, some at a time; people come out finished and stored, in the order of `jobs`."""
        at_once = self.plan.people_at_once
        for start in range(0, len(jobs), at_once):
            group = jobs[start : start + at_once]
            done = {slot: self.store.load_person(slot) for _, slot in group}
            fresh = [self._start(identity, slot, rows[identity]) for identity, slot in group if done[slot] is None]
            grown = self._grow_group(fresh, references)
            for _, slot in group:
                person = grown[slot] if slot in grown else done[slot]
                assert person is not None, "every person of a group has been grown or loaded"
                self.watch([] if slot in grown else person.records, person)
                yield person

    def _start(self, identity: int, slot: int, own: int) -> Growing:
        embeddings, pictures, real = self._reference(slot)
        reference = Record(slot, 0, KEPT, sample=0, sim_reference=1.0, max_sim_real=real)
        self.watch([reference], None)
        return Growing(slot, identity, own, self.sampler([slot])[0], embeddings, [pictures], [reference])

    def _grow_group(self, group: list[Growing], references: Unit) -> dict[int, Person]:
        """Rounds for all people of the group until each is complete or out of tries."""
        done: dict[int, Person] = {}
        while group:
            for growing in group:
                if growing.count < self.plan.samples_per_id and growing.attempts < self.plan.tries:
                    self._grow_round(growing, references)
            still = []
            for growing in group:
                complete = growing.count == self.plan.samples_per_id
                if complete or growing.attempts >= self.plan.tries:
                    person, pictures = growing.finish(complete)
                    self.store.save_person(person, pictures)
                    done[growing.slot] = person
                else:
                    still.append(growing)
            group = still
        return done

    def _grow_round(self, growing: Growing, references: Unit) -> None:
        """One round of candidates for one person."""
        count = min(self.plan.round_size, self.plan.tries - growing.attempts)
        attempts = range(growing.attempts, growing.attempts + count)
        features = np.repeat(growing.feature[None], count, axis=0)  # [N, D]
        made = self.maker.make(features, [growing.slot] * count, attempts)
        found = judge_round(made, growing.embeddings, growing.own, self.real, references, self.thresholds, self.plan)
        records = [
            Record(
                growing.slot,
                growing.attempts + row,
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
        for row in passed:
            records[row].sample = growing.count
            growing.pictures.append({name: images[row] for name, images in made.pictures.items()})
        growing.embeddings = {
            name: np.concatenate([rows, made.embeddings[name][passed]]) for name, rows in growing.embeddings.items()
        }
        self.watch(records, None)
        growing.records += records
        growing.attempts += count

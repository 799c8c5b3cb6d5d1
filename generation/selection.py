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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generation.candidates import CandidateMaker, Candidates, Pictures
from generation.identity_sampling import IdentitySampler
from generation.privacy_diversity import (
    KEPT,
    Judged,
    Rule,
    Unit,
    admit_in_order,
    is_frontal,
    is_private,
    is_same_person,
    is_unique,
    shows_one_face,
)
from generation.thresholds import Thresholds

GIVE_UP_AFTER = 20  # people in a row from the start of whom none was completed


@dataclass(frozen=True)
class Plan:
    """What is wanted. Everything in it may change the dataset, except `batch`."""

    ids: int  # identities
    samples_per_id: int  # pairs of each, the reference included
    tries: int = 2500  # candidates of a person, the reference included
    round_size: int = 16  # candidates rendered and judged together
    max_slots: int = 1000  # people tried at most
    min_face_prob: float = 0.97
    absolute: bool = False  # |cos| in the private and unique rules
    batch: int = 64  # candidates in memory at a time

    @property
    def people_at_once(self) -> int:
        return max(1, self.batch // self.round_size)


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


@dataclass
class Block:
    """First samples of neighbouring slots. `pictures` are of the slots in `passed`, the only ones that can be kept."""

    embeddings: Unit  # [N, D]
    verdicts: list[str]  # KEPT or the rule, N of them
    max_sim_real: NDArray[np.float64]  # [N]
    passed: NDArray[np.int64]  # [P] rows that broke no rule
    pictures: Pictures  # each [P, C, H, W]


@dataclass
class Person:
    """A slot that was grown: complete with all samples, or dropped."""

    slot: int
    identity: int
    complete: bool
    records: list[Record]
    embeddings: Unit  # [S, D] of the accepted samples in order, the reference first


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


# ----------------------------------------------------------------------------
# Phase 1: first samples.


def judge_references(
    candidates: Candidates, real: Unit, thresholds: Thresholds, plan: Plan
) -> tuple[list[str], NDArray[np.float64]]:
    """Rules that a first sample can be judged by alone: (verdict [N], highest similarity to a real feature [N])."""
    private = is_private(candidates.embeddings, real, thresholds.unique, plan.absolute)
    rules = [(Rule.PRIVATE, private.passed)]
    if candidates.faces is not None:
        faces = candidates.faces
        rules.insert(0, (Rule.FACE, shows_one_face(faces.found, faces.probability, plan.min_face_prob)))
        rules.insert(1, (Rule.FRONTAL, is_frontal(faces.points)))
    return first_broken(rules, len(candidates.embeddings)), private.similarity


def first_broken(rules: Sequence[tuple[Rule, NDArray[np.bool_]]], count: int) -> list[str]:
    """The verdict on each of `count` candidates: the first rule that it broke, or KEPT."""
    verdicts = [KEPT] * count
    for rule, passed in reversed(rules):
        for row in np.flatnonzero(~passed):
            verdicts[row] = rule.value
    return verdicts


# ----------------------------------------------------------------------------
# Phase 3: a person's samples.


@dataclass
class Growing:
    """A person in the making."""

    slot: int
    identity: int
    own: int  # row of its reference among all references
    feature: NDArray[np.float32]  # [D]
    embeddings: list[Unit]  # accepted, each [D]
    pictures: list[Pictures]  # accepted, each [C, H, W]
    records: list[Record]
    attempts: int = 1

    def finish(self, complete: bool) -> tuple[Person, list[Pictures]]:
        """The person, and the pictures to write: none where it is dropped."""
        for record in self.records:
            record.identity = self.identity if complete else None
            if not complete and record.verdict == KEPT:
                record.verdict, record.sample = Rule.TRIES.value, None
        person = Person(self.slot, self.identity, complete, self.records, np.stack(self.embeddings))
        return person, self.pictures if complete else []


def judge_round(
    embeddings: Unit, growing: Growing, real: Unit, references: Unit, thresholds: Thresholds, plan: Plan
) -> list[Record]:
    """Judge a round [N, D] in order. Ends with the candidate that completes the person: the rest is not needed."""
    accepted = np.stack(growing.embeddings)  # [S, D]
    wanted = plan.samples_per_id - len(accepted)
    own = np.full(len(embeddings), growing.own)
    private = is_private(embeddings, real, thresholds.unique, plan.absolute)
    unique = is_unique(embeddings, references, thresholds.unique, plan.absolute, own)
    same = is_same_person(embeddings, accepted[0], thresholds.same)
    others = private.passed & unique.passed & same.passed
    fresh = admit_in_order(embeddings, accepted, thresholds.repeat, considered=others, limit=wanted)
    needed = len(embeddings)
    if fresh.passed.sum() == wanted:
        needed = int(np.flatnonzero(fresh.passed)[-1]) + 1
    rules = [(Rule.PRIVATE, private.passed), (Rule.UNIQUE, unique.passed), (Rule.SAME, same.passed)]
    verdicts = first_broken([*rules, (Rule.REPEAT, fresh.passed)], len(embeddings))
    judged: list[Judged] = [same, private, unique, fresh]
    return [
        Record(
            growing.slot, growing.attempts + row, verdicts[row], None, None, *(float(j.similarity[row]) for j in judged)
        )
        for row in range(needed)
    ]


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
            chosen = self._choose(len(free), [kept[identity].embeddings for identity in sorted(kept)])
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
            verdicts, real = judge_references(candidates, self.real, self.thresholds, self.plan)
            passed = np.array([row for row, verdict in enumerate(verdicts) if verdict == KEPT], dtype=np.int64)
            pictures = {name: images[passed] for name, images in candidates.pictures.items()}
            block = Block(candidates.embeddings, verdicts, real, passed, pictures)
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
            embeddings = block.embeddings[offset:end]  # [N, D]
            gallery = np.empty((0, embeddings.shape[1]), dtype=np.float32) if gallery is None else gallery
            alone = np.array([verdict == KEPT for verdict in block.verdicts[offset:end]])
            judged = admit_in_order(
                embeddings, gallery, self.thresholds.unique, alone, wanted - len(chosen), self.plan.absolute
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
        found = {identity: person.embeddings[0] for identity, person in kept.items()}
        found |= {identity: self._reference(slot)[0] for identity, slot in jobs}
        order = sorted(found)
        references = np.stack([found[identity] for identity in order]) if order else np.empty((0, 1), np.float32)
        return {identity: row for row, identity in enumerate(order)}, references

    def _reference(self, slot: int) -> tuple[Unit, Pictures, float]:
        """Embedding, pictures and highest similarity to a real feature of the slot's first sample."""
        index, row = divmod(slot, self.plan.round_size)
        block = self._block(index)
        place = int(np.flatnonzero(block.passed == row)[0])
        return block.embeddings[row], {k: v[place] for k, v in block.pictures.items()}, float(block.max_sim_real[row])

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
        embedding, pictures, real = self._reference(slot)
        reference = Record(slot, 0, KEPT, sample=0, sim_reference=1.0, max_sim_real=real)
        self.watch([reference], None)
        return Growing(slot, identity, own, self.sampler([slot])[0], [embedding], [pictures], [reference])

    def _grow_group(self, group: list[Growing], references: Unit) -> dict[int, Person]:
        """Rounds for all people of the group until each is complete or out of tries."""
        done: dict[int, Person] = {}
        while group:
            for growing in group:
                if len(growing.embeddings) < self.plan.samples_per_id and growing.attempts < self.plan.tries:
                    self._grow_round(growing, references)
            still = []
            for growing in group:
                complete = len(growing.embeddings) == self.plan.samples_per_id
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
        records = judge_round(made.embeddings, growing, self.real, references, self.thresholds, self.plan)
        for row, record in enumerate(records):
            if record.verdict == KEPT:
                record.sample = len(growing.embeddings)
                growing.embeddings.append(made.embeddings[row])
                growing.pictures.append({name: images[row] for name, images in made.pictures.items()})
        self.watch(records, None)
        growing.records += records
        growing.attempts += count

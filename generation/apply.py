"""The privacy-and-diversity filter on a dataset that exists: what breaks no rule, and where it goes.

The rules are those of generation (generation.verdicts), the people and samples those of the dataset, in its order: by
name, numbers by value. A person's slot is its number in that order, a sample's seed its number within the person.

A person's reference is the first sample that passes the rules for first samples; those before it are refused. One pass
in order keeps the people whose reference is unlike all kept before; then every later sample is judged beside the
references of all who are kept. Who is left with fewer samples than are wanted is dropped (rule `tries`), all such at
once, and the choice is made again among the others, so that whoever was refused for being like a dropped one has
another chance. It ends when nobody is dropped: each time there are fewer people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from generation.candidates import Candidates, Embeddings, Faces, Pictures
from generation.privacy_diversity import is_unique
from generation.records import Plan, Record
from generation.rules import KEPT, Rule, Rules
from generation.thresholds import Thresholds
from generation.verdicts import admit_references, checked_of, judge_references, judge_round
from torch_utils.search import Gallery, nearest

BLOCK = 1024  # samples or people that are judged together

Look = Callable[[Sequence[int]], Pictures]  # rows -> their pictures
Detect = Callable[[Sequence[int]], Faces]  # rows -> what the detector sees in their VIS pictures


def natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """A key by which '2' comes before '10'; equal only for equal names."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts), name


def in_order(identities: Sequence[str], samples: Sequence[str]) -> list[list[int]]:
    """The dataset's people in order, each the indices of its samples in order."""
    people: dict[str, list[int]] = {}
    for index, identity in enumerate(identities):
        people.setdefault(identity, []).append(index)
    keys = [natural(sample) for sample in samples]
    return [sorted(people[name], key=lambda index: keys[index]) for name in sorted(people, key=natural)]


@dataclass
class Filtered:
    """What became of each sample. records[i] is that of row i; `people` are the slots of those who are kept."""

    records: list[Record]
    people: list[int]


@dataclass
class Filter:
    """One dataset under the rules. Rows are samples, people are consecutive rows.

    sizes [P]: samples of each person. embeddings: of VIS and of the spectra that the rules check, each [N, D]. norms:
    lengths of the raw features, each [N]; look: for their pictures; the quality rule needs them. real:
    [R, D], on the device where everything is compared. detect: None for no detector.
    """

    sizes: Sequence[int]
    embeddings: Embeddings
    real: Gallery
    thresholds: Thresholds
    rules: Rules
    min_samples: int = 2
    norms: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    look: Look | None = None
    detect: Detect | None = None
    starts: NDArray[np.int64] = field(init=False)  # [P + 1] first row of each person
    records: list[Record] = field(init=False)
    alone: NDArray[np.bool_] = field(init=False)  # [N] nothing that a sample can be judged by alone speaks against it

    def __post_init__(self) -> None:
        self.starts = np.append(0, np.cumsum(self.sizes)).astype(np.int64)
        places = [(slot, sample) for slot, size in enumerate(self.sizes) for sample in range(size)]
        self.records = [Record(slot, sample, "") for slot, sample in places]
        self.alone = np.zeros(len(places), dtype=bool)

    def run(self) -> Filtered:
        """Judge everybody. Kept records have their numbers, from 0 on, and their similarities within what is kept."""
        references = self._first_samples()
        dropped: set[int] = set()
        while True:
            people = self._unlike([slot for slot in references if slot not in dropped], references)
            gallery = Gallery.of(self._rows([references[slot] for slot in people])["vis"], self.real.device)
            self._beside_others(people, references, gallery)
            kept = {slot: self._grow(slot, references[slot]) for slot in people}
            short = [slot for slot, rows in kept.items() if len(rows) < self.min_samples]
            if not short:
                break
            for row in (row for slot in short for row in kept[slot]):
                self.records[row].verdict = Rule.TRIES.value
            dropped |= set(short)
        self._number(kept)
        return Filtered(self.records, people)

    def _rows(self, rows: Sequence[int]) -> Embeddings:
        return {name: values[np.asarray(rows, dtype=np.int64)] for name, values in self.embeddings.items()}

    # ------------------------------------------------------------------------
    # Who is there at all.

    def _first_samples(self) -> dict[int, int]:
        """Slot -> row of its reference, of those who have one. Whatever no person may have, is refused here."""
        for start in range(0, len(self.records), BLOCK):
            self._judge_alone(range(start, min(start + BLOCK, len(self.records))), None)
        found: dict[int, int] = {}
        turn = {slot: int(self.starts[slot]) for slot in range(len(self.sizes))}
        while turn:
            asked = {slot: row for slot, first in turn.items() if (row := self._next_alone(slot, first)) is not None}
            rows = list(asked.values())
            for start in range(0, len(rows) if self.detect else 0, BLOCK):
                self._judge_alone(rows[start : start + BLOCK], self.detect)
            found |= {slot: row for slot, row in asked.items() if self.alone[row]}
            turn = {slot: row + 1 for slot, row in asked.items() if slot not in found}
        return dict(sorted(found.items()))

    def _judge_alone(self, rows: Sequence[int], detect: Detect | None) -> None:
        """Rules that a sample can be judged by alone; of its face only where it may be a person's first."""
        sharp = Rule.QUALITY in self.rules.active and self.rules.min_sharpness is not None
        candidates = Candidates(
            self.look(rows) if sharp and self.look is not None else {},
            self._rows(rows),
            None if detect is None else detect(rows),
            norms={name: lengths[np.asarray(rows, dtype=np.int64)] for name, lengths in self.norms.items()},
        )
        judged = judge_references(candidates, self.real, self.thresholds, self._plan(self.rules))
        for place, row in enumerate(rows):
            record = self.records[row]
            record.verdict, record.max_sim_real = judged.verdicts[place], float(judged.max_sim_real[place])
            record.checked = checked_of(judged.checked, place)
            self.alone[row] = record.verdict == KEPT

    @staticmethod
    def _plan(rules: Rules, samples: int = 1) -> Plan:
        """The rules as what judges them takes them."""
        return Plan(ids=1, samples_per_id=samples, rules=rules)

    def _next_alone(self, slot: int, row: int) -> int | None:
        """The person's first row from `row` on that breaks no rule by itself."""
        return next((row for row in range(row, int(self.starts[slot + 1])) if self.alone[row]), None)

    # ------------------------------------------------------------------------
    # Who is kept, and with what.

    def _unlike(self, slots: list[int], references: dict[int, int]) -> list[int]:
        """Those of `slots`, in order, whose reference is unlike that of all kept before."""
        people: list[int] = []
        gallery = Gallery(self.embeddings["vis"].shape[1], self.real.device)
        for start in range(0, len(slots), BLOCK):
            part = slots[start : start + BLOCK]
            rows = self._rows([references[slot] for slot in part])["vis"]
            everybody = np.ones(len(part), dtype=bool)
            judged = admit_references(rows, gallery, self.thresholds, self.rules, everybody, len(part))
            for slot, passed, similarity in zip(part, judged.passed, judged.similarity, strict=True):
                if passed:
                    people.append(slot)
                else:
                    self._refuse_person(slot, references[slot], float(similarity))
            gallery.append(rows[judged.passed])
        return people

    def _refuse_person(self, slot: int, reference: int, similarity: float) -> None:
        """The reference is like another person's: with it go all samples that nothing else speaks against."""
        for row in range(reference, int(self.starts[slot + 1])):
            record = self.records[row]
            if self.alone[row]:
                record.verdict, record.sim_reference, record.max_sim_same = Rule.UNIQUE.value, None, None
                record.max_sim_other = similarity if row == reference else None

    def _beside_others(self, people: list[int], references: dict[int, int], gallery: Gallery) -> None:
        """Rule `unique` for all samples of the people in `gallery`, many at a time: a search has its price each."""
        rows: list[int] = []
        owners: list[int] = []
        for own, slot in enumerate(people):
            alone = [row for row in range(references[slot], int(self.starts[slot + 1])) if self.alone[row]]
            rows += alone
            owners += [own] * len(alone)
        ceiling = self.rules.ceiling(Rule.UNIQUE, self.thresholds.unique)
        for start in range(0, len(rows), BLOCK):
            part, own_rows = rows[start : start + BLOCK], owners[start : start + BLOCK]
            judged = is_unique(self._rows(part)["vis"], gallery, ceiling, self.rules.absolute, own_rows)
            for row, passed, similarity in zip(part, judged.passed, judged.similarity, strict=True):
                record = self.records[row]
                record.verdict = KEPT if passed else Rule.UNIQUE.value
                record.max_sim_other = float(similarity) if len(people) > 1 else None
                record.sim_reference = record.max_sim_same = None

    def _grow(self, slot: int, reference: int) -> list[int]:
        """The rows of the person's samples, the reference first, that break no rule; others' have been judged."""
        later = range(reference + 1, int(self.starts[slot + 1]))
        rows = [row for row in later if self.alone[row] and self.records[row].verdict == KEPT]
        if not rows:
            return [reference]
        judged_before = (Rule.QUALITY, Rule.PRIVATE, Rule.UNIQUE)
        left = replace(self.rules, active=tuple(rule for rule in self.rules.active if rule not in judged_before))
        made, accepted = Candidates({}, self._rows(rows), None), self._rows([reference])
        nobody = Gallery(accepted["vis"].shape[1])
        judged = judge_round(made, accepted, -1, nobody, nobody, self.thresholds, self._plan(left, len(rows) + 2))
        for place, row in enumerate(rows):
            record = self.records[row]
            record.verdict, record.sim_reference = judged.verdicts[place], float(judged.sim_reference[place])
            record.max_sim_same = float(judged.max_sim_same[place])
            for spectrum, found in (record.checked or {}).items():
                found["sim_reference"] = float(judged.checked[spectrum]["sim_reference"][place])
        return [reference, *(row for row in rows if self.records[row].verdict == KEPT)]

    def _number(self, kept: dict[int, list[int]]) -> None:
        """Numbers from 0 on, and similarities over all that is kept, whatever the order of judging was."""
        for identity, rows in enumerate(kept.values()):
            embeddings = self._rows(rows)["vis"]
            same, _ = nearest(embeddings, embeddings, exclude=np.arange(len(rows)))
            for sample, row in enumerate(rows):
                record = self.records[row]
                record.identity, record.sample = identity, sample
                record.max_sim_same = float(same[sample]) if len(rows) > 1 else None
                if sample == 0:
                    record.sim_reference = 1.0

"""A pilot for `--dry-run`: some 64 candidates, judged as in the run itself, and nothing written.

Half of them are first samples, of the first slots; the others are a round each of people who passed. Where too few
passed, the first slots' people are tried all the same, so that something is known of later samples.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch

from generation.candidates import Candidates, Embeddings
from generation.encoding import begin_encoding
from generation.feasibility import Tally, data_size, duration, estimate, infeasible
from generation.phase import Phase
from generation.privacy_diversity import Unit
from generation.records import Plan, Record
from generation.rules import KEPT, Rule
from generation.verdicts import admit_references, judge_references, judge_round

CANDIDATES = 64
ENCODED = 4  # of a round, for the size and the time of files


@dataclass
class Pilot(Phase):
    """What a part of a run gave: verdicts and seconds."""

    tally: Tally = field(default_factory=Tally)
    drawn: int = 0
    seconds: float = 0.0

    def run(self) -> Pilot:
        """All of it; the first chunk, at which devices and libraries warm up, is drawn once more, untimed."""
        size = self.plan.round_size
        rounds = max(1, CANDIDATES // 2 // size)
        self.maker.make(self.sampler(range(size)), range(size), [0] * size, detect=True)
        refused: list[tuple[int, Embeddings]] = []  # slot, each [1, D]
        passed: list[tuple[int, Embeddings]] = []
        for index in range(rounds):
            self._first_samples(range(index * size, (index + 1) * size), passed, refused)
        if self.plan.samples_per_id > 1 and self.plan.tries > 1:
            references = [own["vis"] for _, own in passed]
            for slot, own in [*passed, *refused][:rounds]:
                self._later_samples(slot, own, [rows for rows in references if rows is not own["vis"]])
        return self

    def _first_samples(
        self, slots: Sequence[int], passed: list[tuple[int, Embeddings]], refused: list[tuple[int, Embeddings]]
    ) -> None:
        """A block, which adds to those who passed and to those who did not."""
        made = self._draw(self.sampler(slots), slots, [0] * len(slots))
        rows = made.embeddings["vis"]
        found = judge_references(made, self.real, self.thresholds, self.plan)
        alone = np.array([verdict == KEPT for verdict in found.verdicts])
        gallery = np.concatenate([rows[:0], *(own["vis"] for _, own in passed)])
        unique = admit_references(rows, gallery, self.thresholds, self.plan.rules, alone, len(rows)).passed
        for row, slot in enumerate(slots):
            verdict = Rule.UNIQUE.value if alone[row] and not unique[row] else found.verdicts[row]
            self.tally.add(Record(slot, 0, verdict))
            own = {name: part[row : row + 1] for name, part in made.embeddings.items()}
            (passed if verdict == KEPT else refused).append((slot, own))

    def _later_samples(self, slot: int, own: Embeddings, others: Sequence[Unit]) -> None:
        """A round of one person."""
        attempts = range(1, 1 + min(self.plan.round_size, self.plan.tries - 1))
        made = self._draw(np.repeat(self.sampler([slot]), len(attempts), axis=0), [slot] * len(attempts), attempts)
        references = np.concatenate([own["vis"], *others])
        found = judge_round(made, own, 0, self.real, references, self.thresholds, self.plan)
        for attempt, verdict in zip(attempts, found.verdicts, strict=False):
            self.tally.add(Record(slot, attempt, verdict))

    def _draw(self, features: Any, slots: Sequence[int], attempts: Sequence[int]) -> Candidates:
        """Draws, embeds and encodes, under the clock."""
        began = time.perf_counter()
        made = self.maker.make(features, slots, attempts, detect=attempts[0] == 0)
        for wait in begin_encoding(self.encoder, made, range(len(slots))[:ENCODED]):
            wait()
        self.seconds += time.perf_counter() - began
        self.drawn += len(slots)
        return made

    # ------------------------------------------------------------------------
    # What it means for the whole run.

    def forecast(self, spare: float = 1.0, processes: int = 1) -> dict[str, Any]:
        """For --dry-run, as JSON. spare: as `estimate` has it. processes: that share the work."""
        each = self.seconds / max(1, self.drawn) / processes
        found = estimate(self.plan, self.tally, each, self.encoder.pair_bytes, spare)
        pairs = self.plan.ids * self.plan.samples_per_id
        return {
            "pilot": {"first_samples": _shares(self.tally.first), "later_samples": _shares(self.tally.later)},
            **found.as_dict(),
            "pairs_per_second": pairs / found.seconds if found.seconds else None,
            "memory_bytes": self._memory(),
            "infeasible": infeasible(self.plan, self.tally) or None,
        }

    def _memory(self) -> int:
        """Of a process, as it is now, and everybody's reference beside it; of its GPU where it has one."""
        size = self.real.rows.shape[1] * 4 * self.plan.ids
        if self.real.rows.is_cuda:
            return torch.cuda.max_memory_reserved() + size
        return psutil.Process().memory_info().rss + size


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = max(1, sum(counts.values()))
    return {verdict: count / total for verdict, count in Counter(counts).most_common()}


def in_words(forecast: dict[str, Any], plan: Plan) -> list[str]:
    """The forecast for people, a line each."""
    lines = [f"{plan.ids:,} identities of {plan.samples_per_id:,} pairs"]
    for name, words in (("first_samples", "first samples"), ("later_samples", "later samples")):
        shares = forecast["pilot"][name]
        if shares:
            lines.append(f"{words}: " + ", ".join(f"{share:.0%} {verdict}" for verdict, share in shares.items()))
    if forecast["seconds"] is None:
        lines.append("nothing passed, so nothing can be said about time and disk")
    else:
        lines.append(
            f"about {forecast['slots']:,.0f} people to be tried (--max-slots {plan.max_slots:,}), "
            f"{forecast['candidates']:,.0f} candidates, {duration(forecast['seconds'])} at "
            f"{forecast['pairs_per_second']:.3g} pairs a second"
        )
        lines.append(f"disk {data_size(forecast['disk_bytes'])}, memory {data_size(forecast['memory_bytes'])}")
    return lines

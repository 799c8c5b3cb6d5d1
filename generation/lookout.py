"""Looks ahead while a run goes on: a setting that can hardly succeed, and a disk that is too small, are told early.

Each is told once. It is asked each time that the number of candidates has doubled, so that chance has few occasions,
and on rank 0 alone, which sees all first samples, and later ones of its own people: a fair sample.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dnnlib import console
from dnnlib.errors import UserError
from generation.encoding import Encoder
from generation.feasibility import ENOUGH_CANDIDATES, MOST_TRIES, Tally, data_size, duration, estimate, infeasible
from generation.layouts import Layout
from generation.records import Plan, Record
from torch_utils.distributed import world_size

PEOPLE_TO_END = 2  # at least, before a run is ended for how few of a person's samples pass: one may be an exception
DISK_MARGIN = 1.05  # of what is needed: the file system's own needs


@dataclass
class Lookout:
    """strict: end the run where it is infeasible. outdir: whose disk is looked at. tell: what shows a line."""

    plan: Plan
    encoder: Encoder
    layout: Layout
    outdir: Path
    strict: bool = False
    tell: Callable[[str], None] = console.warn
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._next, self._began, self._said = ENOUGH_CANDIDATES, time.monotonic(), set[str]()
        self._people = 0

    def __call__(self, records: Sequence[Record], people: int = 0) -> None:
        """Count judged candidates, and look ahead when it is time. people: completed so far, by all processes.

        Raises UserError with `strict`.
        """
        self._people = people
        for record in records:
            self.tally.add(record)
        if self.tally.candidates >= self._next:
            self._next = 2 * self.tally.candidates
            self.look()

    def look(self) -> None:
        """Tell what is to be told."""
        if line := infeasible(self.plan, self.tally):
            line += self._time()
            if self.strict and infeasible(self.plan, self.tally, PEOPLE_TO_END):
                raise UserError(f"{line} (--strict ends the run; what is finished stays)")
            self._say("feasible", line)
        elif line := self._short_disk():
            self._say("disk", line)

    def _say(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self.tell(line)

    def _time(self) -> str:
        """How long it would take at this pace, were no limit in the way."""
        found = estimate(replace(self.plan, tries=MOST_TRIES), self.tally)
        if not math.isfinite(found.candidates):
            return ""
        judged = sum(self.tally.first.values()) + sum(self.tally.later.values()) * world_size()  # by all, about
        each = (time.monotonic() - self._began) / judged
        return f"; without that limit it would take about {duration(each * found.candidates)}"

    def _short_disk(self) -> str:
        found = estimate(self.plan, self.tally, 0.0, self.encoder.pair_bytes, self.layout.spare)
        written = self._people * self.plan.samples_per_id * self.encoder.pair_bytes
        needed, free = found.disk_bytes - written, shutil.disk_usage(self.outdir).free
        if found.slots > self.plan.max_slots or needed * DISK_MARGIN <= free:
            return ""  # of what may not succeed nobody knows how much it takes
        return f"--outdir: {self.outdir}: about {data_size(needed)} are needed, {data_size(free)} are free"

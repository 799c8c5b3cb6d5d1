"""Which candidates become the dataset: the phases of a run, the same result whatever the order of the work.

1. *Slots.* Slot i has an identity feature and a first sample of its own; a block of them is rendered and checked (face,
   frontal, private). Blocks do not depend on one another.
2. *People.* One pass in slot order keeps the slots whose reference is unlike every reference kept before.
3. *Samples.* Each person grows, in rounds, independent of all others.

A person who is not completed is dropped. After all people of a wave are done, the next unique slots take the free
identity numbers (a new reference must also be unlike every accepted sample of the people who stay), until all numbers
are taken or the slots run out. The first wave is small: what is hopeless shows there.

Every process calls `run`. Blocks and people are the units of work, handed to whichever process asks next; the pass in
slot order is rank 0's. What is finished is stored in parts that all share, so a run that starts again, on any number of
processes, finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generation.growing import Grower
from generation.layouts import Layout
from generation.parts import Parts
from generation.phase import Phase
from generation.privacy_diversity import Unit
from generation.records import Outcome, Watch, watch_nothing
from generation.references import Blocks, References, meet
from torch_utils.distributed import Tickets, gathered
from torch_utils.search import Gallery
from torch_utils.stop_signals import SharedStop, StopSignals

GIVE_UP_AFTER = 20  # people from the start of whom none was completed; the size of the first wave


@dataclass
class Selection(Phase):
    """One run: what goes in, and `run`."""

    parts: Parts
    layout: Layout
    watch: Watch = watch_nothing
    stop: StopSignals = field(default_factory=StopSignals)

    def run(self) -> Outcome:
        """All phases. The outcome, whole on rank 0, says whether, and why, there are fewer identities than wanted.

        Raises Stopped where any process was asked to leave.
        """
        stop = SharedStop(self.stop)
        blocks = Blocks(*self.inputs, self.parts, self.watch, stop)
        grower = Grower(*self.inputs, blocks, self.parts, self.layout, self.watch, stop)
        passed = References(blocks)
        people: dict[int, int] = {}  # identity -> slot
        references: dict[int, NDArray[np.float32]] = {}  # identity -> [D]
        dropped: list[int] = []
        shortfall = ""
        while len(people) < self.plan.ids and not shortfall:
            if not people and len(dropped) >= GIVE_UP_AFTER:
                shortfall = "tries"
                break
            free = [identity for identity in range(self.plan.ids) if identity not in people]
            wave = free[: max(GIVE_UP_AFTER - len(dropped), 0)] if not people else free
            chosen = passed.choose(len(wave), list(people.values()))
            if len(chosen.slots) < len(wave):
                shortfall = "slots"
            jobs = list(zip(wave, chosen.slots, strict=False))
            references |= dict(zip(wave, chosen.references, strict=False))
            complete = self._grow_all(grower, jobs, references)
            for identity, slot in jobs:
                if complete[slot]:
                    people[identity] = slot
                else:
                    dropped.append(slot)
                    del references[identity]
        order = sorted(people)
        rows = _stacked(references, order)
        return Outcome({identity: people[identity] for identity in order}, rows, dropped, passed.others, shortfall)

    def _grow_all(
        self, grower: Grower, jobs: Sequence[tuple[int, int]], references: dict[int, NDArray[np.float32]]
    ) -> dict[int, bool]:
        """Grow (identity, slot) pairs by all processes: slot -> whether it became complete. Raises Stopped."""
        order = sorted(references)
        rows = Gallery.of(_stacked(references, order), self.real.rows.device)
        own = {identity: row for row, identity in enumerate(order)}
        done: dict[int, bool] = {}
        for number in Tickets(len(jobs)):
            identity, slot = jobs[number]
            complete = grower.grow(identity, slot, rows, own[identity])
            if complete is None or grower.stop.received:
                break
            done[slot] = complete
        grower.flush()
        meet(grower.stop)
        return {slot: complete for some in gathered(done) for slot, complete in some.items()}


def _stacked(references: dict[int, NDArray[np.float32]], order: Sequence[int]) -> Unit:
    """[M, D] of those in `order`."""
    return np.stack([references[identity] for identity in order]) if order else np.empty((0, 1), dtype=np.float32)

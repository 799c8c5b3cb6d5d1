"""What one sees of a run: one line, which rank 0 shows for all processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from dnnlib.progress import progress
from generation.lookout import Lookout
from generation.records import Person, Plan, Record
from generation.rules import KEPT, Rule
from torch_utils.distributed import SharedCounter, rank

REFRESH_SECONDS = 2.0


class SharedVerdicts:
    """How often each verdict was given and how many people were completed, in all processes.

    Made by all together. `add` is cheap; what it counts is told to the others about every REFRESH_SECONDS, by `share`.
    """

    def __init__(self) -> None:
        self._shared = {verdict: SharedCounter() for verdict in (KEPT, *(rule.value for rule in Rule))}
        self._people, self._own, self._done = SharedCounter(), Counter[str](), 0
        self.verdicts: Counter[str] = Counter()  # of all, when it was last shared
        self.people = 0
        self._shared_at = time.monotonic()

    def add(self, records: Sequence[Record], person: Person | None) -> bool:
        """Counts; says whether it is time to share."""
        self._own.update(record.verdict for record in records)
        self._done += person is not None and person.complete
        return time.monotonic() - self._shared_at >= REFRESH_SECONDS

    def share(self) -> None:
        """Tells the others what was counted here; rank 0 learns what they have told."""
        self._shared_at = time.monotonic()
        for verdict, count in self._own.items():
            self._shared[verdict].add(count)
        if self._done:
            self._people.add(self._done)
        self._own, self._done = Counter(), 0
        if rank() == 0:
            self.verdicts = Counter({verdict: counter.value for verdict, counter in self._shared.items()})
            self.people = self._people.value


class ProgressLine:
    """Selection.watch as one line: identities done, kept pairs a second, acceptance, the rule that refuses most."""

    def __init__(self, plan: Plan, show: bool, lookout: Lookout | None = None) -> None:
        """lookout: what looks ahead, on rank 0; its warnings stand above the line."""
        self.lookout = lookout if rank() == 0 else None
        self.bar: tqdm[None] = progress(desc="identities", total=plan.ids, unit="id", show=show and rank() == 0)
        self.counts = SharedVerdicts()
        self.started = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._show()
        self.bar.close()

    def __call__(self, records: Sequence[Record], person: Person | None) -> None:
        if self.lookout is not None:
            self.lookout(records, self.counts.people)
        if self.counts.add(records, person):
            self._show()

    def _show(self) -> None:
        self.counts.share()
        self.bar.update(self.counts.people - self.bar.n)
        self.bar.set_postfix_str(self.text())

    def text(self) -> str:
        """What stands behind the bar."""
        verdicts = self.counts.verdicts
        kept, judged = verdicts[KEPT], verdicts.total()
        refused = [(count, rule) for rule, count in verdicts.items() if rule != KEPT and count]
        words = f"{kept / max(1e-9, time.monotonic() - self.started):.1f} pairs/s, {kept / max(1, judged):.0%} accepted"
        return words + (f", most refused: {max(refused)[1]} ({max(refused)[0]})" if refused else "")

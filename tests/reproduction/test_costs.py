"""What a plan takes at least."""

from __future__ import annotations

from reproduction.costs import least_seconds
from reproduction.stages import Stage


def stage(name: str, *reads: str, slots: int = 1) -> Stage:
    return Stage(name, "x.py", (), reads, (name,), slots)


def test_the_work_shared_out_or_the_longest_chain() -> None:
    """a (3 s) -> b (4 s), c (5 s) on both slots: 3 + 4 + 2 x 5 seconds of slots, of which the chain takes 7."""
    plan = [stage("a"), stage("b", "a/out"), stage("c", slots=2)]
    assert least_seconds(plan, [3, 4, 5], slots=1) == 12  # c has one alone
    assert least_seconds(plan, [3, 4, 5], slots=2) == 8.5
    assert least_seconds(plan, [3, 4, 5], slots=16) == 7

"""What the page draws of a manifest."""

from __future__ import annotations

from typing import Any

from reproduction.report import _numbers


def test_a_first_sample_is_not_compared_with_itself() -> None:
    lines: list[dict[str, Any]] = [
        {"sample": 0, "sim_reference": 1.0, "max_sim_real": 0.5},
        {"sample": 1, "sim_reference": 0.8, "max_sim_real": None},
    ]
    assert _numbers(lines, "sim_reference").tolist() == [0.8]
    assert _numbers(lines, "max_sim_real").tolist() == [0.5]

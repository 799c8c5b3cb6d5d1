"""The cases of bench.ops: both sides make pictures of one shape, on the device that was asked for."""

import pytest

from bench.ops import cases
from tests.devices import META, OneDevice

CASES = cases(2, 8, 32, META)


@pytest.mark.parametrize("name", CASES)
def test_both_sides_run_on_the_device(name: str) -> None:
    ours, plain, _, _ = CASES[name]
    with OneDevice():
        results = [side() for side in (ours, plain) if side is not None]
    assert {(result.device, result.shape) for result in results} == {(META, results[0].shape)}  # type: ignore[attr-defined]

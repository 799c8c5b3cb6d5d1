"""Drawings by number: the same whatever the batch, the process and what else is drawn."""

import numpy as np
import pytest
import torch

from training.draw import Drawings
from training.generator import Generator

FEATURES = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    made = Generator(resolution=8, z_dim=8, c_dim=8, w_dim=8, channel_base=64, channel_max=8, mapping_layers=2)
    return made.eval().requires_grad_(False)


def drawings(generator: Generator, seed: int = 1, batch: int = 10) -> Drawings:
    return Drawings(generator, FEATURES, seed, batch)


def test_pairs_depend_on_their_number_alone(generator: Generator) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole = next(drawings(generator).pairs(range(10)))
    odd = [part["vis"] for part in drawings(generator, batch=2).pairs(range(1, 10, 2))]
    assert [len(part) for part in odd] == [2, 2, 1] and torch.equal(torch.get_rng_state(), before)
    assert (torch.cat(odd).int() - whole["vis"][1::2].int()).abs().max() <= 1
    other = next(drawings(generator, seed=2).pairs(range(10)))
    assert not torch.equal(other["nir"], whole["nir"]) and whole["nir"].dtype == torch.uint8


def test_conditions_are_those_of_the_pairs(generator: Generator) -> None:
    own = drawings(generator)
    conditions = own.conditions(range(20))
    assert {tuple(row) for row in conditions} == {tuple(row) for row in FEATURES}  # each one drawn
    drawn = next(own.pairs(range(3)))
    z, c = zip(*(own._pair(index) for index in range(3)), strict=True)
    again = generator(torch.from_numpy(np.stack(z)), torch.from_numpy(conditions[:3]))
    assert np.array_equal(np.stack(c), conditions[:3])
    assert torch.equal(((again["vis"] * 127.5 + 127.5).round().clamp(0, 255)).to(torch.uint8), drawn["vis"])


def test_a_group_has_one_condition_and_several_latents(generator: Generator) -> None:
    seen = []
    spied = drawings(generator)
    hook = generator.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    groups = list(spied.groups(range(1, 4), 6))
    hook.remove()
    assert [len(group["nir"]) for group in groups] == [6, 6, 6]
    for z, c in seen:
        assert len({tuple(row.tolist()) for row in z}) == 6 and (c == c[0]).all()
    assert torch.equal(next(spied.groups([2], 6))["vis"], groups[1]["vis"])


def test_neighbours_of_a_path_lie_epsilon_apart(generator: Generator) -> None:
    """The difference grows with epsilon as a derivative's does, and rows are interleaved whatever the batch."""
    whole = next(drawings(generator).path(range(4), 1e-3))["vis"]
    cut = torch.cat([part["vis"] for part in drawings(generator, batch=3).path(range(4), 1e-3)])
    assert whole.shape == (8, 3, 8, 8) and whole.dtype == torch.float32 and torch.allclose(whole, cut, atol=1e-3)
    near, far = (next(drawings(generator).path(range(4), epsilon))["vis"] for epsilon in (1e-3, 2e-3))
    assert torch.equal(near[0::2], far[0::2])
    short, long = ((pictures[1::2] - pictures[0::2]).flatten(1).norm(dim=1) for pictures in (near, far))
    assert (short > 0).all() and torch.allclose(long / short, torch.tensor(2.0), rtol=0.05)

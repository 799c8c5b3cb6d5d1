"""Short formats in the highest resolutions: which blocks, how far from float32, and that training moves in them."""

from typing import Any

import pytest
import torch

from torch_utils.ops.modulated_conv2d import bounded, demodulation, modulated_conv2d
from training.adversarial import r1_penalty
from training.choices import CLAMP
from training.discriminator import Discriminator
from training.generator import Generator
from training.precision import DTYPES, use_precision

SMALL: dict[str, Any] = {"resolution": 64, "channel_base": 512, "channel_max": 16}


def generator(precision: str) -> Generator:
    torch.manual_seed(0)
    network = Generator(z_dim=8, c_dim=8, w_dim=16, mapping_layers=2, clamp=CLAMP[precision], **SMALL)
    use_precision(network, precision)
    return network


def test_the_four_highest_blocks_compute_in_it() -> None:
    network = generator("bf16")
    kinds = {res: getattr(network.synthesis, f"b{res}").dtype for res in network.resolutions}
    low = torch.bfloat16
    assert kinds == {4: torch.float32, 8: low, 16: low, 32: low, 64: low}
    judge = Discriminator(image_channels=3, c_dim=8, **{**SMALL, "resolution": 128})
    use_precision(judge, "fp16")
    assert [getattr(judge, f"b{res}").dtype for res in (128, 64, 32, 16, 8)] == [torch.float16] * 4 + [torch.float32]
    use_precision(judge, "fp32")
    assert {getattr(judge, f"b{res}").dtype for res in judge.resolutions} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_pictures_scores_and_gradients_are_close_to_float32(precision: str) -> None:
    """Relative to their size, by the formats' number of digits; first and second derivatives are finite."""
    tolerance = {"fp16": 0.02, "bf16": 0.1}[precision]
    torch.manual_seed(2)
    z, c = torch.randn(4, 8), torch.randn(4, 8)
    pictures = [generator(name)(z, c) for name in ("fp32", precision)]
    for name in pictures[0]:
        assert pictures[1][name].dtype == torch.float32
        assert (pictures[1][name] - pictures[0][name]).std() < tolerance * pictures[0][name].std()
    found = []
    for name in ("fp32", precision):
        torch.manual_seed(1)
        judge = Discriminator(image_channels=3, c_dim=8, clamp=CLAMP[name], mbstd_group=2, **SMALL)
        use_precision(judge, name)
        reals = torch.randn(4, 3, 64, 64, requires_grad=True)
        logits = judge(reals, c)
        # gamma: what an untrained network's penalty gives would be lost below float16's least numbers.
        r1_penalty(logits, reals, gamma=1000.0).mean().backward()
        found.append((logits.detach(), torch.cat([p.grad.flatten() for p in judge.parameters() if p.grad is not None])))
    (logits, gradient), (other_logits, other_gradient) = found
    assert (other_logits - logits).abs().max() < tolerance * logits.abs().max()
    assert (other_gradient - gradient).norm() < 2 * tolerance * gradient.norm()


def test_bounding_changes_nothing_after_demodulation() -> None:
    weight, styles, x = torch.randn(3, 4, 3, 3), torch.randn(2, 4) * 1000, torch.randn(2, 4, 6, 6)
    small_weight, small_styles = bounded(weight, styles)
    assert small_styles.abs().max() == 1
    plain = modulated_conv2d(x, weight, styles, padding=1)
    assert torch.allclose(modulated_conv2d(x, small_weight, small_styles, padding=1), plain, atol=1e-5)
    assert demodulation(small_weight, small_styles).isfinite().all()


def test_large_styles_stay_within_float16() -> None:
    """Unbounded, the sums would overflow: 64 channels of products of a thousand and more."""
    x = torch.randn(2, 64, 8, 8) * 100
    weight, styles = torch.randn(64, 64, 3, 3), torch.randn(2, 64) * 1000
    result = modulated_conv2d(x.half(), weight, styles, padding=1)
    expected = modulated_conv2d(x, weight, styles, padding=1)
    assert result.dtype == DTYPES["fp16"] and (result.float() - expected).abs().max() < 0.01 * expected.abs().max()

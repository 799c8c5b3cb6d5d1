"""Every phase of an iteration with the compiled kernels: what they get from the networks, they take and do right."""

from types import ModuleType

import pytest
import torch

from torch_utils.ops.kernels import use
from training.config import TrainingConfig
from training.precision import use_precision
from training.trainer import Trainer


def gradients(config: TrainingConfig, precision: str, kernels: ModuleType | None) -> list[torch.Tensor]:
    """Of each phase in the first iteration, as one vector; the networks stay as they are."""
    torch.manual_seed(0)
    trainer = Trainer(config, torch.device("cpu"))
    use_precision(trainer.generator, precision)
    for discriminator in trainer.discriminators.values():
        use_precision(discriminator, precision)
    for name, parameter in trainer.generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    for pipe in trainer.pipes.values():
        pipe.p.fill_(0.5)
    found: list[torch.Tensor] = []
    for phase in trainer.phases:

        def note(parameters: list[torch.nn.Parameter] = phase.parameters) -> None:
            found.append(torch.cat([given.grad.flatten() for given in parameters if given.grad is not None]))

        phase.optimizer.step = note  # type: ignore[assignment, method-assign]
    batch = {"vis": torch.arange(4 * 3 * 256) % 251, "nir": torch.arange(4 * 256) % 241}
    images = {name: values.reshape(4, -1, 16, 16).to(torch.uint8) for name, values in batch.items()}
    conditions = torch.randn(4, 8)
    with use(kernels):
        trainer.step((images, conditions), conditions)
    assert len(found) == len(trainer.phases) == 4
    return found


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.03), ("bf16", 0.2)])
def test_gradients_of_all_phases(
    config: TrainingConfig, cpu_module: ModuleType, precision: str, tolerance: float
) -> None:
    """R1 and path length among them, which are derivatives of derivatives; against the reference in float32."""
    expected = gradients(config, "fp32", None)
    for one, other in zip(gradients(config, precision, cpu_module), expected, strict=True):
        assert (one - other).norm() < tolerance * other.norm()

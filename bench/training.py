"""Training and drawing at tiny64 on the CPU: ours against the plain formulation, and against the machine's peak.

Inference is the generator's mapping and synthesis of a batch of 16. An iteration is the generator, both
discriminators, ADA `bgc` at p = 0.2, R1 each 16th and path length each 4th time: its seconds are those of the three
kinds of iteration, weighted as they occur in sixteen. The roofline is the time that the 3x3 and 1x1 layers'
convolutions would take at the rate of a large matrix product, measured in the same rounds.
"""

from collections.abc import Callable
from typing import Any

import click
import torch

from bench import measure, plain
from dnnlib.cli import Command, option
from torch_utils.images import from_uint8
from torch_utils.spectra import SPECTRA
from training.config import DatasetFacts, TrainingOptions, build_training_config
from training.dataset import Batch
from training.discriminator import Discriminator
from training.generator import Generator
from training.layers import Conv2d
from training.trainer import Trainer

BATCH, P, TINY64 = 16, 0.2, DatasetFacts(resolution=64, pairs=1000, feature_dim=512)
# Sixteen iterations: one with R1 and path length, three with path length, twelve with neither.
KINDS = {"both": (0, 1), "path": (4, 3), "main": (1, 12)}  # name -> (an iteration's number, how many in sixteen)


def build(facts: DatasetFacts = TINY64, **options: Any) -> Trainer:
    """A trainer of tiny64, or what `facts` and `options` say, with fixed augmentation."""
    chosen = TrainingOptions(**{"cfg": "tiny64", "batch": BATCH, "aug": "fixed", "p": P, "augpipe": "bgc", **options})
    return Trainer(build_training_config(chosen, facts), torch.device("cpu"))


def random_batch(trainer: Trainer) -> Batch:
    """Pictures and features of no one."""
    generator = torch.Generator().manual_seed(0)
    batch, resolution = trainer.config.batch, trainer.config.resolution
    images = {
        name: torch.randint(
            0, 256, [batch, spectrum.channels, resolution, resolution], generator=generator, dtype=torch.uint8
        )
        for name, spectrum in SPECTRA.items()
    }
    return images, torch.randn([batch, trainer.generator.c_dim], generator=generator)


# ----------------------------------------------------------------------------
# Floating-point operations of the layers' convolutions, a picture.


def generator_flops(network: Generator) -> float:
    """One forward pass. An upsampling layer counts as the transposed convolution that it is."""
    total = 0.0
    for res in network.synthesis.resolutions:
        block = getattr(network.synthesis, f"b{res}")
        if not block.is_first:
            total += 2 * block.conv0.weight.numel() * (res // 2) ** 2
        total += 2 * block.conv1.weight.numel() * res**2
        total += sum(2 * head.weight.numel() * res**2 for head in block.heads.values())
    return total


def discriminator_flops(network: Discriminator) -> float:
    """One forward pass."""
    total = 0.0
    for res in network.resolutions:
        for layer in getattr(network, f"b{res}").children():
            assert isinstance(layer, Conv2d)
            total += 2 * layer.weight.numel() * (res // layer.down) ** 2
    return total + 2 * network.b4.conv.weight.numel() * 16


def iteration_flops(trainer: Trainer) -> float:
    """Mean over sixteen iterations.

    A backward pass costs a forward pass for the inputs and another for the weights; differentiating a gradient costs
    four more on top of the forward and the gradient itself.
    """
    g = generator_flops(trainer.generator)
    d = sum(map(discriminator_flops, trainer.discriminators.values()))
    generator_main = 3 * g + 2 * d  # the discriminators pass gradients, but have none of their own
    path_length = (6 * g) / 2  # half a batch
    discriminator_main = g + 2 * 3 * d  # fakes and reals
    r1 = 6 * d
    return BATCH * (generator_main + discriminator_main + path_length / 4 + r1 / 16)


# ----------------------------------------------------------------------------
# Equality.


def gradients(trainer: Trainer) -> dict[str, list[torch.Tensor]]:
    """Every phase's gradients in iteration 0, without a step."""
    images, c = random_batch(trainer)
    reals = {name: from_uint8(pixels) for name, pixels in images.items()}
    found = {}
    for phase in trainer.phases:
        phase.optimizer.step = lambda *_: None  # type: ignore[method-assign, assignment]
    for phase in trainer.phases:
        torch.manual_seed(1)
        phase.run(trainer._rounds(phase, reals, c, c))
        found[phase.name] = [torch.zeros_like(p) if p.grad is None else p.grad for p in phase.parameters]
    return found


def largest_difference(ours: dict[str, list[torch.Tensor]], others: dict[str, list[torch.Tensor]]) -> float:
    """Over all phases and parameters, relative to the phase's largest gradient."""
    worst = 0.0
    for name, mine in ours.items():
        scale = max(float(gradient.abs().max()) for gradient in mine)
        pairs = zip(mine, others[name], strict=True)
        worst = max([worst, *(float((a - b).abs().max()) / scale for a, b in pairs)])
    return worst


# ----------------------------------------------------------------------------
# The benchmark.


def drawing(trainer: Trainer) -> Callable[[], dict[str, torch.Tensor]]:
    """Draws a batch with the trainer's generator, constant noise."""
    network = trainer.loss._networks[0]
    z, c = (
        torch.randn([trainer.config.batch, 512], generator=torch.Generator().manual_seed(2)),
        random_batch(trainer)[1],
    )

    @torch.no_grad()
    def draw() -> dict[str, torch.Tensor]:
        return network.synthesis(network.mapping(z, c), noise_mode="const")

    return draw


def iterating(trainer: Trainer, number: int) -> Callable[[], None]:
    """Runs iteration `number` again."""
    batch = random_batch(trainer)

    def iterate() -> None:
        trainer.iteration = number
        trainer.step(batch, batch[1])

    return iterate


@click.command(cls=Command)
@option("--rounds", default=7, help="Rounds to take the median of.")
@option("--threads", default=2, help="Threads of torch.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
def main(rounds: int, threads: int, json_path: str | None) -> None:
    """Measure drawing and training at tiny64 against the plain formulation and the machine's peak."""
    torch.set_num_threads(threads)
    sides = {"ours": build(), "plain": build()}
    plain.make_plain(sides["plain"])

    pictures = [drawing(trainer)() for trainer in sides.values()]
    max_abs_diff = max(float((pictures[0][name] - pictures[1][name]).abs().max()) for name in SPECTRA)
    largest = max(float(image.abs().max()) for image in pictures[0].values())
    gradient_diff = largest_difference(*[gradients(trainer) for trainer in sides.values()])
    sides = {"ours": build(), "plain": build()}
    plain.make_plain(sides["plain"])

    product, product_flops = measure.matrix_product()
    contestants: dict[str, measure.Work] = {"product": product}
    contestants |= {f"{side} inference": drawing(trainer) for side, trainer in sides.items()}
    times = measure.take_turns(contestants, rounds * 3)
    inference = {side: measure.median(times[f"{side} inference"]) for side in sides}
    inference_rate = product_flops / measure.median(times["product"])

    contestants = {"product": product}
    contestants |= {
        f"{side} {kind}": iterating(trainer, number)
        for kind, (number, _) in KINDS.items()
        for side, trainer in sides.items()
    }
    times = measure.take_turns(contestants, rounds)
    iteration = {
        side: sum(measure.median(times[f"{side} {kind}"]) * count for kind, (_, count) in KINDS.items()) / 16
        for side in sides
    }
    iteration_rate = product_flops / measure.median(times["product"])

    draw_flops, train_flops = generator_flops(sides["ours"].generator) * BATCH, iteration_flops(sides["ours"])
    results = {
        "inference_ratio": inference["plain"] / inference["ours"],
        "iteration_ratio": iteration["plain"] / iteration["ours"],
        "inference_roofline": draw_flops / inference_rate / inference["ours"],
        "iteration_roofline": train_flops / iteration_rate / iteration["ours"],
        "plain_inference_roofline": draw_flops / inference_rate / inference["plain"],
        "plain_iteration_roofline": train_flops / iteration_rate / iteration["plain"],
        "max_abs_diff": max_abs_diff,
        "max_relative_gradient_diff": gradient_diff,
        "pictures_per_second": {side: BATCH / seconds for side, seconds in inference.items()},
        "seconds_per_iteration": iteration,
        "matrix_product_gflops": {"inference": inference_rate / 1e9, "iteration": iteration_rate / 1e9},
        "machine": measure.machine(),
    }
    rows = [
        ("inference", f"{BATCH / inference['ours']:.0f} pictures/s, plain {BATCH / inference['plain']:.0f}: "
         f"{results['inference_ratio']:.2f} times as fast; {results['inference_roofline']:.0%} of the roofline, "
         f"plain {results['plain_inference_roofline']:.0%}"),
        ("iteration", f"{iteration['ours']:.2f} s, plain {iteration['plain']:.2f} s: "
         f"{results['iteration_ratio']:.2f} times as fast; {results['iteration_roofline']:.0%} of the roofline, "
         f"plain {results['plain_iteration_roofline']:.0%}"),
        ("equality", f"pictures differ by {max_abs_diff:.1e} (largest value {largest:.1f}), "
         f"gradients by {gradient_diff:.1e} of the largest"),
        ("matrix product", f"{inference_rate / 1e9:.0f} and {iteration_rate / 1e9:.0f} GFLOP/s in the same rounds"),
    ]  # fmt: skip
    measure.report(f"tiny64, batch {BATCH}, {threads} threads, medians of {rounds} rounds", rows, results, json_path)


if __name__ == "__main__":
    main()

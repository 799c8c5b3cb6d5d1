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
from torch_utils.memory import keep_freed_memory
from torch_utils.spectra import SPECTRA
from training.config import DatasetFacts, TrainingOptions, build_training_config
from training.dataset import Batch
from training.operations import generator_flops, pair_flops
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


def gradient_difference(ours: dict[str, list[torch.Tensor]], others: dict[str, list[torch.Tensor]]) -> float:
    """Length of the difference over the gradient's own, the largest of all phases.

    Single entries may differ more: where rounding takes an activation across zero, leaky ReLU has another slope.
    """
    flat = {name: [torch.cat([g.flatten() for g in side[name]]) for side in (ours, others)] for name in ours}
    return max(float((mine - other).norm() / mine.norm()) for mine, other in flat.values())


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


def prepare(side: str, threads: int) -> dict[str, measure.Work]:
    """What a process of one side can be asked to do: 'inference' and every kind of iteration."""
    torch.set_num_threads(threads)
    trainer = build()
    if side == "plain":
        plain.make_plain(trainer)
    else:
        keep_freed_memory()  # as the command lines do
    works: dict[str, measure.Work] = {"inference": drawing(trainer)}
    return works | {kind: iterating(trainer, number) for kind, (number, _) in KINDS.items()}


def compare(threads: int) -> dict[str, float]:
    """How far ours and the plain formulation are apart: pictures, and each phase's gradients.

    As a yardstick for the gradients: how far ours move when the weights' last bit does.
    """
    torch.set_num_threads(threads)
    ours, other, nudged = build(), build(), build()
    plain.make_plain(other)
    with torch.no_grad():
        for network in (nudged.generator, *nudged.discriminators.values()):
            for parameter in network.parameters():
                parameter.mul_(1 + (torch.rand_like(parameter) - 0.5) * 2 * torch.finfo(torch.float32).eps)
    mine = gradients(ours)
    pictures = [drawing(trainer)() for trainer in (ours, other)]
    return {
        "max_abs_diff": max(float((pictures[0][name] - pictures[1][name]).abs().max()) for name in SPECTRA),
        "max_abs_value": max(float(image.abs().max()) for image in pictures[0].values()),
        "relative_gradient_diff": gradient_difference(mine, gradients(other)),
        "relative_gradient_diff_of_rounding": gradient_difference(mine, gradients(nudged)),
    }


def time_sides(rounds: int, threads: int) -> dict[str, Any]:
    """Medians: seconds of inference and of an iteration by side, and the matrix product's rate in the same rounds."""
    sides = {name: measure.Side(prepare, name, threads) for name in ("ours", "plain")}
    torch.set_num_threads(threads)
    work, flops = measure.matrix_product()
    product = measure.timed(work)
    drawn = measure.take_turns(
        {"product": product, **{name: side.timed("inference") for name, side in sides.items()}}, rounds * 3
    )
    stepped = measure.take_turns(
        {"product": product, **{f"{n} {kind}": side.timed(kind) for kind in KINDS for n, side in sides.items()}}, rounds
    )
    weights = {kind: count / 16 for kind, (_, count) in KINDS.items()}
    return {
        "inference": {name: measure.median(drawn[name]) for name in sides},
        "iteration": {
            name: sum(measure.median(stepped[f"{name} {kind}"]) * weight for kind, weight in weights.items())
            for name in sides
        },
        "rate": {
            "inference": flops / measure.median(drawn["product"]),
            "iteration": flops / measure.median(stepped["product"]),
        },
    }


@click.command(cls=Command)
@option("--rounds", default=7, help="Rounds to take the median of.")
@option("--threads", default=2, help="Threads of torch.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
def main(rounds: int, threads: int, json_path: str | None) -> None:
    """Measure drawing and training at tiny64 against the plain formulation and the machine's peak."""
    difference = compare(threads)
    times = time_sides(rounds, threads)
    trainer = build()
    pair = {
        "inference": generator_flops(trainer.generator),
        "iteration": pair_flops(trainer.config, trainer.generator, trainer.discriminators),
    }
    flops = {what: BATCH * own for what, own in pair.items()}
    results: dict[str, Any] = dict(difference)
    rows = []
    for what in ("inference", "iteration"):
        ours, other = times[what]["ours"], times[what]["plain"]
        floor = flops[what] / times["rate"][what]  # seconds at the matrix product's rate
        results |= {
            f"{what}_ratio": other / ours,
            f"{what}_roofline": floor / ours,
            f"plain_{what}_roofline": floor / other,
            f"{what}_seconds": times[what],
            f"{what}_gflop": flops[what] / 1e9,
            f"{what}_product_gflops": times["rate"][what] / 1e9,
        }
        rows.append(
            (
                what,
                f"{ours:.3f} s, plain {other:.3f} s: {other / ours:.2f} times as fast; "
                f"{floor / ours:.0%} of the roofline, plain {floor / other:.0%}; "
                f"{flops[what] / 1e9:.0f} GFLOP at {times['rate'][what] / 1e9:.0f} GFLOP/s",
            )
        )
    apart = f"pictures differ by {difference['max_abs_diff']:.1e} (largest value {difference['max_abs_value']:.1f}), "
    apart += f"gradients by {difference['relative_gradient_diff']:.1e} of their length; "
    apart += f"other last bits of the weights move them by {difference['relative_gradient_diff_of_rounding']:.1e}"
    rows.append(("equality", apart))
    results["machine"] = measure.machine()
    measure.report(f"tiny64, batch {BATCH}, {threads} threads, medians of {rounds} rounds", rows, results, json_path)


if __name__ == "__main__":
    main()

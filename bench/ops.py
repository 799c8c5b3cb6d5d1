"""Each op at the size of tiny64's largest layer: bandwidth against a copy of as many bytes, and the plain form's time.

An op's bytes are its inputs read once and its outputs written once; the copy moves as many. What computes more than it
moves (the convolutions) is held against the matrix product's rate as well.
"""

from functools import partial
from typing import Any

import click
import torch

from bench import measure, plain
from dnnlib.cli import Command, option
from torch_utils.memory import keep_freed_memory
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.grid_sample import grid_sample
from torch_utils.ops.modulated_conv2d import modulated_conv2d
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upsample2d
from training.augment_geometry import warp

Case = tuple[measure.Work, measure.Work | None, list[torch.Tensor], float]  # ours, plain, what moves, FLOPs


def cases(batch: int, channels: int, size: int, device: torch.device) -> dict[str, Case]:
    """Name -> what to time. Pictures are channels_last for ours, contiguous for the plain form."""

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device)

    f = setup_filter([1, 3, 3, 1]).to(device)
    plain_x, half = random(batch, channels, size, size), random(batch, channels, size // 2, size // 2)
    x, small = (t.contiguous(memory_format=torch.channels_last) for t in (plain_x, half))
    b, scale, noise = random(channels), random(batch, channels), random(batch, 1, size, size)
    w, styles, w1 = random(channels, channels, 3, 3), random(batch, channels), random(channels, channels, 1, 1)
    grid, picture = torch.rand([batch, size, size, 2], device=device) * 2 - 1, random(batch, 3, size, size)
    inverse = torch.eye(3, device=device).repeat(batch, 1, 1) + 0.05 * random(batch, 3, 3)
    inverse[:, 2] = torch.tensor([0.0, 0.0, 1.0], device=device)
    conv = 2.0 * w.numel() * batch * size**2

    def plain_epilogue() -> torch.Tensor:
        return plain.bias_act(plain_x * scale[:, :, None, None] + noise, b, "lrelu")

    return {
        "bias_act": (lambda: bias_act(x, b, "lrelu"), lambda: plain.bias_act(plain_x, b, "lrelu"), [x, x], 0),
        "bias_act with scale and noise": (
            lambda: bias_act(x, b, "lrelu", scale=scale, noise=noise), plain_epilogue, [x, noise, x], 0,
        ),
        "upfirdn2d, filter": (
            lambda: filter2d(x, f), lambda: plain.upfirdn2d(plain_x, f, padding=[2, 1, 2, 1]), [x, x], 0,
        ),
        "upfirdn2d, up": (
            lambda: upsample2d(small, f), lambda: plain.upfirdn2d(half, f, up=2, padding=[2, 1, 2, 1], gain=4),
            [small, x], 0,
        ),
        "upfirdn2d, down": (
            lambda: downsample2d(x, f), lambda: plain.upfirdn2d(plain_x, f, down=2, padding=[1, 1, 1, 1]),
            [x, small], 0,
        ),
        "grid_sample": (lambda: grid_sample(picture, grid), None, [picture, grid, picture], 0),
        "warp": (lambda: warp(picture, inverse), lambda: plain.warp(picture, inverse), [picture, picture], 0),
        "conv2d_resample, 3x3": (lambda: conv2d_resample(x, w, padding=1), None, [x, w, x], conv),
        "conv2d_resample, 3x3 down": (
            lambda: conv2d_resample(x, w, f=f, down=2, padding=1), None, [x, w, small], conv / 4,
        ),
        "conv2d_resample, 1x1 down": (lambda: conv2d_resample(x, w1, f=f, down=2), None, [x, w1, small], conv / 36),
        "modulated_conv2d": (
            lambda: modulated_conv2d(x, w, styles, padding=1, b=b, noise=noise, act="lrelu"),
            lambda: plain.bias_act(plain.modulated_conv2d(plain_x, w, styles, f, 1, 1) + noise, b, "lrelu"),
            [x, w, noise, x], conv,
        ),
        "modulated_conv2d, up": (
            lambda: modulated_conv2d(small, w, styles, f=f, up=2, padding=1, b=b, noise=noise, act="lrelu"),
            lambda: plain.bias_act(plain.modulated_conv2d(half, w, styles, f, 2, 1) + noise, b, "lrelu"),
            [small, w, noise, x], conv / 4,
        ),
    }  # fmt: skip


@click.command(cls=Command)
@option("--rounds", default=15, help="Rounds to take the median of.")
@option("--threads", default=2, help="Threads of torch.")
@option("--device", default="cpu", help="cpu or cuda.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
@torch.no_grad()
def main(rounds: int, threads: int, device: str, json_path: str | None) -> None:
    """Measure each op's bandwidth against a copy of the same bytes, and its time against the plain form."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    where = torch.device(device)
    size = (16, 64, 64)
    product, product_flops = measure.matrix_product(device=where)
    results: dict[str, Any] = {}
    rows = []
    for name, (ours, other, moved, flops) in cases(*size, where).items():
        number = sum(tensor.numel() for tensor in moved) // 2
        source, target = torch.randn([number], device=where), torch.empty([number], device=where)
        contestants: dict[str, measure.Work] = {"ours": ours, "copy": partial(target.copy_, source), "product": product}
        if other is not None:
            contestants["plain"] = other
        times = measure.take_turns({side: measure.timed(work, where) for side, work in contestants.items()}, rounds)
        seconds = {side: measure.median(values) for side, values in times.items()}
        found = {
            "seconds": seconds["ours"],
            "bandwidth_fraction": seconds["copy"] / seconds["ours"],
            "gigabytes_per_second": 8e-9 * number / seconds["ours"],
        }
        text = f"{found['bandwidth_fraction']:7.1%} of a copy, {found['gigabytes_per_second']:6.1f} GB/s"
        if "plain" in seconds:
            found["plain_ratio"] = seconds["plain"] / seconds["ours"]
            text += f", {found['plain_ratio']:5.2f} times as fast as the plain form"
        if flops:
            found["product_fraction"] = flops / seconds["ours"] / (product_flops / seconds["product"])
            text += f", {found['product_fraction']:4.0%} of the matrix product's rate"
        results[name] = found
        rows.append((name, f"{seconds['ours'] * 1e3:7.3f} ms, {text}"))
    title = (
        f"[{', '.join(map(str, (size[0], size[1], size[2], size[2])))}] float32 on {device}, medians of {rounds} rounds"
    )
    measure.report(title, rows, {**results, "machine": measure.machine()}, json_path)


if __name__ == "__main__":
    main()

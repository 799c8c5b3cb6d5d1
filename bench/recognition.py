"""Embedding against the bare network, from memory and from PNG files, and verification of 6,000 pairs.

The network is MobileFaceNet by default: the lightest that people use at 112x112, so that all around it weighs most;
`--arch r18` is the lightest iResNet. The bare network gets batches that are prepared already. The contestants take
turns, and each fraction is bare seconds over ours. Untrained weights cost what trained ones do. A round is long enough
that starting the readers, a few tenths of a second with the pages that a fork makes the network copy, weighs little.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from arcface.backbones import build_backbone
from arcface.choices import ARCHITECTURES, FULL_INPUT_SIZE
from arcface.embed import embed, embed_source
from arcface.preprocess import preprocess
from arcface.verification import pair_scores
from arcface.weights import RecognitionModel, fingerprint
from bench import measure
from dnnlib.cli import Command, option
from metrics.verification import verify
from torch_utils.distributed import pick_device
from torch_utils.image_tree import encode_png
from torch_utils.memory import keep_freed_memory
from torch_utils.picture_source import PictureSource, open_pictures

BATCH = 64


def build_model(arch: str, device: torch.device, input_size: int = FULL_INPUT_SIZE) -> RecognitionModel:
    """An untrained model in evaluation mode."""
    torch.manual_seed(0)
    backbone = build_backbone(arch, input_size).eval().to(device)
    mark = fingerprint(backbone.state_dict())
    backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return RecognitionModel(arch, input_size, "RGB", mark, backbone, {})


def write_pictures(folder: Path, count: int, side: int = FULL_INPUT_SIZE) -> PictureSource:
    """`count` PNG pictures of noise over a smooth ground, which PNG shrinks about as little as a photograph."""
    rng = np.random.default_rng(0)
    (folder / "person").mkdir(parents=True)
    ramp = np.linspace(40, 200, side)
    for number in range(count):
        ground = ramp[:, None, None] * 0.5 + ramp[None, :, None] * 0.5 + rng.normal(0, 6, (side, side, 3))
        pixels = ground.clip(0, 255).astype(np.uint8)
        (folder / "person" / f"{number:05}.png").write_bytes(encode_png(pixels))
    return open_pictures(folder, "vis")


def prepare(model: RecognitionModel, source: PictureSource, workers: int, batch: int = BATCH) -> dict[str, Any]:
    """The contestants: name -> what embeds all pictures and returns features [N, 512]."""
    pixels = np.stack([source.decode(index) for index in range(len(source))])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()  # uint8 [N, 3, S, S]
    prepared = [
        preprocess(part, model.input_size, model.color_order).to(model.device, memory_format=torch.channels_last)
        for part in pictures.split(batch)
    ]

    @torch.inference_mode()
    def bare() -> np.ndarray:
        return torch.cat([model.backbone(part) for part in prepared]).cpu().numpy()

    return {
        "bare": bare,
        "memory": lambda: embed(model, pictures, batch),
        "disk": lambda: embed_source(model, source, batch, workers),
    }


def verification_seconds(pairs: int = 6000, length: int = 512) -> float:
    """Seconds from the features of two pictures a pair to all figures: scores, ten folds, EER and FNMRs."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((2 * pairs, length))
    same = np.arange(pairs) % 2 == 0
    people[1::2][same] += 1.5 * people[::2][same]
    features = people.astype(np.float32)
    first = np.arange(0, 2 * pairs, 2)
    began = time.perf_counter()
    verify(pair_scores(features, first, first + 1), same)
    return time.perf_counter() - began


@click.command(cls=Command)
@option("--arch", default="mbf", type=click.Choice([name for name, row in ARCHITECTURES.items() if not row.narrow]))
@option("--pictures", default=2048, help="Pictures that a contestant embeds in a round.")
@option("--rounds", default=3, help="Rounds to take the median of.")
@option("--threads", default=2, help="Threads of torch.")
@option("--workers", default=2, help="Processes that read PNG files.")
@option("--device", default="auto", help="Device: auto, cpu, cuda, cuda:1.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
def main(arch: str, pictures: int, rounds: int, threads: int, workers: int, device: str, json_path: str | None) -> None:
    """Measure embedding against the bare network, and verification."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    model = build_model(arch, pick_device(device))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source = write_pictures(Path(folder), pictures)
        began = time.perf_counter()
        for index in range(min(pictures, 200)):
            source.decode(index)
        decode = (time.perf_counter() - began) / min(pictures, 200)
        works = prepare(model, source, workers)
        features = {name: work() for name, work in works.items()}
        times = measure.take_turns({name: measure.timed(work, model.device) for name, work in works.items()}, rounds)
    seconds = {name: measure.median(found) for name, found in times.items()}
    results: dict[str, Any] = {
        "embedding_fraction": seconds["bare"] / seconds["disk"],
        "embedding_fraction_memory": seconds["bare"] / seconds["memory"],
        "seconds_verification_6000": verification_seconds(),
        "seconds_decode_picture": decode,
        "pictures_per_second": {name: pictures / took for name, took in seconds.items()},
        "max_abs_diff": max(float(np.abs(found - features["bare"]).max()) for found in features.values()),
        "arch": arch,
        "pictures": pictures,
        "workers": workers,
        "device": str(model.device),
        "machine": measure.machine(),
    }
    rows = [(name, f"{rate:.0f} pictures a second") for name, rate in results["pictures_per_second"].items()]
    rows += [
        ("from memory", f"{results['embedding_fraction_memory']:.1%} of the bare network's speed"),
        ("from disk", f"{results['embedding_fraction']:.1%} with {workers} reading processes"),
        ("decoding", f"{decode * 1e3:.2f} ms a picture; the bare network {seconds['bare'] / pictures * 1e3:.2f} ms"),
        ("6,000 pairs", f"{results['seconds_verification_6000']:.3f} s"),
        ("equality", f"features differ by {results['max_abs_diff']:.1e}"),
    ]
    title = f"{arch} at {FULL_INPUT_SIZE}x{FULL_INPUT_SIZE} on {model.device}, batch {BATCH}, {threads} threads"
    measure.report(title, rows, results, json_path)


if __name__ == "__main__":
    main()

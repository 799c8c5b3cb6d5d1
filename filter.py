#!/usr/bin/env python3
"""Command line: the privacy-and-diversity filter on datasets that exist. The work is in commands.filter."""

from typing import Any

import click

from dnnlib.cli import Group, option
from generation.choices import DEFAULT_DETECTOR
from generation.rule_options import filter_options
from torch_utils.spectra import SPECTRA


@click.group(cls=Group)
def main() -> None:
    """The privacy-and-diversity filter on datasets that exist: calibrate it, apply it, audit what came out."""


@main.command("calibrate")
@option("--data", required=True, metavar="DIR|ZIP", help="Real dataset with VIS/ and NIR/, several pictures a person.")
@option("--rec-model", required=True, metavar="FILE", help="Recognition model that the filter will see with.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option("--out", required=True, metavar="FILE", help="The thresholds.json to write.")
@option(
    "--real-features",
    metavar="FILE",
    help="Features of --data under that model, mode all, so that nothing is embedded again.",
)
@option(
    "--unique-fmr",
    type=click.FloatRange(0, 1),
    help="Take `unique` where at most this share of real strangers match, instead of mean - 2 sd. For "
    "recognition models so weak that mean - 2 sd calls many strangers the same person.",
)
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Replace --out.")
def calibrate_command(**options: Any) -> None:
    """Measure how alike pictures of one real person are, and derive the filter's thresholds from it.

    unique = same = mean - 2 sd and repeat = mean + sd of the mated scores, with the false match and false non-match
    rates of the real set at each; a plot of the scores lies beside --out.
    """
    from commands.filter import calibrate

    calibrate(**options)


@main.command("apply")
@option(
    "--data",
    required=True,
    metavar="DIR|ZIP",
    help="Dataset to filter: VIS/ and NIR/, or ArcBiFaceGAN's folders id_0/VIS, id_0/NIR. Nothing in it is changed.",
)
@option("--rec-model", required=True, metavar="FILE", help="Recognition model that the filter sees with.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--real-features",
    required=True,
    multiple=True,
    metavar="FILE",
    help="Features of the real people whom nobody may resemble, of the same model. May be given several times, for the "
    "features of both spectra, say; thresholds are calibrated on the first file.",
)
@option(
    "--thresholds",
    metavar="FILE",
    help="Thresholds from filter.py calibrate. Without it they are calibrated on --real-features.",
)
@option(
    "--outdir", required=True, metavar="DIR", help="The new dataset: new, empty, or of the same run, which goes on."
)
@option(
    "--min-samples",
    type=click.IntRange(min=1),
    default=2,
    help="Samples that a person must be left with; others are dropped, and whoever was like them may stay.",
)
@option(
    "--detector",
    metavar="none|DIR",
    default=DEFAULT_DETECTOR,
    help="Face detector for each person's first sample: the installed facenet-pytorch package's weights, a folder or "
    "wheel with them, or none.",
)
@filter_options
@option("--copy", is_flag=True, help="Copy pictures, also where the file system could link them.")
@option("--workers", type=click.IntRange(min=0), help="Processes that read pictures.  [default: one a processor]")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Delete the run that is in --outdir first.")
def apply_command(**options: Any) -> None:
    """Filter a dataset that exists into a new one, by the rules of generate_dataset.py.

    A person's first sample that passes is the reference; people like others before them and samples that break a rule
    are left out. Pictures that are kept become hard links to those of --data where the file system can, else copies.
    """
    from commands.filter import apply

    apply(**options)


@main.command("audit")
@option(
    "--data",
    required=True,
    metavar="DIR|ZIP|REC|TAR",
    help="Synthetic dataset: VIS/ and NIR/, ArcBiFaceGAN's folders, or a packed one.",
)
@option("--rec-model", required=True, metavar="FILE", help="Recognition model to look with; best one that the filter "
        "did not use.")  # fmt: skip
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option("--real-data", required=True, metavar="DIR|ZIP|REC|TAR", help="The pictures that the generator learned from.")
@option("--real-features", metavar="FILE", help="Features of --real-data under that model, mode all, made before.")
@option("--heldout-data", metavar="DIR|ZIP|REC|TAR", help="Pictures of other real people, taken in the same way: "
        "without them there is no membership test.")  # fmt: skip
@option("--thresholds", metavar="FILE", help="The filter's thresholds, whose promise is then checked, too.")
@option("--outdir", metavar="DIR", help="Folder of the findings.  [default: `audit` in --data, or beside a file]")
@option("--spectrum", type=click.Choice(list(SPECTRA)), default="vis", help="Spectrum that the model looks at.")
@option("--workers", type=click.IntRange(min=0), help="Processes that read pictures.  [default: one a processor]")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Replace an audit that is in --outdir.")
def audit_command(**options: Any) -> None:
    """Compare a finished dataset with the real people that its generator learned from.

    For every sample the nearest real picture; how many match a real person; whether it shows who was learned from;
    near-copies; and how its people compare with the real ones. Writes audit.json, audit.csv (a line a sample) and
    audit.html, and fills the audit's section of the dataset's datasheet.md. Findings are no mistake: the exit status
    is 0.
    """
    from commands.filter import audit

    audit(**options)


if __name__ == "__main__":
    main()

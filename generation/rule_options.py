"""The options that say how to filter, for the commands that do; generation.presets makes rules of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dnnlib.cli import listed, option
from generation.presets import PRESETS, TRIES
from generation.rules import MIN_FACE_PROBABILITY, SWITCHED, USUAL

MOST = 10**9  # of anything that is counted: what is more was not meant, and numpy cannot count endlessly

_DECORATORS = (
    option(
        "--filter-preset",
        type=click.Choice(list(PRESETS)),
        default="default",
        help="What stands where the other options leave it open. arcbiface is the original's filter to the letter: the "
        "first listed feature of each real person only, |cos|, and the paper's thresholds 0.622, 0.622 and 0.853. "
        "Comparing with one feature a person lets through who is like another picture of somebody real: use it to "
        "compare with the original, not to release data.",
    ),
    option(
        "--rules",
        shell_complete=listed(*(rule.value for rule in SWITCHED)),
        metavar="NAMES",
        help=f"The rules in force, between commas, of {', '.join(rule.value for rule in SWITCHED)}. A rule that is "
        f"left out refuses nobody and promises nothing; what it compares is recorded all the same.  [default: "
        f"{','.join(rule.value for rule in USUAL)}]",
    ),
    option(
        "--min-face-prob",
        type=click.FloatRange(0, 1),
        help=f"Lowest detection probability of the first sample's face.  [default: {MIN_FACE_PROBABILITY}]",
    ),
    option(
        "--min-feature-norm",
        type=click.FloatRange(min=0),
        help="Rule quality: least length of a sample's raw VIS feature, under which recognition models see badly. "
        "Turns the rule on.",
    ),
    option(
        "--min-sharpness",
        type=click.FloatRange(min=0),
        help="Rule quality: least variance of the Laplacian of a sample's grey VIS picture, in grey levels of 0 to "
        "255. Turns the rule on.",
    ),
    option(
        "--check-nir",
        is_flag=True,
        help="The NIR picture's own embedding must be unlike every real feature, too, and like that of the first "
        "sample's NIR picture.",
    ),
    option(
        "--absolute",
        is_flag=True,
        help="Take the absolute value of the cosine in the private and unique rules, as the original did.",
    ),
)
_GENERATING = (
    option(
        "--tries",
        type=click.IntRange(1, MOST),
        help=f"Candidates of an identity before it is dropped and another takes its place.  [default: {TRIES}]",
    ),
    option("--no-privacy-check", is_flag=True, help="Do not compare with real people."),
)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the command, which makes samples, takes all of them."""
    for decorator in reversed(_GENERATING):
        command = decorator(command)
    return filter_options(command)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the command takes those that samples can be judged by that are there already."""
    for decorator in reversed(_DECORATORS):
        command = decorator(command)
    return command

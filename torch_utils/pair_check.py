"""Looks at every picture of a paired dataset before anything is built on it (dataset_tool.py check, train.py)."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from dnnlib.errors import UserError
from torch_utils.feature_file import FeatureSet
from torch_utils.image_tree import PairedTree
from torch_utils.spectra import SPECTRA


class PairSummary(NamedTuple):
    """What a sound dataset holds."""

    pairs: int
    identities: int
    resolution: int


def check_pairs(tree: PairedTree, names: Iterable[str] | None = None, option: str = "--data") -> PairSummary:
    """Decodes every pair: readable (in a zip, with the right CRC), square, one size for all.

    `names`: an iterable over tree.names to be shown as progress. Raises UserError naming the first file at fault.
    """
    resolution, first = 0, ""
    for name in names if names is not None else tree.names:
        for spectrum in SPECTRA.values():
            try:
                height, width, _ = tree.decode(spectrum.name, name).shape
            except UserError as error:  # which begins with the file
                raise UserError(f"{option}: {error}") from error
            where = f"{option}: {tree.root}/{spectrum.folder}/{name}"
            if height != width:
                raise UserError(f"{where}: {width}x{height} is not square; crop it")
            if not resolution:
                resolution, first = width, f"{spectrum.folder}/{name}"
            if width != resolution:
                raise UserError(f"{where}: {width}x{height}, but {first} is {resolution}x{resolution}; all must agree")
    return PairSummary(len(tree), len(set(tree.identities)), resolution)


def check_features(features: FeatureSet, tree: PairedTree, option: str = "--features") -> None:
    """Every picture (mode all) or every identity (mode one) of `tree` has its feature. Raises UserError if not."""
    known: set[Any]
    if features.mode == "one":
        known, needed, what = set(features.identities), tree.identities, "identity"
    else:
        known, needed, what = set(features.names), tree.names, "image"
    missing = [name for name in dict.fromkeys(needed) if name not in known]
    if missing:
        raise UserError(
            f"{option}: {len(missing)} of {len(set(needed))} have no feature, the first is {what} {missing[0]}; "
            "run dataset_tool.py features again"
        )

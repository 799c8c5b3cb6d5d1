"""The two spectra, as data. Everything that treats VIS and NIR alike loops over this table."""

from typing import NamedTuple


class Spectrum(NamedTuple):
    """One spectrum of a pair: its name in code, its folder on disk, its channels and its Pillow mode."""

    name: str
    folder: str
    channels: int
    mode: str


SPECTRA: dict[str, Spectrum] = {
    "vis": Spectrum("vis", folder="VIS", channels=3, mode="RGB"),
    "nir": Spectrum("nir", folder="NIR", channels=1, mode="L"),
}

"""Reflectance of skin, lips, hair and iris in four bands: R, G, B and NIR (850 nm).

Skin is an absorbing epidermis over a scattering dermis. Absorption of melanosomes and of the bloodless tissue, and the
reduced scattering of the dermis, follow S. L. Jacques, "Skin optics" (Oregon Medical Laser Center News, 1998);
absorption of whole blood follows S. Prahl's tabulated extinction of haemoglobin (OMLC, 1999) at 150 g/l and 70 %
oxygen saturation. The dermis reflects as a half-space of Kubelka and Munk (1931). Hair and iris: eumelanin and
pheomelanin as in C. Donner and H. W. Jensen, "A spectral BSSRDF for shading human skin" (2006).
"""

from __future__ import annotations

import numpy as np

BANDS = ("R", "G", "B", "NIR")
BAND_NM = ((595.0, 615.0, 640.0), (520.0, 540.0, 565.0), (445.0, 465.0, 485.0), (830.0, 850.0, 870.0))

# Molar extinction in 1/(cm M), S. Prahl's table, at the wavelengths of BAND_NM.
_EXTINCTION_HBO2 = (
    (3700.0, 1400.0, 450.0),
    (24200.0, 53200.0, 39000.0),
    (66000.0, 38500.0, 24800.0),
    (974.0, 1058.0, 1120.0),
)
_EXTINCTION_HB = (
    (17500.0, 8200.0, 4350.0),
    (31600.0, 46600.0, 51600.0),
    (260000.0, 20500.0, 14900.0),
    (693.0, 691.0, 715.0),
)
_SATURATION = 0.70
_HAEMOGLOBIN_MOL = 150.0 / 64500.0  # moles a litre of whole blood

# What else swallows blue light: carotenoids and the horny layer's keratin, as K/S of the dermis in R, G, B, NIR.
_CAROTENE = (0.0, 0.02, 0.24, 0.0)
# Vessels lie near the surface; light of 850 nm reaches deeper and meets less of them on its way.
_BLOOD_SEEN = (1.0, 1.0, 1.0, 0.45)
_HORNY_LAYER = 0.022  # light that the outermost layer scatters back, before it meets any pigment
_EPIDERMIS_CM = 0.0060  # thickness
_EPIDERMIS_PATH = 2.4  # diffuse light crosses it obliquely, in and out
_HAIR_ABSORPTION = 6.0  # optical depth of a black strand at 540 nm
_IRIS_ABSORPTION = 2.6


def melanosome_absorption(nm: np.ndarray) -> np.ndarray:
    """Absorption of the inside of a melanosome in 1/cm (Jacques): 6.6e11 nm^-3.33."""
    return 6.6e11 * nm**-3.33


def tissue_absorption(nm: np.ndarray) -> np.ndarray:
    """Absorption of bloodless, melanin-free skin in 1/cm (Jacques; Saidi 1992)."""
    return 0.244 + 85.3 * np.exp(-(nm - 154.0) / 66.2)


def reduced_scattering(nm: np.ndarray) -> np.ndarray:
    """Reduced scattering of the dermis in 1/cm (Jacques): a Mie and a Rayleigh part."""
    return 2e5 * nm**-1.5 + 2e12 * nm**-4.0


def blood_absorption() -> np.ndarray:
    """Absorption of whole blood in 1/cm at the wavelengths of BAND_NM, [4, 3]."""
    extinction = _SATURATION * np.array(_EXTINCTION_HBO2) + (1.0 - _SATURATION) * np.array(_EXTINCTION_HB)
    return np.log(10.0) * extinction * _HAEMOGLOBIN_MOL


def _per_band() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By band: the epidermis's optical depth for a unit of melanin; K/S of bloodless dermis, and of a unit of blood."""
    nm = np.array(BAND_NM)
    scattering = 0.75 * reduced_scattering(nm)  # S of Kubelka and Munk
    melanin = (melanosome_absorption(nm) * _EPIDERMIS_CM * _EPIDERMIS_PATH).mean(axis=1)
    tissue = (2.0 * tissue_absorption(nm) / scattering).mean(axis=1) + np.array(_CAROTENE)  # K = 2 mu_a
    blood = (2.0 * np.minimum(blood_absorption(), 400.0) / scattering).mean(axis=1) * np.array(
        _BLOOD_SEEN
    )  # a vessel is opaque at its peaks
    return melanin, tissue, blood


_MELANIN, _TISSUE, _BLOOD = _per_band()


def skin_reflectance(melanin: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """Diffuse reflectance of skin.

    Arguments: volume fraction of melanosomes in the epidermis and of blood in the dermis, float [...] of one shape.
    Returns float [4, ...] for R, G, B, NIR.
    """
    bands = []
    for absorb_melanin, absorb_tissue, absorb_blood in zip(_MELANIN, _TISSUE, _BLOOD, strict=True):
        ratio = float(absorb_tissue) + float(absorb_blood) * blood  # K/S
        dermis = 1.0 + ratio - np.sqrt(ratio * (ratio + 2.0))
        bands.append(_HORNY_LAYER + dermis * np.exp(-float(absorb_melanin) * melanin))
    return np.stack(bands)


def hair_reflectance(eumelanin: float, pheomelanin: float) -> np.ndarray:
    """Reflectance of hair with relative amounts of the two pigments in [0, 1] (0, 0: white hair); float32 [4]."""
    nm = np.array(BAND_NM).mean(axis=1)
    depth = _HAIR_ABSORPTION * (eumelanin * (nm / 540.0) ** -3.33 + 0.55 * pheomelanin * (nm / 540.0) ** -4.75)
    return (0.015 + 0.50 * np.exp(-depth)).astype(np.float32)


def iris_reflectance(melanin: float) -> np.ndarray:
    """Reflectance of the iris; little melanin leaves the bluish scattering of the stroma. float32 [4]."""
    nm = np.array(BAND_NM).mean(axis=1)
    stroma = 0.50 * (nm / 465.0) ** -0.9
    stroma[3] = 0.42  # the stroma's fibres at 850 nm
    depth = _IRIS_ABSORPTION * melanin * (nm / 540.0) ** -3.33
    return (0.015 + stroma * np.exp(-depth)).astype(np.float32)

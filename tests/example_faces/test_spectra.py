"""example_faces.spectra against figures worked out by hand."""

import numpy as np
import pytest

from example_faces import spectra


def test_absorption_formulas() -> None:
    """Jacques: at 500 nm melanosomes absorb 679 /cm, bloodless tissue 0.71 /cm; the dermis scatters 49.9 /cm."""
    nm = np.array(500.0)
    assert spectra.melanosome_absorption(nm) == pytest.approx(6.6e11 * np.exp(-3.33 * np.log(500.0)))
    assert spectra.melanosome_absorption(nm) == pytest.approx(679, rel=0.01)
    assert spectra.tissue_absorption(nm) == pytest.approx(0.244 + 85.3 * np.exp(-346 / 66.2))
    assert spectra.reduced_scattering(nm) == pytest.approx(2e5 / 500**1.5 + 2e12 / 500**4)


def test_kubelka_munk_without_melanin() -> None:
    """K/S = 0.5 reflects 1 + 0.5 - sqrt(1.25) = 0.382; each band solves K/S = (1 - R)^2 / 2R."""
    reflectance = spectra.skin_reflectance(np.zeros(1), np.full(1, 0.03))[:, 0]
    ratio = (1.0 - reflectance) ** 2 / (2.0 * reflectance)
    bloodless = spectra.skin_reflectance(np.zeros(1), np.zeros(1))[:, 0]
    assert (ratio > (1.0 - bloodless) ** 2 / (2.0 * bloodless)).all()
    assert 1.5 - np.sqrt(1.25) == pytest.approx(0.382, abs=1e-3)


def test_order_of_bands() -> None:
    """Fair skin reflects R > G > B; dark skin loses most in B and least in NIR."""
    fair, dark = (spectra.skin_reflectance(np.full(1, m), np.full(1, 0.025))[:, 0] for m in (0.02, 0.35))
    assert fair[0] > fair[1] > fair[2]
    kept = dark / fair
    assert kept[3] > kept[0] > kept[1] > kept[2]
    assert kept[3] > 0.5 > 0.1 > kept[2]


def test_hair_and_iris() -> None:
    black, white = spectra.hair_reflectance(1.0, 0.0), spectra.hair_reflectance(0.0, 0.0)
    assert black[3] > 2.0 * black[:3].max() and np.ptp(white) == 0.0
    blue, brown = spectra.iris_reflectance(0.0), spectra.iris_reflectance(1.0)
    assert blue[2] > blue[0] and brown[0] > brown[2] and brown[3] > brown[:3].max()

"""Drawing pairs: balanced folds, nobody in two of them, repeatable, and refused where there are not enough."""

from pathlib import Path

import pytest

from dnnlib.errors import UserError
from torch_utils.pair_files import SPECTRUM_PAIRS, Pair, draw_pairs, pairs_file, read_pairs, write_pairs

NAMES = [f"{person:03d}_{shot}.png" for person in range(23) for shot in range(3)]
PEOPLE = [name[:3] for name in NAMES]


@pytest.mark.parametrize("spectra", SPECTRUM_PAIRS)
def test_folds_are_balanced_and_disjoint(spectra: tuple[str, str]) -> None:
    drawn = draw_pairs(NAMES, PEOPLE, spectra, 80, seed=0)
    assert len(drawn) == 80 == len({frozenset((pair.first, pair.second)) for pair in drawn})
    seen: dict[str, int] = {}
    for place, pair in enumerate(drawn):
        assert (pair.first[:4], pair.second[:4]) == tuple(f"{spectrum.upper()}/" for spectrum in spectra)
        people = pair.first[4:7], pair.second[4:7]
        assert pair.same == (people[0] == people[1]) == (place % 8 < 4)
        assert pair.first[4:] != pair.second[4:]  # never the same shot
        for person in people:
            assert seen.setdefault(person, place // 8) == place // 8
    assert drawn == draw_pairs(NAMES, PEOPLE, spectra, 80, seed=0) != draw_pairs(NAMES, PEOPLE, spectra, 80, seed=1)


def test_every_pair_there_is_can_be_drawn() -> None:
    """Two people of two shots a fold: 2 of one person, 4 of two people, or 4 and 8 across the spectra."""
    names = [f"{person:02d}_{shot}.png" for person in range(20) for shot in range(2)]
    people = [name[:2] for name in names]
    for spectra, most in ((("vis", "vis"), 40), (("vis", "nir"), 80)):
        assert len(draw_pairs(names, people, spectra, most, seed=3)) == most
        with pytest.raises(UserError, match=r"--pairs: \d+ pairs are more than 20 people in 10 folds have"):
            draw_pairs(names, people, spectra, most + 20, seed=3)


@pytest.mark.parametrize("count", [0, -20, 30])
def test_a_count_that_does_not_divide(count: int) -> None:
    with pytest.raises(UserError, match="--pairs: .* a multiple of 20"):
        draw_pairs(NAMES, PEOPLE, ("vis", "vis"), count, seed=0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = [Pair("VIS/a b.png", "NIR/c.png", True), Pair("VIS/x.png", "NIR/c.png", False)]
    path = tmp_path / pairs_file(("vis", "nir"))
    write_pairs(path, pairs)
    assert path.name == "pairs-vis-nir.txt"
    found = read_pairs(path, {"VIS/a b.png", "VIS/x.png", "NIR/c.png"})
    assert [pair[:3] for pair in found.pairs] == [pair[:3] for pair in pairs] and found.folds is None
    write_pairs(path, pairs)
    with pytest.raises(UserError, match="holds other pairs"):
        write_pairs(path, pairs[:1])


@pytest.mark.parametrize("text", ["", "\n \n", "0\t0\n", "0\n"])
def test_a_list_without_pairs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(UserError, match="--pairs: .*pairs.txt: holds no pairs"):
        read_pairs(tmp_path / "pairs.txt", set())

"""Names of metrics: what they mean, and what is refused."""

import pytest

from dnnlib.errors import UserError
from metrics import registry
from metrics.choices import METRICS
from metrics.observers import Detector, Observer
from metrics.registry import build_observers, detectors_of, parse_metrics


def test_names_tell_the_number_of_drawn_pictures() -> None:
    plain, hundred, thousands = parse_metrics("fd_arcface, fd_arcface100,fd_arcface5k,fd_arcface")
    assert [metric.named_fakes for metric in (plain, hundred, thousands)] == [None, 100, 5000]
    assert (plain.num_fake(2000), plain.num_fake(10**6), thousands.num_fake(2000)) == (2000, 50_000, 5000)
    assert thousands.num_fake(2000, there_are=9000) == 5000 and plain.num_fake(2000, there_are=9000) == 9000
    assert not plain.family.higher_is_better and plain.family.needs == ("arcface",)
    assert parse_metrics("none") == []


@pytest.mark.parametrize(
    ("name", "drawn", "looks_with", "figures"),
    [
        ("fid50k_full", 50_000, "inception", ["fid50k_full"]),
        ("fid2k", 2000, "inception", ["fid2k"]),
        ("fid777", 777, "inception", ["fid777"]),
        ("kid50k_full", 50_000, "inception", ["kid50k_full"]),
        ("pr50k3_full", 50_000, "vgg16", ["pr50k3_full_precision", "pr50k3_full_recall"]),
        ("pr2k3", 2000, "vgg16", ["pr2k3_precision", "pr2k3_recall"]),
        ("pr5003", 5003, "vgg16", ["pr5003_precision", "pr5003_recall"]),
        ("is50k", 50_000, "inception", ["is50k"]),
        ("ppl2_wend", 50_000, "lpips", ["ppl2_wend"]),
        ("ppl500_wend", 500, "lpips", ["ppl500_wend"]),
        ("ppl2k_wend", 2000, "lpips", ["ppl2k_wend"]),
    ],
)
def test_the_field_s_names(name: str, drawn: int, looks_with: str, figures: list[str]) -> None:
    (metric,) = parse_metrics(name)
    assert metric.named_fakes == drawn and metric.figures == figures
    assert detectors_of([metric]) == {looks_with: name}


@pytest.mark.parametrize(
    "text",
    ["fud", "fd_arcface-5", "fd_arcface0", "fd_arcface5m", "xfd_arcface", "fd_arcface5k_full", "fid,none"],
)
def test_unknown_names_are_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(
        UserError, match=r"^--metrics: \S+: no such metric; (\S+ may be meant; )?none, or a list of fid, .*fid5k, "
    ):
        parse_metrics(text)


def test_no_name_and_too_few_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="--metrics: no name"):
        parse_metrics(" , ")
    with pytest.raises(UserError, match="fd_arcface1: needs 2 pictures or more; fd_arcface5k would be right"):
        parse_metrics("fd_arcface1")
    with pytest.raises(UserError, match="pr3: needs 4 pictures"):
        parse_metrics("pr3")


def test_observers_are_made_of_the_detectors_that_metrics_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    monkeypatch.setattr(registry, "OBSERVERS", dict(registry.OBSERVERS))
    observer = Observer("grey", "plain", "", "", lambda pictures: {})
    registry.observer("grey")(lambda detector: observer)
    registry.observer("pair", of="arcface")(lambda detector: observer._replace(name=detector.name if detector else ""))
    registry.register("both{N}", needs=("grey", "pair"), higher_is_better=True)(lambda real, fake, setting: [])
    metrics = parse_metrics("both,fd_arcface,fid2k")
    assert detectors_of(metrics) == {"arcface": "both", "inception": "fid2k"}
    detectors = {kind: Detector(kind, f"a {kind}", "", "", lambda images: {}) for kind in ("arcface", "inception")}
    built = build_observers(metrics, detectors)
    assert built.keys() == {"grey", "pair", "arcface", "inception"}
    assert built["pair"].name == "a arcface" and built["inception"].name == "a inception"


def test_the_tab_key_offers_all_families() -> None:
    with pytest.raises(UserError):
        parse_metrics("no_such")  # which has all modules imported
    assert sorted(METRICS) == sorted({family.plain for family in registry.FAMILIES.values()})

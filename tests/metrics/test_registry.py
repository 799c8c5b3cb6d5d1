"""Names of metrics: what they mean, and what is refused."""

import pytest

from dnnlib.errors import UserError
from metrics import registry
from metrics.registry import parse_metrics


def test_names_tell_the_number_of_drawn_pictures() -> None:
    plain, hundred, thousands = parse_metrics("fd_arcface, fd_arcface100,fd_arcface5k,fd_arcface")
    assert [metric.named_fakes for metric in (plain, hundred, thousands)] == [None, 100, 5000]
    assert (plain.num_fake(2000), plain.num_fake(10**6), thousands.num_fake(2000)) == (2000, 50_000, 5000)
    assert not plain.family.higher_is_better and plain.family.detector == "arcface"
    assert parse_metrics("none") == []


@pytest.mark.parametrize(
    "text",
    ["fid", "fd_arcface-5", "fd_arcface0", "fd_arcface5m", "xfd_arcface", "fd_arcface5k_full", "fd_arcface,none"],
)
def test_unknown_names_are_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(UserError, match=r"^--metrics: \S+: no such metric; none, or a list of fd_arcface "):
        parse_metrics(text)


def test_no_name_and_one_picture_are_refused() -> None:
    with pytest.raises(UserError, match="--metrics: no name"):
        parse_metrics(" , ")
    with pytest.raises(UserError, match="fd_arcface1: one picture has no statistics"):
        parse_metrics("fd_arcface1")


def test_the_count_may_stand_anywhere_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    for template in ("pr{N}3_full", "ppl2_wend"):
        registry.register(template, detector="test", higher_is_better=True)(lambda real, fakes, num_fake: {})
    several, ends = parse_metrics("pr50k3_full,ppl2_wend")
    assert (several.named_fakes, ends.named_fakes) == (50_000, None)
    with pytest.raises(UserError, match=r"fd_arcface5k\), pr3_full .*pr5k3_full\), ppl2_wend$"):
        parse_metrics("ppl3")

"""The report: self-contained, right in its figures, and rendered in a real browser where there is one."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from generation import plots, writers
from generation.rules import Rule
from generation.summary import ADVICE, RULE_WORDS, table
from tests.browser import needs_browser, rendered
from tests.generation import fakes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    outdir = tmp_path_factory.mktemp("report") / "out"
    return outdir, fakes.generate(outdir)


class Links(HTMLParser):
    """Collects what a page would load, what it runs, and its unclosed tags."""

    VOID = ("meta", "img", "br", "path", "use")

    def __init__(self):
        super().__init__()
        self.loads, self.scripts, self.open = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_self_contained_and_well_formed(run):
    text = (run[0] / writers.REPORT).read_text()
    page = Links()
    page.feed(text)
    assert page.open == [] and page.scripts == 0
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.loads)
    assert not re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)
    assert not re.findall(r"\$\w+", re.sub(r"base64,[^\"]*", "", text))


def test_the_page_tells_the_figures(run):
    outdir, summary = run
    text = (outdir / writers.REPORT).read_text()
    assert "8 people who do not exist" in text and "40 pairs" in text
    for rule in Rule:
        assert RULE_WORDS[rule] in text and f"{summary['refused'][rule.value]:,} · " in text
    assert f"{summary['max_real_similarity']:.3f}" in text
    assert text.count('class="person"') == 8 and text.count('class="pair"') == 40
    assert "any of the 30 pictures of 30 real people" in text
    assert set(RULE_WORDS) == set(ADVICE) == set(Rule)


def test_one_pair_and_no_real_people_still_make_a_page(tmp_path):
    fakes.generate(tmp_path / "out", ids=1, samples_per_id=1, real=np.empty((0, fakes.SIZE), np.float32), detect=False)
    text = (tmp_path / "out" / writers.REPORT).read_text()
    assert "1 person who does not exist" in text and "real people were not compared" in text


def test_charts_follow_the_pages_colours_and_do_not_share_ids():
    series = [plots.Series("a", np.array([0.1, 0.2]), "mated"), plots.Series("b", np.empty(0), "nonmated")]
    charts = [plots.histogram(series, [plots.Limit("unique", 0.5)], name, stacked) for name, stacked in
              (("one", False), ("two", True))]  # fmt: skip
    assert charts[0] == plots.histogram(series, [plots.Limit("unique", 0.5)], "one")
    ids = [set(re.findall(r' id="([^"]*)"', chart)) for chart in charts]
    for chart, own in zip(charts, ids, strict=True):
        assert "unique 0.50" in chart and "var(--mated)" in chart and "var(--limit)" in chart
        assert not set(re.findall(r"#0[1-8]0[1-8]0[1-8]", chart)) and chart.startswith("<svg")
        assert own
    assert not {name for name in ids[0] & ids[1] if re.match(r"p[0-9a-f]{6}", name)}  # clip paths
    assert plots.histogram([], [], "empty").startswith("<svg")


def test_the_table_for_the_terminal(run):
    text = table(run[1])
    assert re.search(r"identities kept +8$", text, re.M) and re.search(r"refused: repeat +\d+$", text, re.M)


@needs_browser
@pytest.mark.parametrize("width", [1280, 500], ids=["wide", "phone"])
def test_a_browser_renders_the_page(run, tmp_path, width):
    pixels = rendered(run[0] / writers.REPORT, tmp_path, width)
    hero = pixels[:170]
    saturation = hero.max(axis=2) - hero.min(axis=2)
    assert saturation[:, : width // 3].mean() > 20  # visible light on the left
    assert saturation[:, -width // 4 :].mean() < 2  # near infrared on the right
    edge = pixels[400:, -8:]  # nothing sticks out to the right
    assert np.ptp(edge, axis=(0, 1)).max() == 0

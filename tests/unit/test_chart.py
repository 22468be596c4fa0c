"""The chart of bench/scaling.py."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from harness import ROOT, bench_module

BENCH = ROOT / "bench"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def chart():
    return bench_module("chart")


def rows(name, *rates, counts=(1, 2, 4, 8, 16)):
    return [{"contender": name, "workers": workers, "rate_value": rate}
            for workers, rate in zip(counts, rates, strict=True)]


IDEAL = rows("fastfork", 10.0, 20.0, 40.0, 80.0, 160.0)
HALF = rows("a <b>", 5.0, 10.0, 20.0, 40.0, 80.0)


def drawn(chart, found):
    return ElementTree.fromstring(chart.draw(found, 10))


def points(svg, kind):
    """The points of the first line of this class (the legend's comes after it)."""
    line = next(e for e in svg.iter(f"{SVG}polyline") if e.get("class") == kind)
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_ideal_rates_lie_on_the_ideal_line(chart):
    svg = drawn(chart, IDEAL + HALF)
    (left, bottom), (right, top) = points(svg, "ideal")
    for (x, y), workers in zip(points(svg, "first"), (1, 2, 4, 8, 16), strict=True):
        assert x == pytest.approx(left + (right - left) * workers / 16, abs=0.1)
        assert y == pytest.approx(bottom - (bottom - top) * workers / 16, abs=0.1)
    numbers = {e.text: float(e.get("x")) for e in svg.iter(f"{SVG}text")
               if e.get("text-anchor") == "middle"}
    for (x, _), workers in zip(points(svg, "first"), (1, 2, 4, 8, 16), strict=True):
        assert numbers[str(workers)] == x
    assert x == pytest.approx(chart.WIDTH - chart.RIGHT)
    assert points(svg, "second")[-1][1] == pytest.approx((bottom + top) / 2, abs=0.1)


def test_what_is_written(chart):
    svg = drawn(chart, IDEAL + HALF)
    words = [e.text for e in svg.iter(f"{SVG}text")]
    assert words[0] == chart.TITLE
    assert {"workers", "operations per second", "fastfork", "a <b>", "160.0/s with 16",
            "80.0/s with 16", "10/s each"} <= set(words)
    assert [w for w in words if w.isdigit() and int(w) <= 16] == ["0", "1", "2", "4", "8", "16"]
    assert "a <b>: 5.0 with 1, 10.0 with 2" in svg.find(f"{SVG}desc").text
    assert "prefers-color-scheme: dark" in svg.find(f"{SVG}style").text


def test_everything_is_on_the_paper(chart):
    faster = rows("faster", 30.0, 60.0, 120.0, 240.0, 480.0)
    svg = drawn(chart, faster + HALF)
    for kind in ("first", "second", "ideal"):
        for x, y in points(svg, kind):
            assert 0 < x < chart.WIDTH - chart.RIGHT + 1
            assert chart.TOP <= y < chart.HEIGHT


def test_order_of_rows_does_not_matter(chart):
    assert chart.draw(IDEAL[::-1] + HALF, 10) == chart.draw(IDEAL + HALF, 10)


def test_one_contender(chart):
    assert not [e for e in drawn(chart, IDEAL).iter() if "second" in (e.get("class") or "")]


@pytest.mark.parametrize("found", [[], IDEAL + HALF + rows("third", 1, counts=(1,))])
def test_contenders_that_cannot_be_drawn(chart, found):
    with pytest.raises(ValueError, match="contenders"):
        chart.draw(found, 10)


@pytest.mark.parametrize(("highest", "wanted"), [
    (41.6, [0, 10, 20, 30, 40]), (166.4, [0, 20, 40, 60, 80, 100, 120, 140, 160]),
    (10.4, [0, 2, 4, 6, 8, 10]), (99.0, [0, 20, 40, 60, 80]), (4.0, [0, 1, 2, 3, 4]),
])  # fmt: skip
def test_steps_are_round(chart, highest, wanted):
    assert chart.steps(highest) == wanted


def test_drawn_from_a_file(chart, tmp_path):
    found = {"waiting": IDEAL + HALF, "tight": [], "kept": [], "computing": []}
    (tmp_path / "figures.json").write_text(json.dumps({"results": found}))
    subprocess.run(
        [sys.executable, BENCH / "scaling.py", "--from", tmp_path / "figures.json",
         "--chart", tmp_path / "chart.svg"], check=True)
    assert (tmp_path / "chart.svg").read_text() == chart.draw(IDEAL + HALF, 10)


def test_chart_in_the_documents_is_that_of_the_figures(chart):
    found = json.loads((BENCH / "results/scaling.json").read_text())["results"]["waiting"]
    assert (ROOT / "docs/scaling.svg").read_text() == chart.draw(found, 10)

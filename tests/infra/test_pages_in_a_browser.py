"""Every kind of page in a real browser: it fits wide and narrow windows, and no chart is empty."""

import pytest
import ranking_reports
from starlette.testclient import TestClient
from support.browser import CHROMIUM, browser
from support.made_pages import POINT, training, write_all

from features.pages import site

pytestmark = pytest.mark.process

KINDS = (
    *("training-of-one-step", "training-of-many-steps", "gate", "gate-of-a-trial", "family"),
    *("scaling", "quality", "quarantine", "drift", "answers", "overview", "demo", "index"),
)
VIEWS = [(width, scheme) for width in (1_300, 400) for scheme in ("light", "dark")]
WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"
EMPTY_CHARTS = """
[...document.querySelectorAll("figure svg")].filter(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll("[id=mark] > path, [id=mark] use, .mark")];
  return !marks.map(mark => mark.getBoundingClientRect()).some(mark =>
    mark.width + mark.height > 1 && mark.left >= box.left - 1 && mark.right <= box.right + 1 &&
    mark.top >= box.top - 1 && mark.bottom <= box.bottom + 1);
}).length
"""
COLOURS = """
[document.documentElement, ...document.querySelectorAll("svg text, svg path")].map(element => {
  const style = getComputedStyle(element);
  return [element.tagName == "HTML" ? style.backgroundColor : style.fill, style.stroke];
}).flat()
"""
NUM_CHARTS = {
    "gate": 3,
    "gate-of-a-trial": 3,
    "scaling": 3,
    "quality": 0,
    "quarantine": 1,
    "overview": 3,
    "answers": 5,
    "drift": 4,
    "index": 0,
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    reports = tmp_path_factory.mktemp("reports")
    written = write_all(reports)
    index = reports / "index-of-reports.html"
    client = TestClient(ranking_reports.create_app(reports), root_path="/ranking")
    index.write_text(client.get("/reports/").text)
    return {**written, "index": index}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_its_window_and_shows_its_charts(tab, pages, tmp_path, kind):
    for width, scheme in VIEWS:
        tab.open(pages[kind], width=width, scheme=scheme)
        tab.screenshot(tmp_path / f"{kind}-{width}-{scheme}.png")
        needed, there = tab.evaluate(WIDTHS)
        assert needed <= there == width, (kind, width, scheme)
        assert tab.evaluate("document.querySelectorAll('figure svg').length") == NUM_CHARTS.get(
            kind, 1
        )
        assert tab.evaluate(EMPTY_CHARTS) == 0, (kind, width, scheme)


def test_every_kind_of_page_is_looked_at(pages):
    assert pages.keys() == set(KINDS)


def test_dark_pages_and_their_charts_have_other_colours(tab, pages):
    seen = {}
    for scheme in ("light", "dark"):
        tab.open(pages["scaling"], width=1_300, scheme=scheme)
        seen[scheme] = set(tab.evaluate(COLOURS)) - {"none"}
    assert len(seen["light"]) == len(seen["dark"]) > 5
    # Black is what no colour was said for.
    assert "rgb(0, 0, 0)" not in seen["dark"]
    assert not seen["light"] & seen["dark"]


def test_an_empty_chart_and_a_page_that_is_too_wide_are_noticed(tab, tmp_path):
    """What the checks above look for is really seen by them."""
    whole = site.html(training(1))
    empty = tmp_path / "empty.html"
    empty.write_text(whole.replace('id="mark"', 'id="other"'))
    tab.open(empty, width=1_300, scheme="light")
    assert tab.evaluate(EMPTY_CHARTS) == 1
    wide = tmp_path / "wide.html"
    wide.write_text(whole.replace("</main>", '<p style="min-width:90rem">wide</p></main>'))
    tab.open(wide, width=1_300, scheme="light")
    needed, there = tab.evaluate(WIDTHS)
    assert needed > there


def test_a_point_without_a_measure_is_noted_and_not_drawn():
    from training.evaluation.reports import training_page

    for point in ({**POINT, "ne": float("nan")}, {"step": 1, "loss": 0.6}):
        page = site.html(training_page("d", "n", [point], {}, []))
        assert "No learning curve" in page
        assert "<svg" not in page

"""Pages: wrong content is an error, text is escaped, and colours follow the page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import features.pages
from features.pages import figures, site
from features.pages.content import (
    Bullets,
    Cell,
    Chart,
    Charts,
    Facts,
    Heading,
    Link,
    Notice,
    Page,
    Prose,
    Table,
    decimal,
    percent,
)

STYLE = (Path(features.pages.__file__).parent / "style.css").read_text()


def figure(colour=figures.SERIES[0]):
    drawn = Figure()
    figures.plot(drawn.subplots(), [1], [0.9], colour=colour, label="<b>ne")
    return drawn


def test_nothing_that_was_given_becomes_markup():
    evil = "<b>&"
    blocks = [
        *(Heading(evil), Prose(evil), Notice(evil), Bullets([evil]), Facts([(evil, evil)])),
        *(Table([evil], [[Cell(evil, note=evil, lines=[evil])]]), Link(evil, f'"{evil}')),
        Charts([Chart(figures.svg(figure, label=evil), evil)]),
    ]
    text = site.html(Page(evil, blocks, verdict=evil))
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&amp;") >= 15


def test_a_row_of_another_length_is_an_error_with_both_lengths():
    with pytest.raises(ValueError, match=r"2 cells; the table has 1 columns"):
        Table(["one"], [["a"], ["a", "b"]])


def test_numbers_stand_to_the_right_and_gaps_are_dashes():
    table = Table(
        ("text", "count", "share", "mixed", "gap"),
        [("a", 1_234, percent(0.0123), 2, None), ("b", None, decimal(None), "none", None)],
    )
    assert table.is_numeric == [False, True, True, False, False]
    assert [cell.text for cell in table.cells[0]] == ["a", "1,234", "+1.23%", "2", "–"]
    assert [cell.text for cell in table.cells[1]] == ["b", "–", "–", "none", "–"]
    assert not any(Table(["a"], []).is_numeric)


def test_a_chart_has_variables_of_both_styles_for_colours_and_equal_ones_are_equal():
    drawn = figures.svg(figure, label="ne")
    assert drawn == figures.svg(figure, label="ne")
    assert not re.findall(r": #[0-9a-f]{6}", drawn)
    named = re.findall(r"--([\w-]+):", STYLE)
    assert {name: named.count(name) for name in named} == dict.fromkeys(named, 2)
    series = {f"series-{number}" for number, _ in enumerate(figures.SERIES, start=1)}
    assert series | set(re.findall(r"var\(--([\w-]+)\)", drawn + STYLE)) <= set(named)


def test_a_colour_that_would_not_follow_the_page_is_an_error():
    with pytest.raises(ValueError, match=r"colour #ff0000 of a figure; must be one of"):
        figures.svg(lambda: figure("#ff0000"), label="ne")


@pytest.mark.process
def test_a_page_without_charts_is_made_without_heavy_packages():
    heavy = ("matplotlib", "numpy", "pandas", "pyspark", "torch", "pyarrow")
    code = (
        "import sys; from features.validation import quality_page; "
        f"sys.exit(' '.join(set({heavy}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_gets_the_page_in_columns_without_charts_and_escapes():
    drawn = Charts([Chart(figures.svg(figure, label="a chart"), "a chart")])
    table = Table(("who", "rows"), [(Cell("<ann>", note="new"), 1_234), ("bo", None)])
    more = [Heading("More"), Bullets(["one"]), Link("docs", "a.html"), Prose("end")]
    page = Page("A & B", [Notice("stop"), Facts([("day", "today")]), table, drawn, *more], "passed")
    assert site.text(page).splitlines() == [
        "A & B: passed",
        "  stop",
        "  day: today",
        "  who           rows",
        "  <ann> (new)  1,234",
        "  bo               –",
        "",
        "More",
        "  - one",
        "  docs: a.html",
        "  end",
    ]

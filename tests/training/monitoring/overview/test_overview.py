"""The overview says what is so today, and each of its links opens a page that is there."""

import datetime
import re

from support.quality.made_overview import (
    DATASET,
    FEATURES,
    LAST,
    NOON,
    VERSION,
    write_overview,
    write_results,
)

from training.monitoring.overview.days import days_until
from training.monitoring.overview.page import Freshness


def page_of(reports):
    return (reports / write_overview(reports)).read_text()


def rows_of(page, heading):
    """The rows of the table below a heading, each as its cells' texts."""
    part = page[page.index(f"<h2>{heading}") :] if heading else page
    table = part[part.index("<table>") : part.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [
        [
            re.sub(r"<[^>]+>", " ", cell).strip()
            for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.S)
        ]
        for row in rows
    ]


def test_it_says_what_is_so_today(tmp_path):
    write_results(tmp_path)
    states = {row[0]: (row[1], row[2]) for row in rows_of(page_of(tmp_path), "") if row}
    yesterday = str(LAST - datetime.timedelta(days=1))
    assert states == {
        "parity": (str(LAST), "broken"),
        "quality": (yesterday, "broken"),  # labels of the newest day are not final
        "drift": (str(LAST), "broken"),
        "what followed": (str(LAST), "roll-back"),
        "freshness": (str(LAST), "broken"),
    }


def test_every_link_opens_a_page_that_is_there(tmp_path):
    write_results(tmp_path)
    links = re.findall(r'href="([^#"][^"]*)"', page_of(tmp_path))
    assert len(links) > 40
    for link in links:
        assert (tmp_path / DATASET / link).exists(), link


def test_the_heat_map_has_the_worst_feature_first_and_its_colour_follows_the_share(tmp_path):
    write_results(tmp_path)
    page = page_of(tmp_path)
    heading = "Served inputs that differ from the lake, by feature and day"
    worst, second = (row for row in rows_of(page, heading) if row)
    assert (worst[0], worst[-1], second[0]) == (FEATURES[0], "6.00%", FEATURES[1])
    assert FEATURES[2] not in page  # it never differed
    assert len(worst) == 1 + 14
    part = page[page.index(heading) :]
    heats = [
        int(heat)
        for heat in re.findall(
            r"var\(--bad\) (\d+)%", part[: part.index("</tr>\n<tr>", part.index("<tbody>"))]
        )
    ]
    assert heats == sorted(heats)
    assert heats[-1] == 45


def test_without_results_it_says_how_to_get_them(tmp_path):
    page = page_of(tmp_path)
    assert "RANKING_LOG_FOLDER" in page
    assert "No day with final labels yet" in page
    assert "No day was compared with what was learnt yet" in page
    assert "None was written" in page


def test_the_newest_run_of_a_policy_is_what_a_day_shows(tmp_path):
    write_results(tmp_path)
    newest = days_until(LAST, 3, dataset=DATASET, reports=tmp_path)[-1]
    assert (newest.policy["action"], newest.policy["version"]) == ("roll-back", VERSION)
    assert newest.drift_source == "log"


def test_a_table_is_old_when_its_newest_day_is_over_for_more_than_36_hours(tmp_path):
    write_results(tmp_path)
    page = page_of(tmp_path)
    assert "over for more than 36 h: user_state, examples" in page


def test_examples_are_as_old_as_their_labels_are_final():
    days_ago = LAST - datetime.timedelta(days=3)
    assert Freshness.of("examples", days_ago, NOON).is_old
    assert not Freshness.of("examples", days_ago, NOON, final_after_days=3).is_old

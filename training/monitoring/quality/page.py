"""The page of a day: what each version's answers were worth, slice by slice, and over days."""

from collections.abc import Sequence

from features.pages.content import (
    Block,
    Bullets,
    Cell,
    Charts,
    Facts,
    Heading,
    Notice,
    Page,
    Prose,
    Table,
    Tone,
    Value,
)
from training.monitoring.quality.age import AgeCurve
from training.monitoring.quality.charts import by_age, by_decile, over_places
from training.monitoring.quality.day import Outcome
from training.monitoring.quality.figures import Figure, Figures
from training.monitoring.quality.results import MEASURED, Part, QualityDay
from training.monitoring.quality.scored_rows import ALL

_MEASURED = (
    *("ne", "log_loss", "calibration", "auc", "gauc", "request_gauc"),
    *("request_ndcg_10", "request_mrr"),
)
_ESTIMATED = ("ne", "log_loss", "auc", "positive_rate")
_NAMES = {
    "ne": "NE",
    "log_loss": "log loss",
    "calibration": "calibration",
    "auc": "AUC",
    "gauc": "GAUC",
    "request_gauc": "GAUC by request",
    "request_ndcg_10": "NDCG@10",
    "request_mrr": "MRR",
    "positive_rate": "positive rate",
}
_TONES = {True: Tone.BAD, False: Tone.GOOD, None: Tone.UNSURE}
_SAYS = {True: "broken", False: "within limits", None: "not known"}


def quality_page(outcome: Outcome, history: Sequence[QualityDay], curve: AgeCurve) -> Page:
    """What a day's answers were worth.

    Args:
        outcome: Of the day.
        history: Results of the days up to it, itself among them, the oldest first.
        curve: NE by age.
    """
    result = outcome.result
    shown = _ESTIMATED if result["state"] != MEASURED else _MEASURED
    versions = result["versions"]
    broken = [one for one in versions if one["is_broken"]]
    return Page(
        f"{result['dataset']}: quality of the answers of {result['day']}",
        [
            *_state(result),
            _facts(result),
            _versions(result, shown),
            Bullets([f"{one['version']} as {one['role']}: {one['reason']}" for one in versions]),
            *_slices(outcome.parts, result["state"], shown),
            *_charts(outcome, history),
            *_estimates(result),
            Heading("How often to retrain"),
            Prose(curve.says),
            *([Charts(found)] if (found := by_age(curve)) else []),
        ],
        verdict=_verdict(result),
        tone=Tone.BAD if broken else Tone.PLAIN,
    )


def _verdict(result: QualityDay) -> str:
    if any(one["is_broken"] for one in result["versions"]):
        return "broken"
    return result["state"]


def _state(result: QualityDay) -> list[Block]:
    if result["state"] == MEASURED:
        return []
    text = (
        "Labels of the day are not final. Figures are estimated from the scores alone, as if these "
        "were calibrated; a later run replaces them by measured ones."
    )
    return [Notice(text)]


def _facts(result: QualityDay) -> Facts:
    rows: list[tuple[str, Value]] = [("rows of the log", result["logged_rows"])]
    if result["state"] == MEASURED:
        rows += [
            ("joined by", result["joined_by"]),
            ("rows with an impression", result["found_rows"]),
            ("rows without", result["not_found_rows"]),
            ("impressions of the days of the requests", result["impressions"]),
        ]
    if result["other_key_rows"]:
        rows.append(("rows whose ids were hashed by another key", result["other_key_rows"]))
    draws = f"95 %, answers resampled {result['draws']:,} times with seed {result['seed']}"
    return Facts([*rows, ("intervals", draws)])


def _versions(result: QualityDay, shown: Sequence[str]) -> Table:
    columns = ("version", "is", "requests", "age, days", *(_NAMES[name] for name in shown))
    rows = [
        (
            Cell(one["version"], note=one["role"]),
            Cell(_SAYS[one["is_broken"]], tone=_TONES[one["is_broken"]]),
            one["requests"] if one["measured"] else one["logged_answers"],
            one["age_days"],
            *_figures(one["measured"] or one["estimated"], shown),
        )
        for one in result["versions"]
    ]
    return Table(columns, rows)


def _slices(parts: Sequence[Part], state: str, shown: Sequence[str]) -> list[Block]:
    of_day = [
        part
        for part in parts
        if part["kind"] == state and part["hour"] is None and part["slice"] != ALL
    ]
    if not of_day:
        return []
    columns = ("slice", "version", "requests", "rows", *(_NAMES[name] for name in shown))
    rows: list[Sequence[Value]] = [
        (
            part["slice"],
            Cell(part["version"], note=part["role"]),
            part["requests"],
            part["rows"],
            *_figures(part["figures"], shown),
        )
        for part in of_day
    ]
    return [Heading("Slices"), Table(columns, rows)]


def _figures(found: Figures, shown: Sequence[str]) -> list[Cell]:
    return [_cell(found[name]) if name in found else Cell("–") for name in shown]


def _cell(figure: Figure) -> Cell:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return Cell("–")
    note = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
    return Cell(f"{value:.4f}", note=note, is_number=True)


def _charts(outcome: Outcome, history: Sequence[QualityDay]) -> list[Block]:
    days: dict[str, dict[str, list[tuple[str, Figure]]]] = {"ne": {}, "calibration": {}}
    for result in history:
        for one in result["versions"]:
            for name, series in days.items():
                if one["measured"]:
                    points = series.setdefault(one["role"], [])
                    points.append((result["day"][5:], one["measured"][name]))
    hours: dict[str, list[tuple[str, Figure]]] = {}
    for part in outcome.parts:
        if part["kind"] == MEASURED and part["slice"] == ALL and part["hour"] is not None:
            name = f"{part['version']}, {part['role']}"
            hours.setdefault(name, []).append((f"{part['hour']:02d}", part["figures"]["ne"]))
    charts = [
        *over_places("NE over days", days["ne"], level=1, axis="day"),
        *over_places("calibration over days", days["calibration"], level=1, axis="day"),
        *over_places("NE by hour", hours, level=1, axis="hour, UTC"),
        *by_decile(outcome.measured),
    ]
    return [Charts(charts)] if charts else []


def _estimates(result: QualityDay) -> list[Block]:
    """How far estimates were off, where that is known by now."""
    rows: list[Sequence[Value]] = []
    for one in result["versions"]:
        off, of_found, measured = (
            one["estimate_off"],
            one["estimated_of_found"],
            one["measured"],
        )
        if not (off and of_found and measured):
            continue
        rows += [
            (
                Cell(one["version"], note=one["role"]),
                _NAMES[name],
                _cell(one["estimated"][name]),
                _cell(of_found[name]),
                _cell(measured[name]),
                Cell(f"{difference:+.4f}", is_number=True),
            )
            for name, difference in off.items()
        ]
    columns = (
        *("version", "figure", "estimated before", "the same, of rows with an impression"),
        *("measured", "off by"),
    )
    return [Heading("Estimates before the labels came"), Table(columns, rows)] if rows else []

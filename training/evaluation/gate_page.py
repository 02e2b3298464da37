"""The gate's report: the verdict and why, the numbers behind it, and the family."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    decimal,
    percent,
)
from training.evaluation.charts import Curve, Labels, Scores, calibration, learning_curve
from training.evaluation.family_page import family_blocks
from training.evaluation.gate import BASE_RATE
from training.registry.family_tree import Member

if TYPE_CHECKING:
    from training.evaluation.reports import Values


_METRICS = ("log_loss", "ne", "auc", "gauc", "calibration")
_OF_REQUESTS = ("request_ndcg_5", "request_ndcg_10", "request_mrr", "request_gauc")
"""Where requests have an id."""
_TONES = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}
_UNKNOWN = "unknown"


def gate_page(
    title: str,
    values: "Values",
    *,
    scores: Mapping[str, Scores],
    label: Labels,
    curve: Curve,
    members: Sequence[Member],
) -> Page:
    """The gate's report.

    Args:
        title: Data set and day.
        values: The decision, as ``reports.summary`` returns it.
        scores: (rows,) probabilities of each ranker, by what the page calls it.
        label: (rows,) of the holdout.
        curve: How the candidate was trained.
        members: The family, of which the candidate is one.
    """
    charts = [*calibration(scores, label), *learning_curve(curve)]
    return Page(
        title,
        [
            *_notices(values),
            Bullets(values["reasons"]),
            _who(values),
            _metrics(values),
            *_of_requests(values),
            Facts([*_base_rate(values), *_calibration(values), *_regret(values)]),
            *([Charts(charts)] if charts else []),
            *_comparisons(values),
            *_checks(values),
            Heading("Family"),
            *family_blocks(members),
        ],
        verdict=values["decision"],
        tone=_tone(values["decision"]),
    )


def _tone(verdict: str) -> Tone:
    return _TONES.get(verdict, Tone.PLAIN)


def _notices(values: "Values") -> list[Block]:
    notices: list[Block] = []
    if values["drill"]:
        scores = "Its scores are permuted between rows on purpose."
        notices.append(Notice(f"Drill: {values['drill']}. {scores}", Tone.ACCENT))
    for alert in values["alerts"]:
        text = f"Alert: {alert['alert']}. {alert['what']}. See {alert['runbook']}."
        notices.append(Notice(text, Tone.UNSURE))
    return notices


def _who(values: "Values") -> Prose:
    anchor, control = values["anchor"], values["control"]
    names = f"Candidate {values['candidate']}, champion {values['champion'] or 'none'}"
    if anchor:
        names += f", anchor {anchor['version']} of {anchor['day']}"
    if control:
        names += f", un-grown control {control['version']}"
    first, last = values["holdout"]
    text = f"{names}; judged on rows of {first} to {last} that none has learnt."
    if control:
        text += (
            " Candidate and control go on from one checkpoint, which grew for the candidate, and "
            "trained on the same days. The candidate costs more to serve, so it must be shown to "
            "be better than champion and control."
        )
    return Prose(text)


def _metrics(values: "Values") -> Table:
    return Table(
        ("", "rows", "log loss", "NE", "AUC", "GAUC", "calibration"),
        [(n, m["rows"], *(decimal(m[key]) for key in _METRICS)) for n, m in _models(values)],
    )


def _of_requests(values: "Values") -> list[Block]:
    """How each ranks the items of a request; nothing where requests have no id."""
    rows = [
        (name, found["requests"], *(decimal(found[key]) for key in _OF_REQUESTS))
        for name, found in _models(values)
        if "requests" in found
    ]
    columns = ("", "requests", "NDCG@5", "NDCG@10", "MRR", "GAUC by request")
    return [Heading("Answers to requests"), Table(columns, rows)] if rows else []


def _models(values: "Values") -> "list[tuple[str, Values]]":
    models = [("candidate", values["metrics"]), ("champion", values["champion_metrics"])]
    models += [(key, values[key]["metrics"]) for key in ("anchor", "control") if values[key]]
    return [(name, found) for name, found in models if found]


def _base_rate(values: "Values") -> list[tuple[str, Value]]:
    found = values["base_rate"]
    days = f"{found['rows']:,} rows of {found['days'][0]} to {found['days'][1]}"
    return [("base rate of the training days", decimal(found["rate"], note=days))]


def _calibration(values: "Values") -> list[tuple[str, Value]]:
    found = values["calibration"]
    if not found:
        return []
    interval = f"95 %: {_between(found, '.3f')}; {found['positives']:,} positives"
    bounds = f"bounds {found['bounds'][0]} to {found['bounds'][1]}"
    value = decimal(found["value"], 3, note=f"{interval}; {bounds}")
    return [("calibration, mean prediction over mean label", value)]


def _regret(values: "Values") -> list[tuple[str, Value]]:
    if values["regret"] is None:
        return []
    return [("regret to the best log loss that is possible", decimal(values["regret"]))]


def _comparisons(values: "Values") -> list[Block]:
    """A table for each baseline that the candidate was compared with: all rows, then the slices."""
    baselines = [("the " + values["compared_with"].replace("_", " "), values)]
    for key, name in (("anchor", "the anchor"), ("control", "the un-grown control")):
        baselines += [(name, values[key])] if values[key] else []
    if values["compared_with"] != BASE_RATE:
        baselines.append(("the base rate", values["base_rate"]))
    return [
        block
        for name, found in baselines
        if found["log_loss_change"]
        for block in _against(name, found)
    ]


def _against(baseline: str, found: "Values") -> list[Block]:
    parts = [("all", found["log_loss_change"]), *found["slices"].items()]
    rows: list[Sequence[Value]] = [
        (f"log loss, {name}", f"{part['rows']:,} rows", percent(part["change"]), _between(part))
        for name, part in parts
    ]
    gauc = found["gauc_change"]
    if gauc:
        users = f"{found['gauc_users']:,} users with both labels"
        change = decimal(gauc["change"], note="absolute")
        rows.append(("GAUC", users, change, _between(gauc, "+.4f")))
    columns = ("measure", "of", "change", "95 % interval, users resampled")
    return [Heading(f"Against {baseline}"), Table(columns, rows)]


def _between(interval: "Values", form: str = "+.2%") -> str:
    """An interval; what is not finite is not known."""
    low, high = (
        _UNKNOWN if interval[end] is None else format(interval[end], form)
        for end in ("low", "high")
    )
    return f"{low} to {high}"


def _checks(values: "Values") -> list[Block]:
    rows = [(one["what"], Cell(one["says"], tone=_tone(one["says"]))) for one in values["checks"]]
    blocks: list[Block] = [Heading("What each check says"), Table(("check", "says"), rows)]
    if values["notes"]:
        blocks += [Heading("Left out"), Bullets(values["notes"])]
    return blocks

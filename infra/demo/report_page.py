"""The demo's report as a page."""

from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from features.pages import figures
from features.pages.content import (
    Block,
    Cell,
    Chart,
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
)
from infra.local.network import JsonObject

METRICS = ("ne", "auc", "gauc", "calibration", "log_loss")
TONES = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}


def report_page(report: JsonObject) -> Page:
    """The page of a report that ``report.build`` made."""
    return Page(
        f"The main job on {report['dataset']}",
        [
            *_failures(report["failed_tasks"]),
            Facts(
                [
                    ("days", f"{report['days'][0]} to {report['days'][-1]}"),
                    ("seconds in all", decimal(report["seconds"], 0)),
                    ("peak memory, MB", report["peak_memory_mb"]),
                ]
            ),
            Heading("What the gate decided"),
            *_decisions(report),
            Heading("Metrics by day"),
            _metrics(report),
            Charts([Chart(figures.svg(lambda: _by_day(report), label=_BY_DAY), _BY_DAY)]),
            *_freshness(report.get("freshness", {})),
            *_answer(report["answer"]),
            Heading("Stages"),
            Prose("A stage of Airflow counts all its days. Some overlap.", Tone.QUIET),
            _stages(report["stages"]),
            Heading("What to open"),
            Table(
                ("what", "where"),
                [
                    (name, Cell(url, link=url if "://" in url else ""))
                    for name, url in report["urls"].items()
                ],
            ),
        ],
    )


_BY_DAY = "Normalised entropy by day"


def _failures(failed: Sequence[str]) -> Iterable[Block]:
    if failed:
        yield Notice(f"Failed: {', '.join(failed)}.", Tone.BAD)


def _labelled_gates(report: JsonObject) -> list[tuple[str, JsonObject]]:
    days = [("", gate) for gate in report["gates"]]
    return [
        ("bootstrap", report["bootstrap_gate"]),
        *days,
        ("drill: spoilt on purpose", report["drill"]),
    ]


def _decisions(report: JsonObject) -> Iterable[Block]:
    rows: list[Sequence[Value]] = []
    for label, gate in _labelled_gates(report):
        decision = gate["decision"]
        outcome = Cell(decision, note=label, tone=TONES.get(decision, Tone.PLAIN))
        page = Cell("report", link=f"../reports/{gate['report']}") if gate["report"] else None
        rows.append((gate["day"], outcome, "; ".join(gate["reasons"]), page))
    yield Table(("day", "decision", "why", "page"), rows)


def _metrics(report: JsonObject) -> Table:
    rows: list[Sequence[Value]] = []
    for gate in (report["bootstrap_gate"], *report["gates"]):
        for who, values in gate["metrics"].items():
            if values:
                rows.append((gate["day"], who, *(decimal(values.get(name)) for name in METRICS)))
    return Table(("day", "ranker", *(name.replace("_", " ") for name in METRICS)), rows)


def _by_day(report: JsonObject) -> Figure:
    """NE of candidate and champion on each day's holdout."""
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axes = figure.subplots()
    gates = (report["bootstrap_gate"], *report["gates"])
    for who, colour in zip(("candidate", "champion"), figures.SERIES, strict=False):
        measured = [gate for gate in gates if (gate["metrics"].get(who) or {}).get("ne")]
        days = [gate["day"][5:] for gate in measured]
        values = [gate["metrics"][who]["ne"] for gate in measured]
        if days:
            figures.plot(axes, days, values, colour=colour, label=who)
    axes.set_ylabel("normalised entropy")
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def _freshness(freshness: JsonObject) -> Iterable[Block]:
    """From the landing of an impression until the endpoint can read it, and the declared delay."""
    if "impressions" not in freshness:
        return
    yield Heading("Freshness of users online")
    yield Prose(
        f"The impressions of {freshness['day']}, replayed in order of arrival at "
        f"{freshness['times_real_time']:,} times real time: seconds from landing to visible.",
        Tone.QUIET,
    )
    yield Table(
        ("impressions", "p50, s", "p99, s", "declared delay, s", "late"),
        [
            (
                freshness["impressions"],
                decimal(freshness["p50_seconds"], 2),
                decimal(freshness["p99_seconds"], 2),
                decimal(freshness["declared_delay_seconds"], 0),
                freshness["late"],
            )
        ],
    )


def _stages(stages: Sequence[JsonObject]) -> Table:
    return Table(
        ("stage", "seconds", "rows", "peak memory, MB"),
        [
            (stage["stage"], decimal(stage["seconds"], 1), stage["rows"], stage["peak_mb"])
            for stage in stages
        ],
    )


def _answer(answer: JsonObject) -> Iterable[Block]:
    if not answer["items"]:
        yield Notice(f"No ranked answer; {answer['note']}")
        return
    yield Heading("A ranked answer")
    yield Prose(
        f"For user {answer['user']} as of {answer['as_of']}, by {answer['model_version']}. The "
        "last column is from the log.",
        Tone.QUIET,
    )
    shown = {"rank", "item", "title", "score"}
    known = [name for name in answer["items"][0] if name not in shown]
    yield Table(
        ("rank", "item", "score", *known),
        [
            (
                item["rank"],
                item["title"] or str(item["item"]),
                decimal(item["score"]),
                *(item.get(name) for name in known),
            )
            for item in answer["items"]
        ],
    )

"""The demo's account as a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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

METRICS = ("ne", "auc", "gauc", "calibration", "log_loss")
TONES = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}


def account_page(account: Mapping[str, Any]) -> Page:
    """The page of an account, as ``account.build`` makes it."""
    return Page(
        f"The main job on {account['dataset']}",
        [
            *_failures(account["failed_tasks"]),
            Facts(
                [
                    ("days", f"{account['days'][0]} to {account['days'][-1]}"),
                    ("seconds in all", decimal(account["seconds"], 0)),
                    ("peak memory, MB", account["peak_memory_mb"]),
                ]
            ),
            Heading("What the gate decided"),
            *_decisions(account),
            Heading("Metrics by day"),
            _metrics(account),
            Charts([Chart(figures.svg(lambda: _by_day(account), label=_BY_DAY), _BY_DAY)]),
            *_freshness(account.get("freshness", {})),
            *_answer(account["answer"]),
            Heading("Stages"),
            Prose("A stage of Airflow counts all its days. Some overlap.", Tone.QUIET),
            _stages(account["stages"]),
            Heading("What to open"),
            Table(
                ("what", "where"),
                [
                    (name, Cell(url, link=url if "://" in url else ""))
                    for name, url in account["urls"].items()
                ],
            ),
        ],
    )


_BY_DAY = "Normalised entropy by day"


def _failures(failed: Sequence[str]) -> Iterable[Block]:
    if failed:
        yield Notice(f"Failed: {', '.join(failed)}.", Tone.BAD)


def _labelled_gates(account: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    days = [("", gate) for gate in account["gates"]]
    return [
        ("bootstrap", account["bootstrap_gate"]),
        *days,
        ("drill: spoilt on purpose", account["drill"]),
    ]


def _decisions(account: Mapping[str, Any]) -> Iterable[Block]:
    rows: list[Sequence[Value]] = []
    for label, gate in _labelled_gates(account):
        decision = gate["decision"]
        told = Cell(decision, note=label, tone=TONES.get(decision, Tone.PLAIN))
        report = Cell("report", link=f"../reports/{gate['report']}") if gate["report"] else None
        rows.append((gate["day"], told, "; ".join(gate["reasons"]), report))
    yield Table(("day", "decision", "why", "page"), rows)


def _metrics(account: Mapping[str, Any]) -> Table:
    rows: list[Sequence[Value]] = []
    for gate in (account["bootstrap_gate"], *account["gates"]):
        for who, values in gate["metrics"].items():
            if values:
                rows.append((gate["day"], who, *(decimal(values.get(name)) for name in METRICS)))
    return Table(("day", "ranker", *(name.replace("_", " ") for name in METRICS)), rows)


def _by_day(account: Mapping[str, Any]) -> Figure:
    """NE of candidate and champion on each day's holdout."""
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axes = figure.subplots()
    gates = (account["bootstrap_gate"], *account["gates"])
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


def _freshness(freshness: Mapping[str, Any]) -> Iterable[Block]:
    """From the landing of an impression until the endpoint can read it, beside the delay."""
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


def _stages(stages: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        ("stage", "seconds", "rows", "peak memory, MB"),
        [
            (stage["stage"], decimal(stage["seconds"], 1), stage["rows"], stage["peak_mb"])
            for stage in stages
        ],
    )


def _answer(answer: Mapping[str, Any]) -> Iterable[Block]:
    if not answer["items"]:
        yield Notice(f"No ranked answer; {answer['note']}")
        return
    yield Heading("A ranked answer")
    yield Prose(
        f"For user {answer['user']} as of {answer['as_of']}, by {answer['model_version']}. The "
        "last column is from the log.",
        Tone.QUIET,
    )
    told = {"rank", "item", "title", "score"}
    known = [name for name in answer["items"][0] if name not in told]
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

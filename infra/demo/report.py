"""The demo's report: what took how long, what was measured and decided, and what to open."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from features.pages import figures, site
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
from features.places import place
from infra.local.settings import HOST

if TYPE_CHECKING:
    from infra.demo.demo import Demo

Report = dict[str, Any]
LOGGED_STATES = ("running", "success", "failed", "skipped", "up_for_retry", "upstream_failed")
"""States of a task that are logged."""
METRICS = ("ne", "auc", "gauc", "calibration", "log_loss")
_TONES = {"promote": Tone.GOOD, "hold": Tone.UNSURE, "refuse": Tone.BAD}
_BY_DAY = "Normalised entropy by day"


def build(demo: "Demo", *, seconds: float, drill: Report, answer: Report, fresh: Report) -> Report:
    """Everything that the page and the JSON line are made from."""
    failed = [task for task in demo.tasks if task["state"] in {"failed", "upstream_failed"}]
    gates = [
        _gate(task["day"], task["result"]) for task in demo.tasks if task["task"] == "evaluate"
    ]
    first = next(stage for stage in demo.jobs.stages if stage.name == "evaluate")
    settings = demo.settings
    return {
        "dataset": settings.dataset,
        "history": [str(day) for day in demo.history],
        "days": [str(day) for day in demo.days],
        "seconds": seconds,
        "peak_memory_mb": demo.sampler.peak_mb,
        "stages": [*_bootstrap_stages(demo), *_daily_stages(demo)],
        "tasks": demo.tasks,
        "failed_tasks": [f"{task['day']} {task['task']}" for task in failed],
        "bootstrap_gate": _gate(str(demo.history[1]), first.result),
        "gates": gates,
        "drill": {**_gate(str(demo.days[-1]), drill), "candidate": "spoilt on purpose"},
        "answer": answer,
        "freshness": fresh,
        # Next to this page, or in Airflow's UI.
        "pages": "../reports"
        if settings.data == place(settings.var)
        else f"{settings.airflow_url}/ranking/reports",
        "urls": {
            "Airflow, after `make up`": f"{settings.airflow_url}/dags/daily_ranking",
            "reports": f"{settings.airflow_url}/ranking/reports/",
            "endpoint, REST": f"{settings.endpoint_url}/v2/models/{settings.dataset}",
            "endpoint, gRPC": f"{HOST}:{settings.grpc_port}",
        },
    }


def _bootstrap_stages(demo: "Demo") -> Iterable[Report]:
    for stage in demo.jobs.stages:
        yield {
            "stage": stage.name,
            "seconds": stage.seconds,
            "rows": _rows(stage.result),
            "peak_mb": demo.sampler.peaks_mb.get(stage.name),
        }


def _daily_stages(demo: "Demo") -> Iterable[Report]:
    """The tasks of the daily part, the days of each added up."""
    for name in dict.fromkeys(task["task"] for task in demo.tasks):
        tasks = [task for task in demo.tasks if task["task"] == name]
        rows = [count for task in tasks if (count := _rows(task["result"])) is not None]
        yield {
            "stage": f"Airflow: {name} x{len(tasks)}",
            "seconds": round(sum(task["seconds"] for task in tasks), 1),
            "rows": sum(rows) if rows else None,
            "peak_mb": demo.sampler.peaks_mb.get(f"daily {name}"),
        }


def _rows(result: Mapping[str, Any]) -> int | None:
    rows = result.get("rows")
    return rows if isinstance(rows, int) else None


def _gate(day: str, result: Mapping[str, Any]) -> Report:
    return {
        "day": day,
        "decision": result.get("decision", "none"),
        "reasons": result.get("reasons", []),
        "metrics": {"candidate": result.get("metrics"), "champion": result.get("champion_metrics")},
        "report": result.get("report", ""),
    }


def headline(report: Report) -> Report:
    """The one JSON line, for scripts."""
    names = ("dataset", "days", "seconds", "peak_memory_mb", "failed_tasks")
    decisions = {gate["day"]: gate["decision"] for gate in report["gates"]}
    drill = report["drill"]["decision"]
    return {**{name: report[name] for name in names}, "decisions": decisions, "drill": drill}


def write(report: Report, folder: Path) -> str:
    """Write ``report.json`` and ``report.html``; returns the page for a terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    page = report_page(report)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(site.html(page), encoding="utf-8")
    return site.text(page)


def report_page(report: Report) -> Page:
    """The page of a report that ``build`` made."""
    failed = report["failed_tasks"]
    urls = [
        (name, Cell(url, link=url if "://" in url else "")) for name, url in report["urls"].items()
    ]
    return Page(
        f"The main job on {report['dataset']}",
        [
            *([Notice(f"Failed: {', '.join(failed)}.", Tone.BAD)] if failed else []),
            Facts(
                [
                    ("days", f"{report['days'][0]} to {report['days'][-1]}"),
                    ("seconds in all", decimal(report["seconds"], 0)),
                    ("peak memory, MB", report["peak_memory_mb"]),
                ]
            ),
            Heading("What the gate decided"),
            _decisions(report),
            Heading("Metrics by day"),
            _metrics(report),
            Charts([Chart(figures.svg(lambda: _by_day(report), label=_BY_DAY), _BY_DAY)]),
            *_freshness(report["freshness"]),
            *_answer(report["answer"]),
            Heading("Stages"),
            Prose("A stage of Airflow counts all its days. Some overlap.", Tone.QUIET),
            Table(
                ("stage", "seconds", "rows", "peak memory, MB"),
                [
                    (stage["stage"], decimal(stage["seconds"], 1), stage["rows"], stage["peak_mb"])
                    for stage in report["stages"]
                ],
            ),
            Heading("What to open"),
            Table(("what", "where"), urls),
        ],
    )


def _decisions(report: Report) -> Table:
    days = [("", gate) for gate in report["gates"]]
    drill = ("drill: spoilt on purpose", report["drill"])
    rows: list[Sequence[Value]] = []
    for label, gate in [("bootstrap", report["bootstrap_gate"]), *days, drill]:
        decision = gate["decision"]
        outcome = Cell(decision, note=label, tone=_TONES.get(decision, Tone.PLAIN))
        page = (
            Cell("report", link=f"{report['pages']}/{gate['report']}") if gate["report"] else None
        )
        rows.append((gate["day"], outcome, page, "; ".join(gate["reasons"])))
    return Table(("day", "decision", "page", "why"), rows)


def _metrics(report: Report) -> Table:
    rows: list[Sequence[Value]] = []
    for gate in (report["bootstrap_gate"], *report["gates"]):
        for who, values in gate["metrics"].items():
            if values:
                rows.append((gate["day"], who, *(decimal(values.get(name)) for name in METRICS)))
    return Table(("day", "ranker", *(name.replace("_", " ") for name in METRICS)), rows)


def _by_day(report: Report) -> Figure:
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


def _freshness(freshness: Report) -> Iterable[Block]:
    """From the landing of an impression until the endpoint can read it, and the declared delay."""
    if "impressions" not in freshness:
        return
    yield Heading("Freshness of users online")
    yield Prose(
        f"The impressions of {freshness['day']}, replayed in order of arrival at "
        f"{freshness['times_real_time']:,} times real time: seconds from landing to visible.",
        Tone.QUIET,
    )
    p50, p99 = (decimal(freshness[f"{name}_seconds"], 2) for name in ("p50", "p99"))
    delay = decimal(freshness["declared_delay_seconds"], 0)
    yield Table(
        ("impressions", "p50, s", "p99, s", "declared delay, s", "late"),
        [(freshness["impressions"], p50, p99, delay, freshness["late"])],
    )


def _answer(answer: Report) -> Iterable[Block]:
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
    rows: list[Sequence[Value]] = []
    for item in answer["items"]:
        title = item["title"] or str(item["item"])
        values = (item.get(name) for name in known)
        rows.append((item["rank"], title, decimal(item["score"]), *values))
    yield Table(("rank", "item", "score", *known), rows)

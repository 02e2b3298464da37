"""The demo's report: what took how long, what was measured and decided, and what to open."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from features.pages import site
from infra.demo.report_page import METRICS, report_page
from infra.local.network import JsonObject
from infra.local.settings import HOST

if TYPE_CHECKING:
    from infra.demo.demo import Demo

Report = JsonObject
LOGGED_STATES = ("running", "success", "failed", "skipped", "up_for_retry", "upstream_failed")
"""States of a task that are logged."""


def build(demo: "Demo", *, seconds: float, drill: JsonObject, answer: JsonObject) -> Report:
    """Everything that the table, the page and the JSON line are made from."""
    failed = [task for task in demo.tasks if task["state"] in {"failed", "upstream_failed"}]
    gates = [
        _gate(task["day"], task["result"]) for task in demo.tasks if task["task"] == "evaluate"
    ]
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
        "bootstrap_gate": _first_gate(demo),
        "gates": gates,
        "drill": {**_gate(str(demo.days[-1]), drill), "candidate": "spoilt on purpose"},
        "answer": answer,
        "urls": {
            "Airflow, after `make up`": f"{settings.airflow_url}/dags/daily_ranking",
            "reports": f"{settings.airflow_url}/ranking/reports/",
            "endpoint, REST": f"{settings.endpoint_url}/v2/models/ranker",
            "endpoint, gRPC": f"{HOST}:{settings.grpc_port}",
        },
    }


def headline(report: Report) -> Report:
    """The one JSON line, for scripts."""
    names = ("dataset", "days", "seconds", "peak_memory_mb", "failed_tasks")
    decisions = {gate["day"]: gate["decision"] for gate in report["gates"]}
    drill = report["drill"]["decision"]
    return {**{name: report[name] for name in names}, "decisions": decisions, "drill": drill}


def write(report: Report, folder: Path) -> None:
    """``report.json`` and ``report.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(site.html(report_page(report)), encoding="utf-8")


def table(report: Report) -> str:
    """The report for a terminal."""
    lines = ["", f"{'stage':<30}{'seconds':>9}{'rows':>12}{'peak MB':>9}"]
    for stage in report["stages"]:
        rows = f"{stage['rows']:,}" if stage["rows"] is not None else ""
        lines.append(
            f"{stage['stage']:<30}{stage['seconds']:>9.1f}{rows:>12}{stage['peak_mb'] or '':>9}"
        )
    total = f"{'all, with what overlapped':<30}{report['seconds']:>9.1f}"
    lines += [f"{total}{'':>12}{report['peak_memory_mb']:>9}", ""]
    lines += [*_metric_lines(report), *_gate_lines(report)]
    lines += [*_freshness_lines(report.get("freshness", {})), *_answer_lines(report["answer"])]
    lines += [f"{name:<26}{url}" for name, url in report["urls"].items()]
    failed = report["failed_tasks"]
    return "\n".join([*lines, f"FAILED: {', '.join(failed)}"] if failed else lines)


def _bootstrap_stages(demo: "Demo") -> Iterable[JsonObject]:
    for stage in demo.jobs.stages:
        yield {
            "stage": stage.name,
            "seconds": stage.seconds,
            "rows": _rows(stage.result),
            "peak_mb": demo.sampler.peaks_mb.get(stage.name),
        }


def _daily_stages(demo: "Demo") -> Iterable[JsonObject]:
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


def _rows(result: JsonObject) -> int | None:
    rows = result.get("rows")
    return rows if isinstance(rows, int) else None


def _first_gate(demo: "Demo") -> JsonObject:
    stage = next(stage for stage in demo.jobs.stages if stage.name == "evaluate")
    return _gate(str(demo.history[1]), stage.result)


def _gate(day: str, result: JsonObject) -> JsonObject:
    return {
        "day": day,
        "decision": result.get("decision", "none"),
        "reasons": result.get("reasons", []),
        "metrics": {"candidate": result.get("metrics"), "champion": result.get("champion_metrics")},
        "report": result.get("report", ""),
    }


def _metric_lines(report: Report) -> list[str]:
    lines = [f"{'metrics by day':<30}" + "".join(f"{name:>13}" for name in METRICS)]
    for gate in (report["bootstrap_gate"], *report["gates"]):
        for who, values in gate["metrics"].items():
            cells = "".join(_cell((values or {}).get(name)) for name in METRICS)
            lines += [f"{gate['day'] + ' ' + who:<30}{cells}"] if values else []
    return [*lines, ""]


def _cell(value: object) -> str:
    return f"{value:>13.4f}" if isinstance(value, int | float) else f"{'':>13}"


def _gate_lines(report: Report) -> list[str]:
    first = {**report["bootstrap_gate"], "label": "bootstrap"}
    drill = {**report["drill"], "label": "DRILL: candidate spoilt on purpose"}
    lines = ["decisions of the gate"]
    for gate in (first, *report["gates"], drill):
        label = f"  [{gate['label']}]" if "label" in gate else ""
        lines.append(f"  {gate['day']}  {gate['decision']}{label}")
        lines += [f"      {reason}" for reason in gate["reasons"]]
    return [*lines, ""]


def _freshness_lines(freshness: JsonObject) -> list[str]:
    """From the landing of an impression until the endpoint can read it, and the declared delay."""
    if "impressions" not in freshness:
        return []
    head = f"freshness of users, {freshness['day']} at {freshness['times_real_time']:,} x real time"
    return [
        head,
        f"  {'impressions':>12}{'p50 s':>9}{'p99 s':>9}{'declared s':>12}{'late':>7}",
        f"  {freshness['impressions']:>12,}{freshness['p50_seconds']:>9.2f}"
        f"{freshness['p99_seconds']:>9.2f}{freshness['declared_delay_seconds']:>12.0f}"
        f"{freshness['late']:>7}",
        "",
    ]


def _answer_lines(answer: JsonObject) -> list[str]:
    if not answer["items"]:
        return [f"no ranked answer; {answer['note']}", ""]
    lines = [
        f"ranked for user {answer['user']} as of {answer['as_of']} by {answer['model_version']}"
    ]
    for item in answer["items"]:
        what = item["title"] or item["item"]
        known = {k: v for k, v in item.items() if k not in {"rank", "item", "title", "score"}}
        truth = ", ".join(f"{name} {value}" for name, value in known.items())
        lines.append(f"  {item['rank']:>3}  {item['score']:.4f}  {what}  ({truth})")
    return [*lines, ""]

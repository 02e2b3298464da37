"""Airflow plugin: the reports folder, read-only, in the Airflow UI under /ranking.

Browsers block links to files, so each page that a job writes (Data Docs, gate report, quarantine
counts, training curve) is served here, wherever the reports lie, and a task's extra link points at
it. Only what is below the reports is served, whatever a path or a symbolic link says.
"""

import mimetypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlsplit

import jinja2
from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from upath import UPath

PREFIX = "/ranking"
OVERVIEW = "overview.html"
"""Of a data set, the page of what its monitors found."""
_KINDS = (
    *("backfill_ranking", "bootstrap_ranking", "daily_ranking", "monitor_ranking"),
    *("retrain_ranking", "scaling_study", "upscale_dense"),
)
"""Of DAGs: a DAG's id is its kind and the data set's name."""
REPOSITORY = Path(__file__).resolve().parents[3]
# The pages' template by its path: Airflow imports none of the packages. It takes plain mappings.
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(REPOSITORY / "features" / "pages"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def reports_place() -> UPath:
    """Where the jobs write their pages."""
    root = os.environ.get("RANKING_ROOT") or os.environ.get("RANKING_VAR") or REPOSITORY / "var"
    text = urlsplit(str(root)).path if str(root).startswith("file:") else str(root)
    if "://" not in text:
        return UPath(text) / "reports"
    # Listings are not kept: the jobs write meanwhile.
    return UPath(text, use_listings_cache=False) / "reports"


def create_app(reports: UPath) -> FastAPI:
    """The read-only site over the reports."""
    app = FastAPI(title="Ranking reports", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def front() -> Response:
        """The reports' index is the front page."""
        return RedirectResponse(f"{PREFIX}/reports/", status_code=307)

    @app.get("/overview/{dag_id}")
    def overview(dag_id: str) -> Response:
        """The overview of the data set that a DAG works on."""
        return _overview(reports, dag_id)

    @app.get("/reports/{path:path}")
    def page(path: str) -> Response:
        """A report, or the index of a folder of reports."""
        return _serve(reports, path)

    return app


def _overview(reports: UPath, dag_id: str) -> Response:
    names = [entry.name for entry in reports.iterdir()] if reports.exists() else []
    # A DAG is named after its kind and its data set, whose hyphens are underscores there.
    ids = {f"{kind}_{name.replace('-', '_')}": name for kind in _KINDS for name in names}
    name = ids.get(dag_id, "")
    if name and (reports / name / OVERVIEW).is_file():
        return RedirectResponse(f"{PREFIX}/reports/{name}/{OVERVIEW}", status_code=307)
    text = f"No overview yet: the DAG monitor_ranking writes it, for {name or 'a data set'}."
    return _page("Overview", [{"kind": "prose", "text": text}])


def _serve(reports: UPath, path: str) -> Response:
    root = reports.resolve()
    target = _below(root, path)
    if target.is_file():
        return _file(target)
    if path and not path.endswith("/"):
        # Relative links in a folder's page need the slash.
        return RedirectResponse(f"{PREFIX}/reports/{path}/", status_code=307)
    if (target / "index.html").is_file():
        return _file(target / "index.html")
    return _index(target, is_root=target == root)


def _file(target: UPath) -> Response:
    kind = mimetypes.guess_type(target.name)[0] or "application/octet-stream"
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(target.read_bytes(), media_type=kind, headers=headers)


def _below(root: UPath, path: str) -> UPath:
    """The file that a path names, links resolved; 404 where that is not below the root."""
    try:
        target = (root / path).resolve()
        is_there = target == root or target.exists()
    except (ValueError, OSError) as error:
        raise HTTPException(404, "no such report") from error
    if not is_there or (target != root and root not in target.parents):
        raise HTTPException(404, f"no such report; see {PREFIX}/reports/")
    return target


def _index(folder: UPath, *, is_root: bool) -> HTMLResponse:
    entries = _newest_first(sorted(folder.iterdir()) if folder.exists() else [])
    listing: dict[str, object] = {
        "kind": "table",
        "columns": ["report", "content"],
        "is_numeric": [False, True],
        "cells": [_row(entry) for entry in entries],
    }
    nothing: dict[str, object] = {
        "kind": "prose",
        "text": "No reports yet: no job has written one.",
    }
    up: list[dict[str, object]] = (
        [] if is_root else [{"kind": "link", "text": "one folder up", "link": "../"}]
    )
    title = "Ranking reports" if is_root else folder.name
    return _page(title, [*up, listing if entries else nothing])


def _page(title: str, blocks: list[dict[str, object]]) -> HTMLResponse:
    page = {"title": title, "blocks": blocks}
    return HTMLResponse(_TEMPLATES.get_template("page.html.j2").render(page=page))


def _newest_first(entries: Iterable[UPath]) -> list[UPath]:
    """Data sets and kinds of reports by name, then the days from the newest."""
    named = [entry for entry in entries if not entry.name[:1].isdigit()]
    dated = [entry for entry in entries if entry.name[:1].isdigit()]
    return named + dated[::-1]


def _row(entry: UPath) -> list[dict[str, str]]:
    name = entry.name + ("/" if entry.is_dir() else "")
    return [{"text": name, "link": f"./{quote(name)}"}, {"text": _about(entry)}]


def _about(entry: UPath) -> str:
    if not entry.is_dir():
        return _size(entry)
    count = sum(1 for _ in entry.iterdir())
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _size(file: UPath) -> str:
    return f"{max(1, file.stat().st_size // 1024)} kB" if file.exists() else "gone"


class RankingReportsPlugin(AirflowPlugin):
    """Serves the reports, in the UI's navigation, and the overview as a tab of each DAG."""

    name = "ranking_reports"
    fastapi_apps: ClassVar = [
        {"app": create_app(reports_place()), "name": "Ranking reports", "url_prefix": PREFIX}
    ]
    external_views: ClassVar = [
        {
            "name": "Ranking reports",
            "href": f"{PREFIX}/reports/",
            "destination": "nav",
            "category": "browse",
            "url_route": "ranking-reports",
        },
        {
            # Airflow has a tab Overview of its own.
            "name": "Ranking",
            # Airflow's UI fills it in.
            "href": f"{PREFIX}/overview/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "ranking-overview",
        },
    ]

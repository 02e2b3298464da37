"""Airflow plugin: the reports folder, read-only, in the Airflow UI under /ranking.

Browsers block links to files, so each page that a job writes (Data Docs, gate report, quarantine
counts, training curve) is served here, and a task's extra link points at it. Only files below the
reports folder are served, whatever a path or a symbolic link says.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import jinja2
from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

PREFIX = "/ranking"
REPOSITORY = Path(__file__).resolve().parents[3]
# The pages' template by its path: Airflow imports none of the packages. It takes plain mappings.
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(REPOSITORY / "features" / "pages"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def reports_folder() -> Path:
    """Where the jobs write their pages."""
    return Path(os.environ.get("RANKING_VAR") or REPOSITORY / "var").resolve() / "reports"


def create_app(reports: Path) -> FastAPI:
    """The read-only site over a reports folder."""
    app = FastAPI(title="Ranking reports", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def front() -> Response:
        """The reports' index is the front page."""
        return RedirectResponse(f"{PREFIX}/reports/", status_code=307)

    @app.get("/reports/{path:path}")
    def page(path: str) -> Response:
        """A report, or the index of a folder of reports."""
        return _serve(reports, path)

    return app


def _serve(reports: Path, path: str) -> Response:
    root = reports.resolve()
    target = _below(root, path)
    if target.is_file():
        return FileResponse(target, headers={"Cache-Control": "no-cache"})
    if path and not path.endswith("/"):
        # Relative links in a folder's page need the slash.
        return RedirectResponse(f"{PREFIX}/reports/{path}/", status_code=307)
    if (target / "index.html").is_file():
        return FileResponse(target / "index.html", headers={"Cache-Control": "no-cache"})
    return _index(target, is_root=target == root)


def _below(root: Path, path: str) -> Path:
    """The file that a path names, links resolved; 404 where that is not below the root."""
    try:
        target = (root / path).resolve()
        is_there = target == root or target.exists()
    except (ValueError, OSError) as error:
        raise HTTPException(404, "no such report") from error
    if not is_there or (target != root and root not in target.parents):
        raise HTTPException(404, f"no such report; see {PREFIX}/reports/")
    return target


def _index(folder: Path, *, is_root: bool) -> HTMLResponse:
    entries = _newest_first(sorted(folder.iterdir()) if folder.exists() else [])
    listing = {
        "kind": "table",
        "columns": ["report", "content"],
        "is_numeric": [False, True],
        "cells": [_row(entry) for entry in entries],
    }
    nothing = {"kind": "prose", "text": "No reports yet: no job has written one."}
    up = [] if is_root else [{"kind": "link", "text": "one folder up", "link": "../"}]
    title = "Ranking reports" if is_root else folder.name
    page = {"title": title, "blocks": [*up, listing if entries else nothing]}
    return HTMLResponse(_TEMPLATES.get_template("page.html.j2").render(page=page))


def _newest_first(entries: Iterable[Path]) -> list[Path]:
    """Data sets and kinds of reports by name, then the days from the newest."""
    named = [entry for entry in entries if not entry.name[:1].isdigit()]
    dated = [entry for entry in entries if entry.name[:1].isdigit()]
    return named + dated[::-1]


def _row(entry: Path) -> list[dict[str, str]]:
    name = entry.name + ("/" if entry.is_dir() else "")
    return [{"text": name, "link": f"./{quote(name)}"}, {"text": _about(entry)}]


def _about(entry: Path) -> str:
    if not entry.is_dir():
        return _size(entry)
    count = sum(1 for _ in entry.iterdir())
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _size(file: Path) -> str:
    return f"{max(1, file.stat().st_size // 1024)} kB" if file.exists() else "gone"


class RankingReportsPlugin(AirflowPlugin):
    """Serves the reports and puts them in the UI's navigation."""

    name = "ranking_reports"
    fastapi_apps: ClassVar = [
        {"app": create_app(reports_folder()), "name": "Ranking reports", "url_prefix": PREFIX}
    ]
    external_views: ClassVar = [
        {
            "name": "Ranking reports",
            "href": f"{PREFIX}/reports/",
            "destination": "nav",
            "category": "browse",
            "url_route": "ranking-reports",
        }
    ]

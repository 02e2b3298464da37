"""Airflow plugin: the reports folder, read-only, in the Airflow UI under /ranking.

Browsers block links to files, so each page that a job writes (Data Docs, gate report, quarantine
counts, training curve) is served here, and a task's extra link points at it. Only files below the
reports folder are served, whatever a path or a symbolic link says.
"""

import html
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

PREFIX = "/ranking"
REPOSITORY = Path(__file__).resolve().parents[3]
_STYLE = (
    "body{font:15px/1.6 system-ui,sans-serif;margin:2rem;color:#1f2328;background:#fff}"
    "a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}"
    "td{padding:.15rem 1.5rem .15rem 0}h1{font-size:1.3rem}"
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
    title = "Ranking reports" if is_root else html.escape(folder.name)
    up = "" if is_root else '<p><a href="../">up</a></p>'
    rows = "".join(_row(entry) for entry in entries)
    body = f"<table>{rows}</table>" if rows else "<p>No reports yet: no job has written one.</p>"
    return HTMLResponse(
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{up}{body}"
    )


def _newest_first(entries: Iterable[Path]) -> list[Path]:
    """Data sets and kinds of reports by name, then the days from the newest."""
    named = [entry for entry in entries if not entry.name[:1].isdigit()]
    dated = [entry for entry in entries if entry.name[:1].isdigit()]
    return named + dated[::-1]


def _row(entry: Path) -> str:
    name = entry.name + ("/" if entry.is_dir() else "")
    about = f"{sum(1 for _ in entry.iterdir())} entries" if entry.is_dir() else _size(entry)
    return f'<tr><td><a href="./{quote(name)}">{html.escape(name)}</a></td><td>{about}</td></tr>'


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

"""The reports plugin: read-only, below one folder, with an index."""

import pytest
import ranking_reports
from starlette.testclient import TestClient

from features.places import put_whole


@pytest.fixture
def client(tmp_path):
    """The site over a folder with one gate report, next to a secret."""
    report = tmp_path / "reports" / "movielens-100k" / "gate" / "1998-04-20"
    report.mkdir(parents=True)
    (report / "index.html").write_text("<h1>promote</h1>")
    (report / "decision.json").write_text("{}")
    (report.parent / "1998-04-19").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "reports" / "link").symlink_to(tmp_path / "secret.txt")
    app = ranking_reports.create_app(tmp_path / "reports")
    return TestClient(app, root_path="/ranking")


def test_a_report_is_served(client) -> None:
    """By its path; a folder by its index page."""
    base = "/reports/movielens-100k/gate/1998-04-20"
    assert client.get(f"{base}/index.html").text == "<h1>promote</h1>"
    assert client.get(f"{base}/").text == "<h1>promote</h1>"
    assert client.get(f"{base}/decision.json").json() == {}


def test_a_folder_without_the_slash_is_sent_to_it(client) -> None:
    """Relative links of its page would point elsewhere."""
    answer = client.get("/reports/movielens-100k", follow_redirects=False)
    assert answer.headers["location"] == "/ranking/reports/movielens-100k/"


def test_the_index_lists_data_sets_reports_and_days_newest_first(client) -> None:
    """From the front page to a day in three clicks."""
    assert 'href="./movielens-100k/"' in client.get("/reports/").text
    assert 'href="./gate/"' in client.get("/reports/movielens-100k/").text
    days = client.get("/reports/movielens-100k/gate/").text
    assert 0 < days.index("1998-04-20") < days.index("1998-04-19")


@pytest.mark.parametrize(
    "path",
    [
        "/reports/../secret.txt",
        "/reports/%2e%2e/secret.txt",
        "/reports/..%2fsecret.txt",
        "/reports//etc/passwd",
        "/reports/movielens-100k/../../secret.txt",
        "/reports/link",
        "/reports/%00",
        "/reports/" + "a" * 5000,
        "/reports/missing.html",
    ],
)
def test_nothing_outside_the_folder_is_served(client, path) -> None:
    """Neither by dots, encoded or not, nor by an absolute path, nor through a link."""
    answer = client.get(path)
    assert (answer.status_code, "secret" in answer.text.replace("secret.txt", "")) == (404, False)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_read_only(client, method) -> None:
    """No method changes anything."""
    assert client.request(method, "/reports/movielens-100k/gate/").status_code == 405


def test_reports_are_served_from_wherever_they_lie(anywhere) -> None:
    """A page, the index of a folder, and nothing above the reports."""
    put_whole(
        anywhere / "reports" / "synthetic" / "gate" / "2025-01-02" / "index.html", b"<h1>hold"
    )
    put_whole(anywhere / "reports" / "synthetic" / "alerts" / "a.json", b"{}")
    put_whole(anywhere / "secret.txt", b"secret")
    client = TestClient(ranking_reports.create_app(anywhere / "reports"), root_path="/ranking")
    page = client.get("/reports/synthetic/gate/2025-01-02/")
    assert (page.text, page.headers["content-type"]) == ("<h1>hold", "text/html; charset=utf-8")
    assert client.get("/reports/synthetic/alerts/a.json").json() == {}
    index = client.get("/reports/synthetic/").text
    assert 'href="./gate/"' in index
    assert "1 entry" in index
    for name in ("..%2fsecret.txt", "synthetic/..%2f..%2fsecret.txt", "missing"):
        assert client.get(f"/reports/{name}").status_code == 404


def test_no_reports_yet(tmp_path) -> None:
    """Before the first job the index says so."""
    client = TestClient(ranking_reports.create_app(tmp_path / "none"))
    assert "No reports yet" in client.get("/reports/").text


def test_the_plugin_is_in_the_navigation() -> None:
    """Airflow serves it under the prefix to which the view and the tasks' links point."""
    import ranking_assets

    (app,) = ranking_reports.RankingReportsPlugin.fastapi_apps
    view, tab = ranking_reports.RankingReportsPlugin.external_views
    assert app["url_prefix"] == "/ranking"
    assert view["href"] == ranking_assets.REPORTS_URL + "/"
    assert tab["href"] == "/ranking/overview/{DAG_ID}"


@pytest.mark.parametrize(
    ("dag_id", "name"),
    [
        ("daily_ranking_movielens_100k", "movielens-100k"),
        ("monitor_ranking_movielens_100k", "movielens-100k"),
        ("upscale_dense_my_shop", "my-shop"),
        ("daily_ranking_shop", None),
        ("my_own_dag", None),
    ],
)
def test_each_dag_has_the_overview_of_its_data_set(client, tmp_path, dag_id, name) -> None:
    """Of the longest name that fits: ``shop`` has reports, but no overview yet."""
    for known in ("movielens-100k", "my-shop"):
        put_whole(tmp_path / "reports" / known / "overview.html", b"<h1>all is well")
    put_whole(tmp_path / "reports" / "shop" / "gate" / "a.json", b"{}")
    answer = client.get(f"/overview/{dag_id}", follow_redirects=False)
    if name is None:
        assert "No overview yet" in answer.text
    else:
        assert answer.headers["location"] == f"/ranking/reports/{name}/overview.html"

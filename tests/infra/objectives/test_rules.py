"""Each alert fires on series that break its objective, and is silent on those that keep it.

Prometheus' own promtool evaluates the generated rules; its time begins at 0.
"""

import dataclasses
import re
import shutil
import subprocess

import pytest
import yaml

from infra.local.settings import REPOSITORY
from infra.objectives.objectives import FILE, Share, parse
from infra.objectives.rules import rules_of

pytestmark = pytest.mark.process
RULES = REPOSITORY / "infra" / "grafana" / "ranking-rules.yaml"
OBJECTIVES = parse(FILE.read_text())
BY_NAME = {one.name: one for one in OBJECTIVES.all()}
SHOP = {"model": "shop"}
TABLE = {"model": "shop", "table": "user_state"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool; on Debian: apt-get install prometheus")
    return found


@dataclasses.dataclass(frozen=True)
class Case:
    """Series of a test, by what promtool calls their values, and when they are looked at."""

    broken: dict[str, str]
    kept: dict[str, str]
    at: str
    """When the alert fires of what is broken, and not of what is kept."""
    labels: dict[str, str] = dataclasses.field(default_factory=lambda: SHOP)
    before: str = ""
    """When it does not fire yet of what is broken: an age grows."""
    step: str = "1m"


def age(
    metric: str,
    of_series: dict[str, str],
    before: str,
    at: str,
    labels: dict[str, str] | None = None,
    **others: str,
) -> Case:
    """A moment that stands still from 0 on, and one that goes on."""
    listed = ",".join(f'{name}="{value}"' for name, value in of_series.items())
    name = f"ranking_{metric}{{{listed}}}"
    hours = 1 if at.endswith("h") else 12
    return Case(
        {name: "0+0x40", **others},
        {name: f"0+{3600 * hours}x40", **others},
        *(at, labels or of_series, before, f"{hours}h"),
    )


def counted(metric: str, labels: str, *, bad: str, per_minute: int, good: str) -> dict[str, str]:
    """Counters of bad and good events, of which 1,000 come each minute."""
    return {
        f'ranking_{metric}{{model="shop",{labels}="{bad}"}}': f"0+{per_minute}x130",
        f'ranking_{metric}{{model="shop",{labels}="{good}"}}': f"0+{1000 - per_minute}x130",
    }


def requests(**outcomes: int) -> dict[str, str]:
    """Requests by outcome, so many each minute."""
    return {
        f'ranking_requests_total{{model="shop",outcome="{outcome}"}}': f"0+{number}x130"
        for outcome, number in outcomes.items()
    }


def errors(code: str, per_minute: int) -> dict[str, str]:
    name = f'ranking_errors_total{{model="shop",transport="rest",code="{code}"}}'
    return {name: f"0+{per_minute}x130", **requests(complete=1000)}


def errors_of_no_model(theirs: str, per_minute: int, *, ours: int) -> dict[str, str]:
    """Of requests that reached no model: only errors are counted, and no answers."""
    return {
        f'ranking_errors_total{{model="",transport="rest",code="{theirs}"}}': f"0+{per_minute}x130",
        'ranking_errors_total{model="",transport="rest",code="500"}': f"0+{ours}x130",
        'ranking_requests_total{model="",outcome="rejected"}': f"0+{per_minute}x130",
        'ranking_requests_total{model="",outcome="failed"}': f"0+{ours}x130",
    }


def slow(per_minute: int) -> dict[str, str]:
    return {
        'ranking_admitted_seconds_bucket{model="shop",le="0.25"}': f"0+{1000 - per_minute}x130",
        'ranking_admitted_seconds_count{model="shop"}': "0+1000x130",
    }


def pushed(within: str) -> dict[str, str]:
    """A declared delay of 60 s, and files that were readable within some seconds."""
    bucket = 'ranking_push_freshness_seconds_bucket{instance="a",le="%s"}'
    bounds = ("30", "60", "120", "+Inf")
    reached = {bound: int(bounds.index(bound) >= bounds.index(within)) for bound in bounds}
    return {
        'ranking_push_delay_seconds{instance="a"}': "60x130",
        **{bucket % bound: f"0+{6 * count}x130" for bound, count in reached.items()},
    }


def gauge(metric: str, labels: str, value: str) -> dict[str, str]:
    return {f"ranking_{metric}{{{labels}}}": f"{value}x130"}


INSTANCE = {"instance": "a"}
CASES = {
    "log-old": age("landed_day_timestamp_seconds", SHOP, "30h", "32h"),
    "lake-old": age("lake_day_timestamp_seconds", TABLE, "36h", "38h"),
    "online-rows-old": age(
        *("online_row_timestamp_seconds", TABLE, "36h", "38h"),
        **{'ranking_requests_total{model="shop",outcome="complete"}': "0+60x40"},
    ),
    "model-old": age(
        *("model_day_timestamp_seconds", {**SHOP, "pod": "a"}, "14d", "15d"),
        labels=SHOP,
        **{'ranking_model_day_timestamp_seconds{model="shop",pod="b"}': "0+43200x40"},
    ),
    "items-old": Case(
        gauge("items_age_seconds", 'model="shop"', "61"),
        gauge("items_age_seconds", 'model="shop"', "59"),
        *("6m", SHOP, "4m"),
    ),
    "features-late": Case(pushed("120"), pushed("30"), "20m", INSTANCE),
    "features-waiting": Case(
        {**pushed("30"), **gauge("push_waiting_seconds", 'instance="a"', "61")},
        {**pushed("30"), **gauge("push_waiting_seconds", 'instance="a"', "60")},
        *("2m", INSTANCE),
    ),
    "push-absent": Case({}, pushed("30"), "6m", {}, "4m"),
    "endpoint-absent": Case({}, gauge("model_ready", 'model="shop"', "0"), "3m", {}, "1m"),
    "model-not-ready": Case(
        {
            **gauge("model_ready", 'model="shop",pod="a"', "1"),
            **gauge("model_ready", 'model="shop",pod="b"', "0"),
        },
        gauge("model_ready", 'model="shop",pod="a"', "1"),
        *("6m", SHOP, "4m"),
    ),
    "answers-failing": Case(
        errors("503", 20), {**errors("400", 20), **errors_of_no_model("404", 20, ours=20)}, "40m"
    ),
    "answers-slow": Case(slow(200), slow(5), "40m"),
    "answers-degraded": Case(
        requests(degraded=800, complete=200), requests(degraded=40, complete=960), "40m"
    ),
    "store-unavailable": Case(
        {**gauge("flagged_answers_total", 'model="shop",flag="store_unavailable"', "0+11"),
         **requests(complete=1000)},
        {**gauge("flagged_answers_total", 'model="shop",flag="store_unavailable"', "0+9"),
         **requests(complete=1000)},
        "10m",
    ),
    "items-stale": Case(
        gauge("items_failing", 'model="shop"', "1"),
        gauge("items_failing", 'model="shop"', "0"),
        *("6m", SHOP, "4m"),
    ),
    "workers-restart": Case(
        {'ranking_worker_restarts_total{pod="a"}': "0x5 1x10"},
        gauge("worker_restarts_total", 'pod="a"', "3"),
        *("8m", {"pod": "a"}, "4m"),
    ),
    "shadow-drops": Case(
        counted("shadow_requests_total", "outcome", bad="dropped", per_minute=110, good="scored"),
        counted("shadow_requests_total", "outcome", bad="dropped", per_minute=90, good="scored"),
        *("20m", SHOP, "14m"),
    ),
    "shadow-hung": Case(
        gauge("shadow_hung", 'model="shop"', "1"),
        gauge("shadow_hung", 'model="shop"', "0"),
        *("16m", SHOP, "14m"),
    ),
    "log-rows-lost": Case(
        counted("logged_answers_total", "outcome", bad="dropped", per_minute=15, good="written"),
        counted("logged_answers_total", "outcome", bad="dropped", per_minute=0, good="written"),
        "40m",
    ),
}  # fmt: skip


def firing(name: str, labels: dict[str, str], factors: set[str]) -> list[dict[str, object]]:
    """The alerts of an objective as promtool expects them: of a share, those of some factors."""
    alerts = []
    for rule in rules_of(OBJECTIVES, BY_NAME[name]):
        plain = rule.to_dict()
        if rule.burn_rate is None or f"{rule.burn_rate.factor:g}" in factors:
            words = re.sub(
                r"{{ \.Labels\.(\w+) }}", lambda found: labels[found[1]], rule.objective.words
            )
            annotations = {"summary": words, "runbook": rule.runbook}
            alerts.append(
                {"exp_labels": {**labels, **plain["labels"]}, "exp_annotations": annotations}
            )
    return alerts


ALL = {f"{rate.factor:g}" for rate in OBJECTIVES.burn_rates}


def looks(name: str, series: dict[str, str], step: str, *expected) -> dict[str, object]:
    """A test of promtool: series, and what fires at which times."""
    return {
        "name": name,
        "interval": step,
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": at, "alertname": name, "exp_alerts": alerts} for at, alerts in expected
        ],
    }


def run(promtool: str, folder, by_step: dict[str, list[dict[str, object]]]) -> str:
    """What promtool says of tests by the time between two evaluations; empty when all pass."""
    files = []
    for step, tests in by_step.items():
        files.append(folder / f"{step}.yaml")
        document = {"rule_files": [str(RULES)], "evaluation_interval": step, "tests": tests}
        files[-1].write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [promtool, "test", "rules", *files], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_objective_has_series_that_break_it_and_series_that_keep_it():
    assert CASES.keys() == BY_NAME.keys()


def test_the_rules_are_valid(promtool):
    subprocess.run([promtool, "check", "rules", str(RULES)], check=True, capture_output=True)


def test_alerts_fire_on_what_breaks_their_objective_and_on_nothing_else(promtool, tmp_path):
    by_step = {case.step: [] for case in CASES.values()}
    for name, case in CASES.items():
        expected = [(case.at, firing(name, case.labels, ALL))]
        if case.before:
            expected.insert(0, (case.before, []))
        broken = looks(name, case.broken, case.step, *expected)
        by_step[case.step] += [broken, looks(name, case.kept, case.step, (case.at, []))]
    assert run(promtool, tmp_path, by_step) == ""


def test_a_test_of_promtool_can_fail(promtool, tmp_path):
    case = CASES["items-stale"]
    test = looks("items-stale", case.kept, "1m", (case.at, firing("items-stale", SHOP, ALL)))
    assert "items-stale" in run(promtool, tmp_path, {"1m": [test]})


@pytest.mark.parametrize(
    ("per_minute", "factors"), [(20, {"14.4", "6", "1"}), (8, {"6", "1"}), (2, {"1"}), (0, set())]
)
def test_the_faster_a_budget_is_spent_the_more_urgent_is_the_alert(
    promtool, tmp_path, per_minute, factors
):
    """Of 1,000 requests a minute, where one may fail."""
    assert isinstance(BY_NAME["answers-failing"], Share)
    expected = firing("answers-failing", SHOP, factors)
    test = looks("answers-failing", errors("500", per_minute), "1m", ("40m", expected))
    assert run(promtool, tmp_path, {"1m": [test]}) == ""


def test_what_is_over_is_no_page_any_more(promtool, tmp_path):
    """Errors of an hour, and then none: their budget is gone, and nobody is needed now."""
    failed = 'ranking_errors_total{model="shop",transport="rest",code="500"}'
    series = {failed: "0+20x60 1200+0x60", **requests(complete=1000)}
    urgent = firing("answers-failing", SHOP, ALL)
    test = looks(
        *("answers-failing", series, "1m", ("1h", urgent)),
        ("100m", firing("answers-failing", SHOP, {"1"})),
    )
    assert run(promtool, tmp_path, {"1m": [test]}) == ""

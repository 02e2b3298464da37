"""What the policy reads is what the monitors write; the command decides by it."""

import datetime
import json

import pyarrow as pa
import pytest
from support.quality.made_overview import DATASET, LAST, VERSION, write_results

from features.datasets.catalog import schema_of
from features.lake.day_file import replace_day
from features.lake.lake import EXAMPLES
from features.places import put_whole
from features.push.ages import daily_tables
from serving.__main__ import main
from serving.policy.decision import State
from serving.policy.findings import findings_of, windows_of
from training.artifact.manifest import Manifest
from training.registry.mlflow_registry import Registry

SCHEMA = schema_of(DATASET)
BEFORE = "1998-04-18-4567cdef"
ROWS = pa.table({"id": pa.array([1, 2])})


def ago(days):
    return LAST - datetime.timedelta(days=days)


def build(lake, *, until=LAST, but=""):
    """A day of each table; one that is named stays behind."""
    for table in daily_tables(SCHEMA):
        day = until if table != but else until - datetime.timedelta(days=1)
        replace_day(lake / DATASET / table, day, [ROWS])


def keep_parity(reports, backs, **changes):
    """Let the comparisons of some days have found nothing."""
    for back in backs:
        file = reports / DATASET / "parity" / f"{ago(back)}.json"
        found = {**json.loads(file.read_text()), "unexplained_share": 0.0, **changes}
        file.write_text(json.dumps(found))


def states(tmp_path, day=LAST):
    found = findings_of(SCHEMA, day, lake=tmp_path / "lake", reports=tmp_path / "reports")
    return {name: one.state for name, one in found.items()}


def test_nothing_is_known_of_a_day_that_no_monitor_looked_at(tmp_path):
    build(tmp_path / "lake")
    assert states(tmp_path) == {
        "parity": State.UNKNOWN,
        "freshness": State.KEPT,
        "drift": State.UNKNOWN,
    }
    assert windows_of(SCHEMA, LAST, reports=tmp_path / "reports") == []


def test_results_become_findings(tmp_path):
    build(tmp_path / "lake")
    write_results(tmp_path / "reports")
    assert states(tmp_path)["parity"] is State.BROKEN  # 0.6 % against 0.1 %
    assert states(tmp_path, ago(12))["parity"] is State.KEPT
    assert [states(tmp_path, ago(n))["drift"] for n in (2, 3)] == [State.BROKEN, State.KEPT]
    keep_parity(tmp_path / "reports", range(1, 4))
    windows = windows_of(SCHEMA, LAST, reports=tmp_path / "reports")
    # Labels of the newest day are not final; of days whose inputs were wrong nothing is said.
    assert [one.day for one in windows] == [ago(n) for n in (3, 2, 1)]
    assert {one.day for one in windows if one.is_broken} == {ago(1), ago(2)}
    assert {(one.version, one.requests) for one in windows} == {(VERSION, 4_321)}


@pytest.mark.parametrize(("share", "state"), [(0.06, State.BROKEN), (0.04, State.KEPT)])
def test_data_are_at_fault_when_many_candidates_differ_by_one_fault(tmp_path, share, state):
    build(tmp_path / "lake")
    write_results(tmp_path / "reports")
    keep_parity(tmp_path / "reports", [0], causes={"store_down": share, "late_push": 0.5})
    assert states(tmp_path)["parity"] is state


@pytest.mark.parametrize(
    ("feature", "statistic", "state"),
    [
        ("price", "psi", State.BROKEN),
        ("price", "missing", State.KEPT),
        ("user_state_missing", "share", State.KEPT),
        ("score", "psi", State.KEPT),
    ],
)
def test_a_training_is_not_asked_to_learn_gaps_or_scores(tmp_path, feature, statistic, state):
    build(tmp_path / "lake")
    write_results(tmp_path / "reports")
    file = tmp_path / "reports" / DATASET / "drift" / "log" / str(LAST) / "drift.json"
    found = json.loads(file.read_text())
    found["drifted"] = [{"feature": feature, "statistic": statistic, "reason": "moved"}]
    file.write_text(json.dumps(found))
    assert states(tmp_path)["drift"] is state


@pytest.mark.parametrize("behind", ["impressions", *(t.name for t in SCHEMA.tables[:2])])
def test_a_table_without_the_day_is_not_fresh(tmp_path, behind):
    build(tmp_path / "lake", but=behind)
    found = findings_of(SCHEMA, LAST, lake=tmp_path / "lake", reports=tmp_path / "reports")
    assert found["freshness"].state is State.BROKEN
    assert f"{behind} {ago(1)}" in found["freshness"].what


def test_examples_are_for_training_and_may_be_behind(tmp_path):
    build(tmp_path / "lake", but=EXAMPLES)
    assert states(tmp_path)["freshness"] is State.KEPT


def test_a_result_that_is_no_json_is_named(tmp_path):
    build(tmp_path / "lake")
    put_whole(tmp_path / "reports" / DATASET / "parity" / f"{LAST}.json", b"{")
    with pytest.raises(ValueError, match=rf"result .*parity/{LAST}\.json: no JSON"):
        states(tmp_path)


def register(registry, artifacts, version):
    """A version with a manifest and nothing else."""
    manifest = Manifest(
        version=version,
        dataset=DATASET,
        schema_fingerprint=SCHEMA.fingerprint(),
        day=version[:10],
        trained_through=version[:10],
        recipe="wukong-tiny",
        config={},
        parents=[],
        metrics={},
        mlflow_run="",
        content_sha256={},
    )
    (artifacts / DATASET / version).mkdir(parents=True)
    registry.register(manifest, artifacts / DATASET / version)


@pytest.fixture
def policy(tmp_path, capsys):
    """The command, on a champion that final labels show to be broken, and one before it."""
    build(tmp_path / "lake")
    write_results(tmp_path / "reports", is_decided=False)
    keep_parity(tmp_path / "reports", range(1, 7))
    registry = Registry(tmp_path / "mlflow", DATASET)
    for version in (BEFORE, VERSION):
        register(registry, tmp_path / "artifacts", version)
    registry.set_tag(VERSION, "previous_champion", BEFORE)
    registry.set_alias("champion", VERSION)

    def run(*flags):
        folders = [f"--{name}={tmp_path / name}" for name in ("lake", "reports", "artifacts")]
        named = [f"--dataset={DATASET}", "--endpoint=none", f"--tracking={tmp_path / 'mlflow'}"]
        code = main(["policy", *named, *folders, *flags])
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        return code, said, registry.alias("champion")

    return run


def test_while_the_data_are_at_fault_there_is_an_alert_and_the_champion_stays(policy):
    code, said, champion = policy(f"--date={LAST}")
    assert (code, said["action"], champion) == (0, "alert", VERSION)
    assert said["alerts"][0]["alert"] == "data-at-fault"
    assert said["report"] == f"{DATASET}/policy/index.html"


def test_a_broken_version_gives_way_once_and_its_tag_says_why(policy, tmp_path):
    keep_parity(tmp_path / "reports", [0])
    code, said, champion = policy(f"--date={LAST}", "--dry-run")
    assert (code, said["action"], champion) == (0, "roll-back", VERSION)
    code, said, champion = policy(f"--date={LAST}")
    assert (code, said["action"], said["done"]["to"], champion) == (0, "roll-back", BEFORE, BEFORE)
    assert said["alerts"][0]["alert"] == "rolled-back"
    tag = Registry(tmp_path / "mlflow", DATASET).tag(VERSION, "rolled_back")
    assert tag.startswith("by the policy: quality: version")
    # The drift is left, and the version that answers now has no broken day.
    code, said, champion = policy(f"--date={LAST}")
    assert (code, said["action"], champion) == (0, "retrain", BEFORE)
    assert said["retrain_days"] == [str(ago(9)), str(LAST)]
    # A look at a day before changes nothing.
    code, said, champion = policy(f"--date={ago(1)}")
    assert (said["note"], champion) == ("nothing was done or noted", BEFORE)


def test_on_a_cluster_a_champion_is_not_taken_back_and_an_alert_says_so(policy, tmp_path):
    keep_parity(tmp_path / "reports", [0])
    code, said, champion = policy(f"--date={LAST}", "--service=ranker")
    assert (code, said["action"], said["is_held"], champion) == (0, "alert", True, VERSION)
    assert "comes back by `canary`" in said["why"]


def test_the_oldest_day_that_waits_is_due(policy):
    for back in range(6, -1, -1):
        code, said, _ = policy(f"--date={ago(-1)}", "--due")
        assert (code, said["date"]) == (0, str(ago(back)))
    code, said, _ = policy(f"--date={ago(-1)}", "--due")
    assert (code, said["skipped"]) == (99, f"{DATASET}: no day of the week before {ago(-1)} is due")


def test_a_version_without_an_artifact_to_go_back_to_is_an_alert_that_is_noted(policy, tmp_path):
    keep_parity(tmp_path / "reports", [0])
    (tmp_path / "artifacts" / DATASET / BEFORE).rmdir()
    code, said, champion = policy(f"--date={LAST}")
    assert (code, said["action"], said["is_held"], champion) == (0, "alert", True, VERSION)
    assert "roll-back failed: artifact" in said["why"]
    assert policy(f"--date={ago(-1)}", "--due")[1]["date"] == str(ago(6))

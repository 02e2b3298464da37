"""A backfill of many days: an event for each day that was made, and one training for all."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.airflow_dags import DAGS, TaskInstance, dag_of, data_set, run_of

DAYS = [f"1998-03-{day:02d}" for day in range(1, 31)]


def concluded(summary: dict[str, object]):
    """The events of ``history`` when its job ends with a summary."""
    from airflow.sdk.execution_time.context import OutletEventAccessors
    from ranking_launchers.job import Ended

    task, events = dag_of("backfill_ranking.py").get_task("history"), OutletEventAccessors()
    context = {"ti": TaskInstance(), "outlet_events": events, "params": {}}
    found = task._conclude(
        context, Ended(exit_code=0, output=json.dumps(summary), source="stdout", error="")
    )
    assert found == summary
    ((key, accessor),) = events._dict.items()
    return key.name, accessor.partition_keys


def test_each_day_that_was_made_is_a_partition_of_the_event() -> None:
    assert concluded({"to_learn": DAYS}) == ("movielens-100k/backfilled-examples", {*DAYS})


def test_a_backfill_of_which_nothing_was_made_is_skipped_and_asks_for_no_training() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="to_learn: no day; nobody has to act"):
        concluded({"to_learn": []})


def test_other_tasks_have_one_event_as_before() -> None:
    tasks = [
        task for name in ("daily_ranking.py", "bootstrap_ranking.py") for task in dag_of(name).tasks
    ]
    assert {getattr(task, "partitions", "") for task in tasks} == {""}


def test_a_training_after_a_backfill_is_from_its_first_day_and_for_its_last() -> None:
    import retrain_ranking

    none = {"day": None, "changed_since": None}
    events = [SimpleNamespace(partition_key=day) for day in reversed(DAYS)]
    run = run_of(None, consumed_asset_events=events)
    assert retrain_ranking.days_of(run, none) == DAYS
    by_hand = {"day": "1998-04-02", "changed_since": "1998-03-09"}
    assert retrain_ranking.days_of(run_of(None), by_hand) == ["1998-03-09", "1998-04-02"]
    for one in (none, {**by_hand, "day": None}, {**by_hand, "day": "1998-03-08"}):
        with pytest.raises(ValueError, match=r"params.changed_since .* needs both, in this order"):
            retrain_ranking.days_of(run_of(None), one)


def test_features_are_online_when_they_and_the_registry_are_there() -> None:
    dag = dag_of("backfill_ranking.py")
    assert dag.get_task("materialize").upstream_task_ids == {"history", "apply"}
    assert dag.get_task("history").outlets == [data_set().asset("backfilled-examples")]


_SCHEDULED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.utils.db import initdb
initdb()
DagBundlesManager().sync_bundles_to_db()
folder = Path(sys.argv[1])
for file in ("retrain_ranking.py", "backfill_ranking.py"):
    bag = BundleDagBag(str(folder / file), bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)

from airflow.assets.manager import AssetManager
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.asset import AssetActive, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

RETRAIN, ASSET = "retrain_ranking_movielens_100k", "movielens-100k/backfilled-examples"
runner = SchedulerJobRunner(Job())

def scheduled(days):
    with create_session() as session:
        asset = session.scalar(select(AssetModel).where(AssetModel.name == ASSET))
        for day in days:
            event = {"asset": asset.to_serialized(), "partition_key": day, "session": session}
            AssetManager.register_asset_change(**event)
    with create_session() as session:
        runner._create_dagruns_for_partitioned_asset_dags(session)
    with create_session() as session:
        runs = session.scalars(
            select(DagRun).where(DagRun.dag_id == RETRAIN).order_by(DagRun.id)
        ).all()
        return [sorted(one.partition_key for one in run.consumed_asset_events) for run in runs]

with create_session() as session:
    dag = session.get(DagModel, RETRAIN)
    asset = session.scalar(select(AssetModel).where(AssetModel.name == ASSET))
    dag.is_paused = False
    if asset.active is None:
        session.add(AssetActive.for_asset(asset))
days = json.loads(sys.argv[2])
print(json.dumps([scheduled(days), scheduled([]), scheduled(days[-1:])]))
"""
"""What Airflow's scheduler does at its next look, in its own database; no run is executed."""


@pytest.mark.process
def test_thirty_days_of_a_backfill_start_one_training(tmp_path) -> None:
    """And a day that is made once more later starts another."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-W", "ignore", "-c", _SCHEDULED, str(DAGS), json.dumps(DAYS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    once, at_rest, again = json.loads(done.stdout.splitlines()[-1])
    assert once == at_rest == [DAYS]
    assert again == [DAYS, DAYS[-1:]]

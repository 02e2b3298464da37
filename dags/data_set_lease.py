"""# Data set lease: which run may write?

**What.** A register, not a schedule: each run here is one lease of the data set, `lease__41` the
41st, and its *conf* names the DAG run that took it. The newest lease counts. A run takes the next
number when the holder of the newest is over, and each of its jobs carries the number: the lake
refuses a commit under a number that is lower than one that has written.

**Normal.** One green run for each run of the data set's other DAGs that has begun to work. The one
task does nothing. Keep the DAG unpaused, or its runs stay queued; leases work all the same.

**Do.** Nothing; do not delete its newest run while others work, do not trigger it by hand. Tasks
that wait are explained in `infra/runbooks/lease-waits.md`.
"""

import ranking_assets as assets
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from ranking_dags import ranking_dag
from ranking_launchers.lease import LEASE


def data_set_lease(data_set: assets.DataSet) -> DAG:
    """The DAG of one data set."""
    with ranking_dag(
        data_set,
        LEASE,
        doc=__doc__,
        description="A register: which run may write the data set",
        is_paused_upon_creation=False,
    ) as dag:
        EmptyOperator(task_id="taken")
    return dag


dags = [data_set_lease(data_set) for data_set in assets.DATA_SETS]

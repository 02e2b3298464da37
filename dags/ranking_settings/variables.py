"""The variables that the DAGs read, by name: one set of DAG files serves a laptop and a cluster.

``ranking_assets`` reads them; ``docs/configuration.md`` shows them. An empty one counts as not set.
"""

from typing import NamedTuple


class Variable(NamedTuple):
    """What a variable may be, what it is where it is not set, and what it means."""

    values: str
    default: str
    meaning: str


VARIABLES = {
    "RANKING_VAR": Variable(
        "a folder",
        "`var` next to `dags`",
        "Folder of this machine's state: logs, databases.",
    ),
    "RANKING_ROOT": Variable(
        "a folder, or a place in a bucket", "the folder RANKING_VAR", "Where all data lie."
    ),
    "RANKING_DATASETS": Variable(
        "names, separated by `,`",
        "movielens-100k",
        "Data sets of this deployment. Each has DAGs, leases, assets and reports of its own.",
    ),
    "RANKING_SCHEMAS": Variable(
        "files and folders, separated by `:`",
        "not set",
        "Schema files besides the built-in ones; the same for all parts of a deployment.",
    ),
    "RANKING_ENDPOINT": Variable(
        "an address, or none",
        "http://127.0.0.1:8081, if one answers there",
        "REST address of the ranking endpoint, which must answer; `none`: there is no server.",
    ),
    "RANKING_SERVICE": Variable(
        "text",
        "not set",
        "InferenceService on a cluster, instead of that endpoint; `{dataset}` in it stands for the "
        "name of the data set.",
    ),
    "RANKING_NAMESPACE": Variable("text", "default", "Namespace of the InferenceService."),
    "RANKING_STORAGE_URI": Variable(
        "an address",
        "not set",
        "Where the InferenceService finds artifacts, such as in a bucket; `{version}` in it "
        "stands for the version, `{dataset}` for the name of the data set.",
    ),
    "RANKING_LOG_FOLDER": Variable(
        "a folder, or a place in a bucket",
        "not set",
        "Folder of the endpoint's log of answers; set, the daily DAG tidies it (`prune_log`).",
    ),
    "RANKING_MIN_REQUESTS": Variable(
        "a whole number", "2000", "Requests of each version at each step of a canary."
    ),
    "RANKING_MAX_LATENCY_RATIO": Variable(
        "a number above 1", "1.25", "Most p95 of a canary, as a multiple of the champion's."
    ),
    "RANKING_PYTHON": Variable(
        "a program", "Airflow's own interpreter", "Interpreter that runs the jobs."
    ),
    "RANKING_POOL": Variable(
        "text",
        "default_pool",
        "Airflow pool of the jobs, which must be there; with `{dataset}` in it, for its name, each "
        "data set has one of its own.",
    ),
    "RANKING_LAUNCHER": Variable(
        "process or kubernetes",
        "process",
        "Whether a job is a process of Airflow's worker, or a pod or a TrainJob on a cluster.",
    ),
    "RANKING_SIZES": Variable(
        "a file",
        "`infra/kubernetes/sizes.yaml`",
        "Size classes of jobs on Kubernetes: image, resources, nodes.",
    ),
    "RANKING_OBJECTIVES": Variable(
        "a file",
        "`infra/slo.yaml` next to `dags`",
        "Objectives, of which those with `deadline` are deadlines of the daily runs.",
    ),
    "RANKING_POD_START_SECONDS": Variable(
        "a whole number", "1800", "How long a pod may wait for a node and for its image."
    ),
    "RANKING_API_AWAY_SECONDS": Variable(
        "a whole number", "900", "How long a task waits for a Kubernetes API that does not answer."
    ),
    "RANKING_FIRST_DAY": Variable(
        "YYYY-MM-DD, or name=YYYY-MM-DD for each data set, separated by `,`",
        "the log's first day",
        "First day that the daily DAG works on, and so of the schedule, which catches up from it: "
        "the day after those that were bootstrapped.",
    ),
    "RANKING_LAST_DAY": Variable(
        "YYYY-MM-DD, or name=YYYY-MM-DD for each data set, separated by `,`",
        "the log's last day",
        "Last day of the schedule.",
    ),
    "RANKING_DAILY_START": Variable(
        "schedule or api",
        "schedule",
        "What starts the daily runs: Airflow's schedule at midnight UTC, or whoever calls its API "
        "with a `day`, such as the system that lands the log.",
    ),
    "RANKING_RETRY_SECONDS": Variable(
        "a whole number", "30", "Time from a task's failure to its next try; there are two more."
    ),
    "RANKING_LANDING_TIMEOUT_SECONDS": Variable(
        "a whole number", "21600", "How long a run waits for its day to land."
    ),
    "RANKING_LANDING_POLL_SECONDS": Variable(
        "a whole number", "60", "Time between two looks for a day that is to land."
    ),
    "RANKING_LEASE_TIMEOUT_SECONDS": Variable(
        "a whole number", "43200", "How long a run waits for another run of the data set."
    ),
    "RANKING_LEASE_POLL_SECONDS": Variable(
        "a whole number", "10", "Time between two looks for the end of another run."
    ),
    "RANKING_ANCHOR_DAYS": Variable(
        "a whole number", "28", "Age of the champion with which the gate compares, too."
    ),
    "RANKING_KEEP_DAYS": Variable("a whole number", "400", "Days of partitions that are kept."),
    "RANKING_KEEP_VERSIONS": Variable("a whole number", "14", "Versions that are kept."),
}

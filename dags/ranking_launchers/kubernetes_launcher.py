"""Which of the two ways on Kubernetes a job takes: by its size class, a pod or a TrainJob."""

import ranking_assets as assets
from airflow.sdk import BaseOperator, Context

from ranking_launchers.job import DeferringLauncher, JobSpec
from ranking_launchers.pods import PodLauncher
from ranking_launchers.sizes import read_sizes
from ranking_launchers.train_jobs import TrainJobLauncher


def launcher_of(spec: JobSpec, context: Context, task: BaseOperator) -> DeferringLauncher:
    """What launches a job; ValueError for a size class that is not in the table."""
    table = read_sizes(assets.SIZES)
    size = table.size(spec.size)
    kind = PodLauncher if size.num_nodes is None else TrainJobLauncher
    return kind(spec, context, task, size=size, namespace=table.namespace)

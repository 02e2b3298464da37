"""A job's task on a Kubernetes API that keeps state; no pod runs."""

import asyncio
import json
from collections.abc import Sequence

import pytest
import tenacity
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskDeferred
from support.airflow_dags import TaskInstance, data_set, run_of
from support.cluster.served_api import served, write_kubeconfig
from support.dags.job_cluster import JobCluster

SIZES = """
namespace: ranking
defaults: {image: "ranking:1", service_account: job, requests: {cpu: "1"}, limits: {memory: 1Gi}}
sizes:
  small: {}
  spark: {spark: {executors: 2, cores: 4, memory: 3g, driver_memory: 2g}}
  train: {num_nodes: 2, gpus: 1}
"""


@pytest.fixture
def cluster():
    """The API, on loopback, in a thread."""
    with served(JobCluster) as api:
        yield api


@pytest.fixture
def on_kubernetes(cluster, assets, register, tmp_path, monkeypatch):
    """Jobs are launched on that API; nothing waits long."""
    from airflow.providers.cncf.kubernetes import kubernetes_helper_functions
    from ranking_launchers import cluster as shared
    from ranking_launchers import pods, train_jobs

    write_kubeconfig(tmp_path / "kubeconfig", cluster.address, {})
    (tmp_path / "sizes.yaml").write_text(SIZES)
    connection = {"conn_type": "kubernetes"}
    connection["extra"] = {"kube_config_path": str(tmp_path / "kubeconfig")}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(assets, "LAUNCHER", "kubernetes")
    monkeypatch.setattr(assets, "SIZES", tmp_path / "sizes.yaml")
    monkeypatch.setattr(assets, "API_AWAY_SECONDS", 20)
    monkeypatch.setattr(shared, "API_POLL_SECONDS", 0.05)
    monkeypatch.setattr(kubernetes_helper_functions, "_default_wait", tenacity.wait_none())
    for module in (pods, train_jobs):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
        monkeypatch.setattr(module, "LOG_SECONDS", 0.1)
    return cluster


class Task:
    """A task, its context, and its life between the worker and the triggerer."""

    def __init__(
        self, size: str, instance: TaskInstance, *, command: str, arguments: Sequence[str]
    ) -> None:
        import ranking_jobs

        self.instance = instance
        self.operator = ranking_jobs.JobOperator(
            task_id="ingest",
            data_set=data_set(),
            package="features",
            command=command,
            arguments=arguments,
            link="Reports",
            size=size,
        )
        self.context = {
            **{"ti": instance, "run_id": instance.run_id, "dag": None},
            **{"dag_run": run_of("1998-04-21"), "params": {}},
        }
        self.deferred: TaskDeferred | None = None

    def execute(self):
        """What a worker does first; None: it has deferred."""
        return self._until_deferred(
            lambda: self.operator.execute.__wrapped__(self.operator, self.context)
        )

    def trigger(self):
        """The trigger, as a triggerer loads it."""
        from airflow.sdk.module_loading import import_string
        from airflow.serialization.serialized_objects import BaseSerialization

        kept = BaseSerialization.serialize(self.deferred.trigger.serialize())
        path, arguments = BaseSerialization.deserialize(kept)
        return import_string(path)(**arguments)

    def fire(self):
        """What the trigger fires."""
        trigger = self.trigger()

        async def first():
            return await anext(trigger.run())

        return asyncio.run(first()).payload

    def resume(self, event=None):
        """What a worker does once the trigger has fired."""
        event = event or self.fire()
        method = getattr(self.operator, self.deferred.method_name)
        return self._until_deferred(lambda: method(self.context, event))

    def _until_deferred(self, act):
        self.deferred = None
        try:
            return act()
        except TaskDeferred as deferred:
            self.deferred = deferred
            return None


@pytest.fixture
def task(on_kubernetes):
    """Makes the task of one try of a job."""

    def make(
        size: str = "small",
        *,
        command: str = "ingest",
        arguments: Sequence[str] = ("--dataset=synthetic", ""),
        **instance,
    ) -> Task:
        fixed = {"map_index": -1, "start_date": timezone.utcnow()}
        made = TaskInstance(**{**fixed, **instance})
        return Task(size, made, command=command, arguments=arguments)

    return make

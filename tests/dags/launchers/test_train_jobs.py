"""A job as a TrainJob, on a Kubernetes API that keeps state; Kubeflow Trainer is a stand-in."""

import asyncio
import json
import threading

import pytest
from airflow.sdk.exceptions import AirflowException

from features.places import place, put_whole


class Training:
    """What Trainer does with the newest TrainJob."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster

    @property
    def name(self) -> str:
        (name,) = self.cluster.live("trainjobs")
        return name

    def run(self, *lines: str) -> None:
        """One pod a node; the first has written some lines."""
        for node in range(2):
            name = f"{self.name}-node-0-{node}"
            labels = {"jobset.sigs.k8s.io/jobset-name": self.name}
            labels["batch.kubernetes.io/job-completion-index"] = str(node)
            self.cluster.post(name, labels=labels, spec={"containers": [{"name": "node"}]})
            self.cluster.run(name, *lines, container="node")

    def end(self, kind: str, message: str = "") -> None:
        """The condition of one that has ended."""
        self.cluster.condition(self.name, kind, message)

    def leave(self, **summary) -> None:
        """What the first node puts."""
        (job,) = self.cluster.live("trainjobs").values()
        variables = job["spec"]["trainer"]["env"]
        (path,) = [one["value"] for one in variables if one["name"] == "RANKING_RESULT"]
        content = {"exit_code": 1 if "error" in summary else 0, "summary": summary}
        put_whole(place(path), json.dumps(content).encode())

    def pod(self, node: int) -> str:
        return f"{self.name}-node-0-{node}"


@pytest.fixture
def training(on_kubernetes) -> Training:
    return Training(on_kubernetes)


@pytest.fixture
def job(task):
    """A task that has created a TrainJob, and deferred."""
    made = task("train")
    assert made.execute() is None
    return made


def test_a_training_is_a_trainjob_and_its_result_the_tasks(job, training, on_kubernetes) -> None:
    """On several nodes; it is deleted once it has ended."""
    (manifest,) = on_kubernetes.live("trainjobs").values()
    assert manifest["spec"]["trainer"]["numNodes"] == 2
    assert on_kubernetes.live() == {}, "no pod of ours"
    training.run()
    training.end("Complete")
    training.leave(checkpoint="1998-04-21")
    assert job.resume() == {"checkpoint": "1998-04-21"}
    assert on_kubernetes.live("trainjobs") == {}


def test_the_same_training_is_created_once(task, job, training, on_kubernetes) -> None:
    """Two schedulers: the second finds the name taken, and follows the same TrainJob."""
    other = task("train")
    assert other.execute() is None
    assert on_kubernetes.created == [training.name]
    training.end("Complete")
    training.leave(rows=1)
    assert other.resume() == {"rows": 1}


def test_a_failed_training_says_why(job, training, on_kubernetes) -> None:
    """In the words of the job, or in those of the node that failed."""
    training.run()
    on_kubernetes.end(training.pod(0), 1, container="node")
    training.end("Failed", "jobset failed due to one or more job failures")
    training.leave(error="loss: nan; finite")
    with pytest.raises(AirflowException, match="features ingest: loss: nan; finite"):
        job.resume()


def test_a_node_that_fails_alone_is_the_reason(job, training, on_kubernetes) -> None:
    """The first node then ends by torchrun, or not at all."""
    training.run()
    on_kubernetes.end(training.pod(1), 137, reason="OOMKilled", container="node")
    training.end("Failed", "jobset failed")
    with pytest.raises(AirflowException, match="ended by SIGKILL; OOMKilled"):
        job.resume()


def test_a_training_without_a_word_fails_with_its_condition(job, training) -> None:
    """Such as a TrainJob that no runtime fits."""
    training.end("Failed", "ClusterTrainingRuntime torch-distributed not found")
    with pytest.raises(AirflowException, match="ClusterTrainingRuntime torch-distributed not fou"):
        job.resume()


def test_a_training_that_lost_a_node_is_started_again(job, training, on_kubernetes) -> None:
    """As a whole, within the same try; the first one is deleted."""
    first = training.name
    training.run()
    on_kubernetes.evict(training.pod(1), container="node")
    on_kubernetes.end(training.pod(0), 1, container="node")
    training.end("Failed", "jobset failed")
    assert job.resume() is None
    assert on_kubernetes.created == [first, first.removesuffix("0") + "1"]
    training.end("Complete")
    training.leave(rows=2)
    assert job.resume() == {"rows": 2}


def test_its_log_streams_and_a_lost_api_server_is_waited_for(
    job, training, on_kubernetes, capsys
) -> None:
    """The first node's lines are in the task's log."""
    training.run("step 100 loss 0.31")
    on_kubernetes.num_unanswered = 8
    threading.Timer(1.5, training.end, ("Complete",)).start()
    training.leave(rows=1)
    event = job.fire()
    log = capsys.readouterr().out
    assert log.count("[node] step 100 loss 0.31") == 1
    assert "The Kubernetes API does not answer" in log
    assert job.resume(event) == {"rows": 1}


def test_a_training_that_goes_on_is_followed_again(job, training, on_kubernetes) -> None:
    """The triggerer gave up on an API server that was away for long, and is back."""
    training.run()
    assert job.resume({"status": "ended", "restart": 0, "message": ""}) is None
    assert on_kubernetes.created == [training.name]
    training.end("Complete")
    training.leave(rows=1)
    assert job.resume() == {"rows": 1}


def test_a_training_that_runs_too_long_is_deleted(job, training, on_kubernetes) -> None:
    """The task's time-out is the triggerer's to keep."""
    trigger = job.trigger()
    trigger.until = 0.0
    event = asyncio.run(anext(trigger.run())).payload
    with pytest.raises(AirflowException, match="ran into its time-out"):
        job.resume(event)
    assert on_kubernetes.live("trainjobs") == {}


def test_clearing_a_task_deletes_its_trainjob(job, on_kubernetes) -> None:
    """Airflow tells the trigger of a deferred task, and the operator of one that is starting."""
    asyncio.run(job.trigger().on_kill())
    assert on_kubernetes.live("trainjobs") == {}
    job.execute()
    job.operator.on_kill()
    assert on_kubernetes.live("trainjobs") == {}

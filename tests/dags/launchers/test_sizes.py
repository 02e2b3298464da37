"""The table of size classes, and what a job becomes on Kubernetes by it."""

import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import ranking_jobs
import yaml
from kubeflow_trainer_api.models import (
    TrainerV1alpha1ClusterTrainingRuntime,
    TrainerV1alpha1TrainJob,
)
from ranking_launchers.job import JobSpec
from ranking_launchers.sizes import read_sizes
from support.airflow_dags import DAG_FILES, DAGS, TaskInstance, dag_of
from support.cluster.manifests import without_empty

TABLE = DAGS.parent / "infra" / "kubernetes" / "sizes.yaml"
SPEC = JobSpec(
    package="features",
    command="build",
    arguments=("--dataset=synthetic",),
    size="spark",
    environment={"RANKING_RUN": "daily_ranking/r", "RANKING_LEASE": "7"},
)
VALID = "{image: i, service_account: s, requests: {cpu: '1'}, limits: {memory: 1Gi}}"


def test_every_task_has_a_size_of_the_table() -> None:
    """A name that nobody declared would be found when the task starts, at night."""
    table = read_sizes(TABLE)
    used = {task.size for name in DAG_FILES for task in dag_of(name).tasks if hasattr(task, "size")}
    assert used | {*ranking_jobs.SIZES.values()} <= {*table.sizes}
    assert dag_of("daily_ranking.py").get_task("train").size == "train"
    assert table.size("train").num_nodes is not None
    assert table.size("spark").spark is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("namespace: [", "not YAML"),
        ("", "the file: None; "),
        ("namespace: Ranking\nsizes: {}", "namespace: 'Ranking'; String should match"),
        (f"namespace: r\nsizes: {{a: {VALID[:-1]}, gpus: -1}}}}", "sizes.a.gpus: -1; .*equal to 0"),
        (f"namespace: r\nsizes: {{a: {VALID[:-1]}, gpu: 1}}}}", "sizes.a.gpu: 1; Extra inputs"),
        ("namespace: r\nsizes: {a: {image: i}}", "sizes.a.service_account: .*; Field required"),
        (
            f"namespace: r\ndefaults: {VALID}\nsizes: {{a: {{limits: {{cpu: two}}}}}}",
            "sizes.a.limits.cpu: 'two'; String should match",
        ),
        (
            f"namespace: r\ndefaults: {VALID}\nsizes: {{a: {{secrets: {{K: plain}}}}}}",
            "sizes.a.secrets.K: 'plain'; String should match",
        ),
        (
            f"namespace: r\ndefaults: {VALID}\nsizes: {{a: {{num_nodes: 0}}}}",
            "sizes.a.num_nodes: 0; .*greater than or equal to 1",
        ),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path: Path, text: str, message: str) -> None:
    """Field, value and limit."""
    file = tmp_path / "sizes.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"(?s){re.escape(str(file))}: .*{message}"):
        read_sizes(file)


@pytest.fixture
def launch(assets):
    from ranking_launchers.cluster import launch_of

    return launch_of(TaskInstance(map_index=-1, task_id="validate_features_of_impressions"), 0)


@pytest.mark.parametrize("size", ["small", "spark", "model", "rollout"])
def test_a_pod_is_what_kubernetes_takes(launch, size: str) -> None:
    """By the schema of its own API; the names fit where labels and host names are made of them."""
    from ranking_launchers.pods import pod_manifest

    manifest = pod_manifest(SPEC, read_sizes(TABLE).size(size), launch, namespace="ranking")
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    assert re.fullmatch(r"validate-features-of-imp-[0-9a-f]{10}-0", launch.name)
    component = read_sizes(TABLE).size(size).component
    _is_contained(manifest["metadata"]["labels"], manifest["spec"], component=component)


def _is_contained(labels, pod, *, component: str) -> None:
    """Let through by the namespace's network policies and by its restricted standard."""
    assert labels["app.kubernetes.io/component"] == component
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "scratch", "emptyDir": {}}]


def test_a_trainjob_is_what_trainer_takes(launch) -> None:
    """By the types of its own API: unknown fields are dropped there, so both must be equal."""
    from ranking_launchers.train_jobs import train_job

    manifest = train_job(SPEC, read_sizes(TABLE).size("train"), launch, namespace="ranking")
    parsed = TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()
    assert without_empty(parsed) == without_empty(manifest)
    assert manifest["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
    (patch,) = manifest["spec"]["runtimePatches"]
    (nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = nodes["template"]["spec"]["template"]
    _is_contained(template["metadata"]["labels"], template["spec"], component="train")


def test_one_failed_pod_ends_a_trainjob() -> None:
    """By the types of Trainer's own API; the launcher starts all nodes again."""
    runtime = yaml.safe_load((TABLE.parent / "base" / "training.yaml").read_text())
    parsed = TrainerV1alpha1ClusterTrainingRuntime.from_dict(runtime).to_dict()
    assert without_empty(parsed) == without_empty(runtime)
    (nodes,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    job = nodes["template"]["spec"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert read_sizes(TABLE).size("train").runtime == runtime["metadata"]["name"]


def test_a_spark_jobs_pod_is_the_driver(launch) -> None:
    """In client mode: executors of the same image find it by its address, and end with it."""
    from ranking_launchers.cluster import environment

    size = read_sizes(TABLE).size("spark")
    variables = {one["name"]: one for one in environment(SPEC, size, launch, namespace="ranking")}
    assert variables["SPARK_MASTER"]["value"] == "k8s://https://kubernetes.default.svc:443"
    assert variables["SPARK_LOCAL_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    given = shlex.split(variables["PYSPARK_SUBMIT_ARGS"]["value"])
    settings = dict(one.split("=", 1) for one in given if "=" in one)
    assert settings["spark.kubernetes.driver.pod.name"] == launch.name
    assert settings["spark.kubernetes.container.image"] == size.image
    assert settings["spark.driver.host"] == "$(SPARK_LOCAL_IP)"
    assert settings["spark.executor.instances"] == "2"
    secret = settings["spark.kubernetes.executor.secretKeyRef.AWS_ACCESS_KEY_ID"]
    assert secret == "ranking-store:access-key"
    assert list(variables).index("SPARK_LOCAL_IP") < list(variables).index("PYSPARK_SUBMIT_ARGS")

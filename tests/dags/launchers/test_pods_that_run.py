"""Jobs in pods that run: processes of other users, which see no folder of this machine's state.

The Kubernetes API and the node are stand-ins; launcher, operator, trigger, job and object store are
real.
"""

import time

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from support.cluster import sandbox
from support.cluster.kubelet import Kubelet

pytestmark = [pytest.mark.process, pytest.mark.object_store]
SIZES = """
namespace: ranking
defaults:
  image: "ranking:1"
  service_account: job
  requests: {cpu: "1"}
  limits: {memory: 1Gi}
  secrets:
    AWS_ACCESS_KEY_ID: ranking-store/access-key
    AWS_SECRET_ACCESS_KEY: ranking-store/secret-key
sizes:
  small: {}
"""


@pytest.fixture
def root(object_store, tmp_path):
    from features.places import place

    return place(f"{object_store.uri}/{tmp_path.name}")


@pytest.fixture
def node(on_kubernetes, assets, object_store, root, tmp_path, monkeypatch):
    """A node whose pods know the object store by its address and by secrets."""
    if not sandbox.is_possible():
        pytest.skip("no name spaces: it takes root on Linux")
    (tmp_path / "sizes.yaml").write_text(SIZES)
    monkeypatch.setattr(assets, "ROOT", root)
    monkeypatch.setitem(assets.FOLDERS, "lake", root / "lake")
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ALLOW_HTTP"):
        monkeypatch.setenv(name, object_store.environment[name])
    secrets = {
        "ranking-store/access-key": object_store.environment["AWS_ACCESS_KEY_ID"],
        "ranking-store/secret-key": object_store.environment["AWS_SECRET_ACCESS_KEY"],
    }
    hidden = [tmp_path, assets.VAR] if assets.VAR.exists() else [tmp_path]
    kubelet = Kubelet(on_kubernetes, folder=tmp_path, hidden=hidden, secrets=secrets)
    with kubelet.running():
        yield kubelet


def run(job):
    """A task from its start to its end, as worker and triggerer take it on."""
    result = job.execute()
    while job.deferred is not None:
        result = job.resume()
    return result


def test_a_pod_works_on_the_object_store_and_leaves_its_result(task, node, root) -> None:
    """Nothing of it is on the disk of the machine that started it."""
    job = task(command="tables", arguments=["--dataset=synthetic", f"--lake={root / 'lake'}"])
    summary = run(job)
    assert summary["job"] == "tables"
    assert summary["tables"] == {"synthetic": {}}
    assert [run.process.returncode for run in node.runs.values()] == [0]


def test_a_pod_sees_no_folder_of_the_machine_that_started_it(task, node, tmp_path) -> None:
    """A job that assumes one disk fails here."""
    (tmp_path / "lake" / "synthetic" / "impressions").mkdir(parents=True)
    with pytest.raises(AirflowException, match="Permission denied"):
        run(task(command="tables", arguments=[f"--lake={tmp_path / 'lake'}"]))


def test_a_pod_that_is_called_wrongly_is_not_tried_again(task, node) -> None:
    """The end of its log says why."""
    with pytest.raises(AirflowFailException, match="unrecognized arguments: --nonsense"):
        run(task(command="tables", arguments=["--nonsense=1"]))


def test_a_pod_that_is_killed_is_named_with_its_signal(task, node, root) -> None:
    """Another try may help."""
    job = task(command="tables", arguments=[f"--lake={root / 'lake'}"])
    job.execute()
    while not node.runs:
        time.sleep(0.02)
    (one,) = node.runs.values()
    one.process.kill()
    with pytest.raises(AirflowException, match="ended by SIGKILL"):
        job.resume()

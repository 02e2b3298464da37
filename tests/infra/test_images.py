"""The images: locks cut out of the whole one, and Containerfiles that keep to what pods ask for."""

import re
from pathlib import Path

import pytest
import yaml

from infra.images.build import IMAGES, builder_options
from infra.images.locks import LOCKS

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "infra" / "requirements"
FILES = sorted((ROOT / "infra" / "images").glob("*.Containerfile"))
FORBIDDEN = {
    "airflow": {"torch", "pyspark", "feast", "great-expectations", "kserve", "mlflow-skinny"},
    "spark": {"torch", "apache-airflow", "kserve", "mlflow-skinny"},
    "train-cpu": {"apache-airflow", "pyspark", "feast", "great-expectations", "kserve", "triton"},
    "train-cuda": {"apache-airflow", "pyspark", "feast", "great-expectations", "kserve"},
    "serve": {"apache-airflow", "pyspark", "feast", "great-expectations", "triton"},
    "mlflow": {"apache-airflow", "torch", "pyspark", "feast"},
}
"""What an image has no use for; by the import contracts, or because it is large."""


def pins(name: str) -> dict[str, set[str]]:
    """Versions by package."""
    found: dict[str, set[str]] = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        package, version = re.match(r"([a-z0-9.-]+)==(\S+)", line).groups()
        found.setdefault(package, set()).add(version)
    return found


LOCKED = {lock.name: pins(f"images/{lock.name}.txt") for lock in LOCKS}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_an_image_has_the_versions_of_the_whole_lock(lock):
    whole = pins(lock.whole or "requirements.txt")
    locked = LOCKED[lock.name]
    of_its_own = locked.keys() - whole.keys()
    if lock.whole:
        assert {n: v for n, v in locked.items() if not v <= whole.get(n, v)} == {}
    if lock.name not in {"airflow", "mlflow"}:
        assert of_its_own == set(), "run make lock"


def test_the_provider_of_aws_is_all_that_airflows_image_adds():
    added = LOCKED["airflow"].keys() - pins("requirements.txt").keys()
    assert "apache-airflow-providers-amazon" in added
    assert not added & set(LOCKED["serve"] | LOCKED["train-cpu"])


def test_mlflows_server_is_of_the_version_of_its_clients():
    assert LOCKED["mlflow"]["mlflow"] == pins("requirements.txt")["mlflow-skinny"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_an_image_has_one_version_and_a_hash(lock):
    lines = (REQUIREMENTS / "images" / f"{lock.name}.txt").read_text().splitlines()
    assert all(re.fullmatch(r"\S+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    assert all(len(versions) == 1 for versions in LOCKED[lock.name].values())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_an_image_has_what_its_role_names_and_nothing_that_it_must_not_import(lock):
    for source in lock.sources:
        for line in (REQUIREMENTS / source).read_text().splitlines():
            if line and not line.startswith("#"):
                assert re.match(r"[a-z0-9-]+", line)[0] in LOCKED[lock.name], "run make lock"
    assert not LOCKED[lock.name].keys() & FORBIDDEN[lock.name]


def test_an_image_for_a_cpu_has_pytorchs_own_build_for_one():
    (cpu,) = re.findall("^torch.*", (REQUIREMENTS / "images/torch-cpu.txt").read_text(), re.M)
    for name in ("serve", "train-cpu"):
        assert cpu in (REQUIREMENTS / "images" / f"{name}.txt").read_text().splitlines()
    assert {cpu.split()[0].removeprefix("torch==")} == pins("requirements.txt")["torch"]


def test_each_image_has_a_containerfile_and_a_trial():
    roles = {image.role for image in IMAGES.values()}
    assert {path.name.removesuffix(".Containerfile") for path in FILES} == roles
    trials = (ROOT / "infra" / "images" / "trials").glob("try_*.py")
    assert {path.stem.removeprefix("try_") for path in trials} == roles
    assert {image.lock for image in IMAGES.values()} == set(LOCKED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_containerfile_ends_without_root_and_names_no_registry_host(path):
    text = path.read_text()
    assert re.findall(r"^USER (.*)$", text, re.M) == ["1000:1000"]
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}", "${BASE}"]
    assert not re.search(r"https?://|--(extra-)?index-url", text)
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*)$", text, re.M)
    for source in [name for line in copied for name in line.split()[:-1] if "$" not in name]:
        assert list(ROOT.glob(source)), source


@pytest.mark.process
def test_the_builders_settings_of_pip_are_shown_and_its_folders(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    made = tmp_path / "made"
    made.mkdir()
    options = list(builder_options(made))
    assert f"--volume={wheels}:{wheels}:ro" in options
    assert f"--secret=id=pip,src={made / 'pip.conf'}" in options
    settings = (made / "pip.conf").read_text()
    assert f"find-links = {wheels}" in settings
    assert "index-url = https://mirror.example/simple" in settings


def test_sparks_executors_are_contained_as_all_pods_are():
    pod = yaml.safe_load((ROOT / "infra" / "images" / "spark-executor.yaml").read_text())["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }

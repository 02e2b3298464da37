"""Rules that the repository keeps about itself."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import features
from features.datasets.catalog import data_set_of, names, schema_of
from features.datasets.feature_reference import reference

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_feature_reference_is_fresh():
    declared = (data_set_of(name).schema for name in names())
    assert (ROOT / "docs" / "features.md").read_text() == reference(declared), "run make docs"


def test_the_endpoints_page_names_every_data_set_and_its_ids():
    page = (ROOT / "docs" / "endpoint.md").read_text()
    for schema in map(schema_of, names()):
        (row,) = re.findall(rf"^\| `{schema.name}` \|.*$", page, re.M)
        ids = [column.name for _, column in schema.entities()]
        ids += [schema.context[n].name for n in (0, -1) if schema.context]
        assert all(f"`{name}`" in row for name in ids), row


def test_the_packages_are_ours():
    assert Path(features.__file__).is_relative_to(ROOT)


def test_every_command_in_the_documents_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.M))
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("infra/*/*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
        assert named <= targets, page


def test_links_between_documents_resolve():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} -> {link}"


def leaves(tree: object) -> Iterator[str]:
    """The pages of a navigation, whose sections nest as lists and as tables of one entry."""
    if isinstance(tree, str):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(branch)


def test_every_page_and_every_runbook_is_in_the_navigation_of_the_site():
    listed = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("infra/runbooks/*.md")]
    pages.append(ROOT / "infra" / "decisions" / "README.md")
    assert sorted(str(path.relative_to(ROOT)) for path in pages) == sorted(listed)


def test_the_index_of_decisions_lists_every_record_by_its_title():
    folder = ROOT / "infra" / "decisions"
    listed = re.findall(r"^- \[(.+)\]\((\d{4}-.+\.md)\)", (folder / "README.md").read_text(), re.M)
    records = {
        path.name: path.read_text().partition("\n")[0].removeprefix("# ")
        for path in folder.glob("[0-9]*.md")
    }
    assert {name: title for title, name in listed} == records
    assert len(listed) == len(records)


def test_the_version_is_the_newest_released_one_of_the_changelog():
    released = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert released[0] == "Unreleased"
    assert re.fullmatch(re.escape(version) + r" - \d{4}-\d\d-\d\d", released[1])


def test_a_commit_runs_what_make_check_runs():
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    of_make = [line.strip(" \t@") for line in check.splitlines()[1:]]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [
        command.replace("$(PYTHON)", ".venv/bin/python") for command in of_make
    ]


def test_the_architecture_page_shows_the_layers_of_the_import_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    expected = {
        container: [set(layer.split(" | ")) for layer in contract["layers"]]
        for contract in contracts["contracts"]
        for container in contract.get("containers", ())
    }
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = {}
    for section in page.split("### Layers of ")[1:]:
        rows = re.findall(r"^\| (`.+?) \|", section.partition("\n#")[0], re.M)
        shown[section.split("`")[1]] = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    assert shown == expected


def test_no_data_notebook_or_large_file_is_tracked():
    for path in tracked():
        assert path.suffix not in {".ipynb", ".whl", ".parquet", ".db"}, path
        assert path.stat().st_size <= 300_000, path


FOLDERS_OF_PLACES = {"features", "training", "serving"}
ON_THIS_MACHINE = {
    "features/places.py": "tells a disk from an object store",
    "features/environment.py": "variables may name folders of this machine",
    "features/options.py": "flags may name them too",
    "features/quarantine/commands.py": "a mapping is a file of who corrects rows",
    "features/validation/quarantine/mapping.py": "the same file",
    "features/requests.py": "the reference is a page of the repository",
    "features/datasets/landed_content.py": "the code of a module that reads landed files",
    "features/datasets/catalog.py": "schema files are configuration, next to the code",
    "features/datasets/feature_reference.py": "a template of the package",
    "features/datasets/schema_files/build.py": "schema files",
    "features/draft/init.py": "schema files",
    "features/draft/land.py": "days that DuckDB writes, before they are put whole",
    "features/datasets/schema_files/discovery.py": "schema files",
    "features/datasets/schema_files/marked_yaml.py": "schema files",
    "features/datasets/schema_files/python_file.py": "schema files",
    "features/datasets/python_yaml.py": "schema files",
    "features/online_store/feast_store.py": "Feast's file of settings, in the package",
    "features/pages/site.py": "templates of the package",
    "features/spark/session.py": "an archive of classes of this environment",
    "features/validation/gx_project.py": "Great Expectations writes to a disk alone",
    "serving/cli/requests.py": "MLflow's database and native code",
    "serving/inference/loader.py": "MLflow's database and native code",
    "serving/processes/options.py": "MLflow's database and native code",
    "serving/processes/start.py": "a temporary folder for metrics",
    "training/config/own_recipes.py": "recipes of one's own",
    "training/artifact/aoti_cache.py": "native code of this machine",
    "training/artifact/aoti_compile.py": "native code of this machine",
    "training/artifact/aoti_runtime.py": "native code of this machine",
    "training/artifact/artifact.py": "a copy to load from, of an artifact that lies elsewhere",
    "training/artifact/golden.py": "the same copy",
    "training/artifact/image.py": "native code of this machine",
    "training/cli/rank_worker.py": "what the launcher and its ranks tell one another",
    "training/cli/torchrun.py": "what the launcher and its ranks tell one another",
    "training/distributed/failures.py": "what the launcher and its ranks tell one another",
    "training/distributed/process_group.py": "what the launcher and its ranks tell one another",
    "training/evaluation/family_page.py": "a template of the package, and a page's name",
    "serving/cli/policy.py": "the policy, which an image has too",
    "serving/policy/table.py": "the policy, which an image has too",
    "training/evaluation/reports.py": "a page's name, below the reports",
    "training/experiments/journal.py": "the code whose runs it keeps",
    "training/experiments/scoring_speed.py": "native code that is timed",
    "features/spark/topic.py": "the folder of Spark's jars",
    "training/registry/champions.py": "MLflow's database",
    "training/registry/mlflow_registry.py": "MLflow's database",
    "training/requests.py": "MLflow's database, native code, a log of ids",
    "training/resources.py": "what the kernel says of this machine",
    "training/trainer/loop.py": "a log of ids, for drills",
    "training/trainer/run_record.py": "a log of ids, for drills",
    "training/trainer/trainer.py": "a log of ids, and where MLflow's run is remembered",
}
"""Modules that work with files of this machine, and with which."""


def imported(path: Path) -> set[str]:
    """Modules that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_data_lie_at_places_and_only_what_is_of_this_machine_has_paths():
    modules = [path for path in tracked() if path.suffix == ".py"]
    with_paths = {
        str(path.relative_to(ROOT))
        for path in modules
        if path.relative_to(ROOT).parts[0] in FOLDERS_OF_PLACES and "pathlib" in imported(path)
    }
    assert with_paths == set(ON_THIS_MACHINE)


def test_a_module_is_named_after_its_subject():
    for path in tracked():
        if path.suffix == ".py" and "tests" not in path.parts:
            assert path.stem not in {"utils", "helpers", "common", "misc", "base"}, path


@pytest.mark.process
@pytest.mark.parametrize("package", ["features", "training", "serving"])
def test_each_package_has_one_command_line_that_explains_itself(package):
    import sys

    done = subprocess.run(
        [sys.executable, "-m", package, "--help"], capture_output=True, text=True, check=True
    )
    assert "COMMAND" in done.stdout
    assert done.stderr == ""

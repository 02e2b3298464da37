"""The reference of variables is fresh and names every variable in the code."""

import re
import subprocess

from infra.local import configuration

PREFIXES = {"RANKING_", "RANKING_MAX_", "RANKING_ITEMS_"}
"""Beginnings of names in sentences, and no variables."""


def documented() -> set[str]:
    return set(re.findall(r"^\| `(RANKING_\w+)` \|", configuration.PAGE.read_text(), re.M))


def test_the_reference_is_fresh():
    assert configuration.PAGE.read_text() == configuration.reference(), "run make docs"


def sources() -> dict[str, str]:
    """The files of the product by name."""
    folders = ["features", "training", "serving", "dags", "infra"]
    listed = subprocess.run(
        ["git", "ls-files", *folders],
        cwd=configuration.REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return {name: (configuration.REPOSITORY / name).read_text() for name in listed}


def test_every_variable_in_the_code_is_on_the_page():
    named = {name for text in sources().values() for name in re.findall(r"RANKING_[A-Z_]+", text)}
    assert named - PREFIXES - documented() == set()


def test_every_variable_of_a_list_is_read_elsewhere():
    lists = ("features/environment.py", "dags/ranking_settings/variables.py")
    files = sources()
    listed = {name for one in lists for name in re.findall(r"RANKING_[A-Z_]+", files[one])}
    code = "".join(text for name, text in files.items() if name not in lists)
    assert {name for name in listed if not re.search(rf"\b{name}\b", code)} == set()
    assert len(listed) > 20

"""Hosts of one training find one another by the environment, and one that is lost may come back."""

from pathlib import Path

import pytest
from support.training.commands import run_script

from infra.drills.namespaces import Namespaces

SHORT_DRILL = Path(__file__).parents[2] / "support" / "training" / "short_hosts.py"


@pytest.mark.distributed
@pytest.mark.process
def test_a_host_that_is_killed_comes_back_and_the_bits_are_those_of_one_host(built, tmp_path):
    """The drill itself, short: two network namespaces, and SIGKILL for all that runs in one."""
    try:
        with Namespaces().joined():
            pass
    except PermissionError as error:
        pytest.skip(str(error))
    (outcome,) = run_script(SHORT_DRILL, built.lake, tmp_path)
    assert outcome["errors"] == []
    assert outcome["is_equal"] is True

"""What the tests of malformed requests share."""

import pytest


@pytest.fixture(scope="module")
def log_before(server):
    """What the server's log had when this file began: other files have it fail on purpose."""
    return len(server.log.read_text())

"""Studies with fewer draws than usual: each draw is a fit."""

import pytest

from training.experiments.scaling import curve


@pytest.fixture(scope="module", autouse=True)
def _fewer_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "DRAWS", 60)
        yield

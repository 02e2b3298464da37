"""In these tests the model's functions hold tensors to the shapes that their signatures declare."""

from collections.abc import Iterator
from types import FunctionType

import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from training.model import baselines, layers, ranker, wukong, wukong_fused

CHECKED = (baselines, layers, ranker, wukong, wukong_fused)
TRAINS = "test_baselines.py"
"""Checked, its thousands of steps take ten times as long; test_shapes.py calls every ranker."""


@pytest.fixture(scope="module", autouse=True)
def checked_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check in place, and take it back.

    jaxtyping's import hook would change the modules for the rest of the run: what is compiled,
    exported and split over ranks in other tests would not be what a training compiles.
    """
    if request.path.name == TRAINS:
        yield
        return
    names = {module.__name__ for module in CHECKED}
    classes = [
        value
        for module in CHECKED
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner in (*CHECKED, *classes):
            for name, value in list(vars(owner).items()):
                function = getattr(value, "__func__", value)  # of a static method
                if isinstance(function, FunctionType) and function.__module__ in names:
                    patch.setattr(owner, name, jaxtyped(value, typechecker=beartype))
        yield

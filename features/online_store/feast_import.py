"""Makes the import of Feast four times as fast; import this module before anything of Feast.

At every start Feast has typeguard rewrite and compile its own classes, which checks its code and
not ours (3 s of a processor), and imports torch wherever that is installed, for tensors in the
answers of its own client (2 s). Neither is of use here. Feast itself is as it was.
"""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import typeguard


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Classes that are defined within are not instrumented, as under ``python -O``."""
    decorator = typeguard.typechecked
    typeguard.typechecked = _as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = decorator


def _as_it_is(target: Any = None, **_: Any) -> Any:
    return _as_it_is if target is None else target


def _torch_when_asked() -> types.ModuleType:
    """What ``feast.torch_wrapper`` is, except that it imports torch at the first use."""
    module = types.ModuleType("feast.torch_wrapper")
    vars(module)["get_torch"] = lambda: importlib.import_module("torch")
    return module


if "feast" not in sys.modules:
    sys.modules["feast.torch_wrapper"] = _torch_when_asked()
    with _unchecked():
        importlib.import_module("feast")

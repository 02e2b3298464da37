"""Makes the import of Feast four times as fast; import this module before anything of Feast.

At every start Feast has typeguard rewrite and compile its own classes, which checks its code and
not ours (3 s of a processor), and imports torch wherever that is installed, for tensors in the
answers of its own client (2 s). Neither is of use here. It also has Prometheus' client keep its
values in files that processes share, here and in every process started from here: a metric that is
made twice would go on from the first one's value. Feast itself is as it was.
"""

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator

import prometheus_client  # noqa: F401 - before Feast, which decides for it where values are kept
import typeguard


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Classes that are defined within are not instrumented, as under ``python -O``."""
    decorator = typeguard.typechecked
    vars(typeguard)["typechecked"] = _as_it_is
    try:
        yield
    finally:
        vars(typeguard)["typechecked"] = decorator


def _as_it_is(target: object = None, **_: object) -> object:
    return _as_it_is if target is None else target


def _torch_when_asked() -> types.ModuleType:
    """What ``feast.torch_wrapper`` is, except that it imports torch at the first use."""
    module = types.ModuleType("feast.torch_wrapper")
    vars(module)["get_torch"] = lambda: importlib.import_module("torch")
    return module


_SHARED_FILES = {"PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR"}

if "feast" not in sys.modules:
    sys.modules["feast.torch_wrapper"] = _torch_when_asked()
    _set_by_feast = _SHARED_FILES - os.environ.keys()
    with _unchecked():
        importlib.import_module("feast")
    for _name in _set_by_feast:
        os.environ.pop(_name, None)

"""Feast, imported without what costs seconds at each start."""

import subprocess
import sys

import pytest

PROBE = """
import sys, typeguard
decorator = typeguard.typechecked
import features.online_store.feast_store
from feast import FeatureView
from feast.torch_wrapper import get_torch
print("torch" in sys.modules)
print("check_argument_types_internal" in FeatureView.__init__.__code__.co_names)
print(typeguard.typechecked is decorator)
print(get_torch().__name__)
import os, prometheus_client.values
print(prometheus_client.values.ValueClass.__name__)
print(any("PROMETHEUS" in name for name in os.environ))
"""


@pytest.mark.process
def test_feast_brings_no_torch_and_its_classes_are_not_compiled_anew() -> None:
    """Typeguard works as ever for others, and Feast's client finds torch when it asks."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "torch", "MutexValue", "False"]

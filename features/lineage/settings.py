"""Where events of lineage go, by OpenLineage's own variables. Imports no OpenLineage."""

import os
from collections.abc import Mapping

from features.places import Place, root

FOLDER = "lineage"
"""Below the root of all data."""
AIRFLOW_EVENTS = "airflow"
"""Folder below that one: a file for each event of a task or a run of a DAG."""
NAMESPACE = "OPENLINEAGE_NAMESPACE"
DEFAULT_NAMESPACE = "ranking"
"""Of jobs."""
_RECEIVER = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
_TRANSPORT = "OPENLINEAGE__TRANSPORT"


def events_folder() -> Place:
    """The folder of all events: in it a folder a day for those of jobs, and Airflow's."""
    return root() / FOLDER


def is_disabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether nobody wants events."""
    return environment.get("OPENLINEAGE_DISABLED", "").strip().lower() in {"true", "1", "t"}


def has_receiver(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether events are sent somewhere, too."""
    by_parts = any(name.startswith(_TRANSPORT) and text for name, text in environment.items())
    return by_parts or any(environment.get(name) for name in _RECEIVER)

"""Which run started a job, as OpenLineage has it: the run of a task, and that of its DAG.

Airflow's provider gives both a run id; a job that is told of it names it as its parent.
"""

import logging

from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)


def variables(ti: RuntimeTaskInstanceProtocol) -> dict[str, str]:
    """The variables by which a task's job knows its parents; none where nobody wants events."""
    try:
        # With what it imports the provider takes longer than all DAG files; a task has it already.
        from airflow.providers.openlineage import conf

        if conf.is_disabled():
            return {}
        from airflow.providers.openlineage.plugins import macros

        return {
            "OPENLINEAGE_PARENT_ID": macros.lineage_parent_id(ti),
            "OPENLINEAGE_ROOT_PARENT_ID": macros.lineage_root_parent_id(ti),
        }
    except Exception:  # whatever the provider raises, the job is to run
        log.warning("lineage: the job is not told of its parent", exc_info=True)
        return {}

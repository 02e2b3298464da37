"""In Airflow's image: every DAG file is parsed, and the plugin of the reports is found."""

import os
import sys

os.environ["AIRFLOW_HOME"] = "/tmp/airflow"

from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
from airflow.version import version

found = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
plugins, errors = plugins_manager._get_plugins()
print(version, sorted(found.dags), sorted(str(plugin.name) for plugin in plugins))
sys.exit(bool(found.import_errors or errors or len(found.dags) != 4))

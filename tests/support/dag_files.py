"""The DAG files, and the DAG in each."""

from pathlib import Path

DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_FILES = ("daily_ranking.py", "scaling_study.py", "upscale_dense.py")


def dag_of(name: str):
    """The DAG that a file makes."""
    module = __import__(name.removesuffix(".py"))
    return module.dag

"""Great Expectations' project of a data set: where it lies, and the library as threads may use it.

Great Expectations is imported here and in ``features.validation.expectations`` only.
"""

import functools
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.core import config_provider
from great_expectations.core.yaml_handler import YAMLHandler
from great_expectations.execution_engine import SparkDFExecutionEngine

from features.places import Place, get_folder, is_local, local_root, uri


def project_folder(published: Place, dataset: str) -> Path:
    """The folder of a data set's project: Great Expectations writes to a disk alone.

    Of a project in an object store this machine has a copy, taken before its first check.
    """
    if is_local(published):
        return Path(uri(published))
    folder = local_root() / "expectations" / dataset
    if not folder.exists():
        get_folder(published, folder)
    return folder


@functools.cache
def project(root: Path) -> Any:
    """The project in a folder, opened once."""
    _adapt_library()
    root.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=str(root))
    context.variables.progress_bars = {"globally": False}
    context.variables.analytics_enabled = False
    return context


class _SharedYaml(YAMLHandler):
    """A parser of settings that threads may share, as Great Expectations does.

    Without the lock, two checks at once read each other's documents ("found another document").
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def load(self, stream: Any) -> Any:
        """Load in one thread at a time."""
        with self._lock:
            return super().load(stream)


def _without_empty_queries(resolve: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    """``resolve_metrics`` of the Spark engine, without its queries for no values.

    Great Expectations asks Spark for the broken values of each expectation, also where it is to
    keep none of them: on a day without any, half of its queries.
    """

    def resolve_metrics(
        engine: Any, metrics_to_resolve: Collection[Any], *arguments: Any, **options: Any
    ) -> dict[Any, Any]:
        skipped = {metric.id for metric in metrics_to_resolve if _asks_for_no_values(metric)}
        wanted = {metric for metric in metrics_to_resolve if metric.id not in skipped}
        found = resolve(engine, wanted, *arguments, **options) if wanted else {}
        return {**found, **{metric: [] for metric in skipped}}

    return resolve_metrics


def _asks_for_no_values(metric: Any) -> bool:
    limits = metric.metric_value_kwargs.get("result_format")
    is_none = isinstance(limits, dict) and limits.get("partial_unexpected_count") == 0
    return is_none and str(metric.metric_name).endswith(".unexpected_values")


@functools.cache
def _adapt_library() -> None:
    """Patch Great Expectations, once for the process."""
    config_provider.yaml = _SharedYaml()
    engine: Any = SparkDFExecutionEngine
    engine.resolve_metrics = _without_empty_queries(engine.resolve_metrics)

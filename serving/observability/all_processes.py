"""The metrics of all processes of an endpoint as one server's.

Each process writes its counters and histograms to files in ``PROMETHEUS_MULTIPROC_DIR``, which it
must have when it starts. Those of processes that have ended stay: a counter never goes back.
"""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.observability import freshness, metrics

_OF_EACH = (
    metrics.VERSION,
    metrics.SHARE,
    metrics.ITEMS_AGE,
    metrics.ITEMS_ROWS,
    metrics.ITEMS_BYTES,
    *freshness.OF_EACH,
)
"""What every process knows of the whole server: the one that is asked says it."""


class AllProcesses(Collector):
    """A collector of the sums, in any of the processes."""

    def __init__(self, shown_versions: Callable[[], AbstractSet[tuple[str, str]]]) -> None:
        """Nothing is read yet.

        Args:
            shown_versions: The models' versions that are to have series, by model and version;
                files keep those of all that ever were.
        """
        self._files = MultiProcessCollector(None)
        self._shown_versions = shown_versions

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        own = {family.name: family for metric in _OF_EACH for family in metric.collect()}
        yield from own.values()
        shown = self._shown_versions()
        for family in self._files.collect():
            if family.name in own:
                continue
            family.samples = [
                sample
                for sample in family.samples
                if "version" not in sample.labels
                or (sample.labels["model"], sample.labels["version"]) in shown
            ]
            yield family

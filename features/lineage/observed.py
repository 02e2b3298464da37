"""What a job has read and written, as the parts that read and write say while it runs.

Outside of a job, such as in the endpoint, nothing is kept. Imports no OpenLineage: the lake's code
calls it at every read.
"""

import contextlib
import dataclasses
import datetime
import enum
import threading
from collections.abc import Iterator, Mapping, Sequence


class Kind(enum.StrEnum):
    """Types of data sets, as OpenLineage's facet ``datasetType`` names them."""

    TABLE = "TABLE"
    FILE = "FILE"
    MODEL = "MODEL"


@dataclasses.dataclass(frozen=True)
class DayRows:
    """What is known of one day of a table."""

    content_hash: str = ""
    rows: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is particular to a model."""

    recipe: str = ""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    parents: list[str] = dataclasses.field(default_factory=list)
    """Checkpoints that it descends from, the oldest first."""
    checkpoint: str = ""
    trained_through: str = ""
    schema_fingerprint: str = ""
    config: dict[str, object] = dataclasses.field(default_factory=dict)
    """The whole recipe."""
    alias: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Something that a job has read or written, in one version."""

    where: str
    """A URI, or the absolute path of a place on a disk."""
    kind: Kind = Kind.TABLE
    sub_kind: str = ""
    version: str = ""
    """Empty: it has none."""
    struct: str = ""
    """Columns, as JSON that Spark and Delta share; empty: not known."""
    days: Mapping[datetime.date, DayRows] = dataclasses.field(default_factory=dict)
    """The days that were read or written."""
    files: Sequence[str] = ()
    """Names of files, of a folder of files."""
    rows: int | None = None
    """Where they are not counted by day."""
    model: ModelFacts | None = None
    broken_rules: Mapping[str, str] | None = None
    """Of an input that was checked: what was seen by broken rule; None: it was not."""

    def joined(self, later: "Dataset") -> "Dataset":
        """This and what was seen of the same later, of which the version is the newer one."""
        return dataclasses.replace(
            later,
            version=later.version or self.version,
            struct=later.struct or self.struct,
            days={**self.days, **later.days},
            files=sorted({*self.files, *later.files}),
            rows=_sum(self.rows, later.rows),
            model=later.model or self.model,
            broken_rules=self.broken_rules if later.broken_rules is None else later.broken_rules,
        )


class Observed:
    """The inputs and outputs of one job, each once."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()  # tables are written in several threads
        self._inputs: dict[str, Dataset] = {}
        self._outputs: dict[str, Dataset] = {}

    @property
    def inputs(self) -> list[Dataset]:
        """In the order in which they were first read."""
        return list(self._inputs.values())

    @property
    def outputs(self) -> list[Dataset]:
        """In the order in which they were first written."""
        return list(self._outputs.values())

    def add_input(self, dataset: Dataset) -> None:
        """Note what was read."""
        self._add(self._inputs, dataset)

    def add_output(self, dataset: Dataset) -> None:
        """Note what was written."""
        self._add(self._outputs, dataset)

    def _add(self, known: dict[str, Dataset], dataset: Dataset) -> None:
        with self._lock:
            before = known.get(dataset.where)
            known[dataset.where] = before.joined(dataset) if before else dataset


_observed: Observed | None = None


@contextlib.contextmanager
def observing() -> Iterator[Observed]:
    """Keep what is read and written in the block, by any thread of the process."""
    global _observed
    before, _observed = _observed, Observed()
    try:
        yield _observed
    finally:
        _observed = before


def is_observing() -> bool:
    """Whether somebody wants to know; what costs time to find out need not be found else."""
    return _observed is not None


def read(dataset: Dataset) -> None:
    """Note that the job of this process has read something."""
    if _observed is not None:
        _observed.add_input(dataset)


def wrote(dataset: Dataset) -> None:
    """Note that the job of this process has written something."""
    if _observed is not None:
        _observed.add_output(dataset)


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)

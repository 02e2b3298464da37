"""How a ranker scores: tables are looked up, each user once, and the dense part runs on the rest.

One path for requests and for rows of examples; eager or native code, any precision of the tables.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.encoding.encode import ModelInputs, RequestInputs
from training.artifact.quantized_tables import ServedTables, TablePrecision, packed
from training.model.ranker import InteractionArch, Ranker

MAX_ROWS = 8_192
"""Most rows that the dense part sees at one time; bounds its memory."""
ROWS_PER_THREAD = 512
"""About the rows of one part for each thread: what the layers make of them stays in a core's cache.
Of two thousand rows at one time each costs a fifth more."""

Dense = Callable[[Tensor, Tensor], Tensor]
"""Raw dense inputs (B, inputs) and pooled embeddings (B, columns) to probabilities (B,)."""


_RUNNING: list[None] = []
"""One for each call on several threads in this process."""
_LOCK = threading.Lock()


@contextlib.contextmanager
def _call_on_threads() -> Iterator[bool]:
    """Whether there is no other call on several threads in this process.

    With a second team of threads there are more of them than cores, and from then on libgomp has
    all of them sleep between two loops: a call takes twice as long, for ever. A call on one thread
    has no team, and takes none away: so a challenger in the shadow, a load and a batch neither
    count nor make a lone request slower by more than the core that they are on.
    """
    with _LOCK:
        _RUNNING.append(None)
        is_only_one = len(_RUNNING) == 1
    try:
        yield is_only_one
    finally:
        _RUNNING.pop()


class ServedDense(nn.Module):
    """Everything behind the tables, to a probability."""

    def __init__(self, interaction: InteractionArch) -> None:
        """Wrap a ranker's dense part."""
        super().__init__()
        self.interaction = interaction

    def forward(self, dense: Tensor, pooled_BE: Tensor) -> Tensor:
        """(B, inputs) raw and (B, E) pooled to (B,)."""
        return torch.sigmoid(self.interaction(dense, pooled_BE, []))


class Scorer:
    """Scores requests and rows.

    Args:
        features: Names of the sparse inputs in the order in which the dense part reads them.
        tables: Their tables.
        dense: The dense part.
        num_threads: Threads inside one call; None leaves the process's number as it is.
    """

    def __init__(
        self,
        features: Sequence[str],
        tables: ServedTables,
        dense: Dense,
        *,
        num_threads: int | None = None,
    ) -> None:
        self.features = tuple(features)
        self.tables = tables
        self.dense = dense
        self.num_threads = num_threads

    @classmethod
    def of(cls, ranker: Ranker, precision: TablePrecision = TablePrecision.FP32) -> "Scorer":
        """The eager scorer of an unsharded ranker, its tables in some precision.

        Raises:
            ValueError: The ranker reads pretrained vectors, which are not served.
        """
        if ranker.pretrained.names:
            raise ValueError(f"pretrained inputs {ranker.pretrained.names}: not served; none")
        configs = ranker.embeddings.embedding_bag_configs()
        bags = ranker.embeddings.embedding_bags
        rows = {c.name: packed(bags[c.name].weight, precision) for c in configs}
        tables = ServedTables.of(configs, rows, precision)
        return cls(ranker.features, tables, ServedDense(ranker.interaction).eval())

    def with_dense(self, dense: Dense) -> "Scorer":
        """The same tables with another dense part."""
        return Scorer(self.features, self.tables, dense, num_threads=self.num_threads)

    def score(
        self, inputs: RequestInputs | ModelInputs, *, num_threads: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Probabilities of a request's candidates, or of encoded rows, in their order.

        Args:
            inputs: What to score.
            num_threads: Threads inside this call, or one where it begins while another call on
                several threads runs; None: the scorer's number.
        """
        request = inputs if isinstance(inputs, RequestInputs) else _as_request(inputs)
        threads = num_threads or self.num_threads
        calls = contextlib.nullcontext(True) if threads == 1 else _call_on_threads()
        with calls as is_only_one, torch.inference_mode():
            if threads:
                # OpenMP keeps the number by calling thread. A thread that torch does not know yet
                # takes over the one that was set last, by whichever thread, when it first asks.
                torch.get_num_threads()
                torch.set_num_threads(threads if is_only_one else 1)
            # A user is looked up once, however many candidates there are and parts they come in.
            shared = self.tables.pool(request.shared) if request.shared else None
            bounds = _bounds(len(request), ROWS_PER_THREAD * torch.get_num_threads())
            parts = [
                self._part(request, shared, start, stop).numpy()
                for start, stop in itertools.pairwise(bounds)
            ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _part(self, request: RequestInputs, shared: Tensor | None, start: int, stop: int) -> Tensor:
        each = request.each
        if stop - start < len(request):
            each = {name: ids.take(np.arange(start, stop)) for name, ids in each.items()}
        columns: dict[str, Tensor] = {}
        if each:
            columns |= self._columns(each, self.tables.pool(each))
        if shared is not None:
            columns |= self._columns(request.shared, _tiled(shared, request.user[start:stop]))
        pooled = torch.cat([columns[name] for name in self.features], dim=1)
        return self.dense(torch.from_numpy(request.dense[start:stop]), pooled)

    def _columns(self, names: Iterable[str], pooled: Tensor) -> dict[str, Tensor]:
        widths = {name: self.tables.widths[name] for name in names}
        return dict(zip(widths, pooled.split(list(widths.values()), dim=1), strict=True))


def _bounds(num_rows: int, size: int) -> list[int]:
    """Where parts of about ``size`` rows begin and end; all are of one size, give or take a row."""
    num_parts = max(1, round(num_rows / size), -(-num_rows // MAX_ROWS))
    return [num_rows * index // num_parts for index in range(num_parts + 1)] if num_rows else [0]


def _tiled(shared_UE: Tensor, user: npt.NDArray[np.int64]) -> Tensor:
    if len(shared_UE) == 1:
        return shared_UE.expand(len(user), -1)
    return shared_UE.index_select(0, torch.from_numpy(user))


def _as_request(inputs: ModelInputs) -> RequestInputs:
    """Rows as candidates that share nothing."""
    return RequestInputs(
        dense=inputs.dense, shared={}, each=inputs.ids, user=np.zeros(len(inputs), dtype=np.int64)
    )

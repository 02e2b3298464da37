"""Before versions serve: does their caller still wait, and do they score a warm-up request?"""

import datetime
import logging
import threading
from http import HTTPStatus

import numpy as np

from features.schema import Dtype, Schema
from serving.inference.ranker import Ranker
from serving.protocol.errors import RequestError
from serving.protocol.fields import Tensor
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import input_columns, parse
from serving.routing.serving_versions import Champion

WARM_UP_CANDIDATES = (1, 500)

logger = logging.getLogger(__name__)


class LoadRequest:
    """Decides between the thread that loads and the caller that waits for it.

    A thread cannot be stopped. But a version that serves after its caller got an error would be a
    version that no one knows of.
    """

    def __init__(self, seconds: float) -> None:
        """Args: the seconds that the caller waits."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._is_done = self._is_given_up = False

    def give_up(self) -> bool:
        """Whether the loaded versions will not serve; False where the change has begun already."""
        with self._lock:
            self._is_given_up = not self._is_done
            return self._is_given_up

    def begin_change(self) -> None:
        """Let the loaded versions serve from now on; RequestError where the caller gave up."""
        with self._lock:
            if self._is_given_up:
                logger.warning("load: ready too late, and not taken up")
                raise self.too_late()
            self._is_done = True

    def too_late(self) -> RequestError:
        """The error (409) of a load that takes longer than its caller waits."""
        limit = f"within {self._seconds:g} seconds; what was loaded before stays"
        return RequestError("load", "not done", limit, status=HTTPStatus.CONFLICT)


def warm_up_request(schema: Schema, size: int) -> InferenceCall:
    """A request with made-up ids, which need not exist."""
    tensors = {}
    for column in input_columns(schema).values():
        if column in {schema.user, schema.item}:
            numbers = np.arange(1 if column == schema.user else size)
            is_text = column.dtype is Dtype.STRING
            values = [str(number) for number in numbers] if is_text else numbers
            tensors[column.name] = Tensor(column.name, "BYTES" if is_text else "INT64", values)
    return InferenceCall(id="warm-up", tensors=tensors, outputs={}, is_binary=False)


def check_scores(champion: Champion, ranker: Ranker) -> None:
    """Score requests of several sizes; ValueError where a score is absent or not finite."""
    for size in WARM_UP_CANDIDATES:
        # A store that is away must not keep a version from being loaded.
        call, transformer = warm_up_request(ranker.schema, size), ranker.transformer
        request = parse(ranker.schema, call, now=datetime.datetime.now(datetime.UTC))
        candidates = transformer.put_together(request, transformer.without_store())
        scores = champion.score(candidates.inputs)
        if len(scores) != size or not np.isfinite(scores).all():
            raise ValueError(f"warm-up scores: {scores[:3]}; {size} finite numbers")

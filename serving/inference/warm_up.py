"""Warm-up requests: a version scores them before it serves, and the champion after each load."""

import numpy as np

from features.schema import Dtype, Schema
from serving.inference.ranker import Ranker
from serving.inference.scoring import Champion
from serving.protocol.inference_request import InferenceCall
from serving.protocol.ranking_request import input_columns
from serving.protocol.tensors import Tensor

WARM_UP_CANDIDATES = (1, 500)


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
        call = warm_up_request(ranker.schema, size)
        candidates = ranker.candidates_without_store(call)
        scores = champion.score(candidates.inputs)
        if len(scores) != size or not np.isfinite(scores).all():
            raise ValueError(f"warm-up scores: {scores[:3]}; {size} finite numbers")

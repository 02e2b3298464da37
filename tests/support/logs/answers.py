"""Answers as a log is made of them, and as a reader finds them."""

import time
from typing import Any

import deltalake
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from support.serving import stand_ins

from features.places import Place, uri
from features.prediction_log.table import table_root
from serving.inference.ranking import new_answer_id
from serving.lookup.transformer import Transformer
from serving.observability.answered import Answered
from serving.observability.sampling import inclusion
from serving.protocol.inference_request import from_rest
from serving.protocol.ranking_request import parse


def answered(body: Any, **values: Any) -> Answered:
    """The answer to a request at noon, which is logged whatever its id."""
    store = stand_ins.StandInStore(stand_ins.SCHEMA, stand_ins.sample_rows())
    call = from_rest(orjson.dumps(body), json_length=None)
    request = parse(stand_ins.SCHEMA, call, now=stand_ins.NOON)
    candidates = Transformer(stand_ins.SCHEMA, online=store).transform(request)
    answer_id, role = values.pop("answer_id", new_answer_id()), values.get("role", "champion")
    how = {"share": 1.0, "role": role, "is_degraded": candidates.is_degraded, "mirrored": 0.0}
    given: dict[str, Any] = {
        "answer_id": answer_id,
        "request_id": "one",
        "answered_at": stand_ins.NOON,
        "model_version": "v",
        "scores": stand_ins.score(candidates.inputs),
        "candidates": candidates,
        "inclusion": inclusion(answer_id, **how),
    }
    return Answered(**{**given, **values})


def everything(folder: Place, dataset: str = stand_ins.SCHEMA.name) -> pa.Table:
    """All rows of a log; none where it has no table yet."""
    try:
        table = deltalake.DeltaTable(uri(table_root(folder, dataset)))
    except deltalake.exceptions.TableNotFoundError:
        return pa.table({})
    return table.to_pyarrow_table()


def rows_of(folder: Place, request_id: str, *, role: str = "") -> pa.Table:
    """Rows of a request, in its order, which come a moment after the answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = everything(folder)
        if len(rows):
            rows = rows.filter(pc.equal(rows["request_id"], request_id))
            rows = rows.filter(pc.equal(rows["role"], role)) if role else rows
            if len(rows):
                return rows.sort_by("place").combine_chunks()
        time.sleep(0.05)
    raise TimeoutError(f"{request_id} in {folder}")

"""The command ``python -m training forget``: the part of an erasure that is in models."""

import datetime
import json

from features.cli import Command, Summary
from features.datasets.catalog import schema_of
from features.options import folder, from_flags, option
from features.places import Place, put_whole
from training.requests import ReadsLake


@from_flags
class ForgetRequest(ReadsLake):
    """Erase a user from checkpoints and artifacts; `python -m features forget` starts it.

    The user's embedding row and its moments are put back to where an untrained ranker begins. The
    proof says what was done, and whether to train from scratch.
    """

    user: str = option("the user's id", metavar="ID")
    checkpoints: Place = folder("checkpoints", "the training checkpoints")
    artifacts: Place = folder("artifacts", "the exported rankers")
    proof: Place = option("what `python -m features forget` has written", metavar="FILE")
    keep_shared: bool = option(
        "leave the row as it is where other known users are looked up in it, too", default=False
    )
    grace_hours: int = option(
        "leave unfinished saves that are younger, which a running training may be writing; 0 where "
        "none runs",
        default=48,
    )
    retrain_above: float = option(
        "percent of the examples, erased since the newest training from scratch, above which to "
        "train from scratch at once",
        default=1.0,
    )

    def __post_init__(self) -> None:
        """ValueError for a limit below zero."""
        for name in ("grace_hours", "retrain_above"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')}: {getattr(self, name)}; at least 0")


def forget(request: ForgetRequest) -> Summary:
    """Reset the user's row everywhere, and add to the proof what was done and what is left."""
    from features.erasure.person import person_of
    from features.erasure.proof import read_proof
    from features.lake.erased import hash_key, id_hash
    from training.checkpoint.learnt_days import complete_records
    from training.erasure.models import (
        Models,
        clear_unfinished,
        erase_artifacts,
        reset_checkpoints,
        sharing_users,
        trained,
    )
    from training.erasure.verdict import verdict

    schema = schema_of(request.dataset)
    models = Models(
        schema=schema,
        user_id=person_of(schema, request.user).user_id,
        lake=request.lake / schema.name,
        checkpoints=request.checkpoints,
        artifacts=request.artifacts,
        grace=datetime.timedelta(hours=request.grace_hours),
    )
    proof = read_proof(request.proof)
    if proof["user_hash"] != id_hash(hash_key(models.lake), models.user_id):
        raise ValueError(f"--proof: {request.proof} is of another user or data set")
    found: Summary = dict(proof["models"] or {})
    planned = dict(found.get("golden_hashes") or {})  # type: ignore[call-overload]

    def put() -> None:
        proof["models"] = {**found, "golden_hashes": planned}
        put_whole(request.proof, json.dumps(proof, indent=1).encode())

    shared = sharing_users(models)
    is_kept = bool(shared and request.keep_shared)
    found |= {"row_shared_with": shared, "row_kept": is_kept}
    changed = {} if is_kept else reset_checkpoints(models)
    found["checkpoints"] = {**dict(found.get("checkpoints") or {}), **changed}  # type: ignore[call-overload]
    put()
    removed, unfinished = clear_unfinished(models)
    golden, served = erase_artifacts(models, planned, put)
    found |= {"unfinished_removed": removed, "golden_rows": golden}
    again = {} if is_kept else reset_checkpoints(models)
    found["verification"] = {"checkpoints": again}
    complete_records(models.lake, trained(models))
    judged = verdict(models.lake, limit_percent=request.retrain_above)
    found["left"] = [*unfinished, *served]
    found["retrain"] = judged
    put()
    words = [f"Models: {len(changed)} checkpoints reset; row shared with {shared} known users"]
    words += [
        f"- {one['what']}: {one['why']}; until {one['until']}" for one in (*unfinished, *served)
    ]
    return {**found, "proof": str(request.proof), "markdown": "\n".join([*words, judged["text"]])}


FORGET: dict[str, Command] = {"forget": forget}

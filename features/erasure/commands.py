"""The command ``python -m features forget``."""

import datetime
import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from features.cli import Command, FailedError, Summary
from features.datasets.catalog import schema_of
from features.options import folder, from_flags, option
from features.places import Place, uri
from features.requests import OfLake, OfReports, moment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from features.erasure.forget import Erasure
    from features.erasure.proof import Proof
    from features.schema import Schema


@from_flags
class ForgetRequest(OfLake, OfReports):
    """Erase a user: the lake with its history, the online store, the prediction log, the models.

    Rows of the user that land again, up to now, are left out from now on. Writes a proof. May be
    repeated, and goes on where a run of it was killed.
    """

    user: str = option("the user's id", metavar="ID")
    landing: Place = folder("landing", "where the log lands; it is read, and not changed")
    store: Place = folder("feast", "the Feast registry and online store")
    log: Place | None = option(
        "the prediction logs (else RANKING_LOG_FOLDER; neither: there is none)",
        metavar="DIR",
        default=None,
    )
    checkpoints: Place = folder("checkpoints", "the training checkpoints")
    artifacts: Place = folder("artifacts", "the exported rankers")
    proofs: Place = folder("reports/forget", "where the proof is written")
    until: datetime.datetime | None = option(
        "rows up to this moment are left out when they land again, ISO 8601, UTC where no offset "
        "is given (else now)",
        parse=moment,
        metavar="TIME",
        default=None,
    )
    grace_hours: int = option(
        "leave files that no version has named and that are younger, which a running job may be "
        "about to publish; 0 where no job of the data set runs",
        default=48,
    )
    without_landed: bool = option("do not look at what has landed", default=False)
    without_models: bool = option(
        "do not start `python -m training forget`, as where there is no training", default=False
    )
    dry_run: bool = option("say what would go, and change nothing", default=False)

    def __post_init__(self) -> None:
        """ValueError for a grace time below zero."""
        if self.grace_hours < 0:
            raise ValueError(f"--grace-hours: {self.grace_hours}; at least 0")


def _forget(request: ForgetRequest) -> Summary:
    from features.erasure.in_words import dry_run_in_words, in_words
    from features.erasure.proof import file_of

    erasure = _erasure(request)
    if request.dry_run:
        plan, store = erasure.plan(), erasure.stored(dry_run=True)
        log, _ = erasure.logged(dry_run=True)
        landed = erasure.landed()
        found, words = dry_run_in_words(plan, store, log, landed)
        return {"dry_run": True, **found, "markdown": words}
    proof = erasure.run(until=request.until or datetime.datetime.now(datetime.UTC))
    file = file_of(request.proofs, proof)
    models, command = _forget_models(request, file)
    words = in_words(proof, file, command)
    summary: Summary = {
        "proof": str(file),
        "removed": {name: _rows(table) for name, table in proof["tables"].items() if _rows(table)},
        "online_store": proof["online_store"],
        "prediction_log": proof["prediction_log"]["rows"] if proof["prediction_log"] else 0,
        "landed": proof["landed"],
        "left": proof["left"],
        "models": models,
        "markdown": "\n\n".join(filter(None, [words, str(models.pop("text", ""))])),
    }
    if problem := _problem(proof):
        raise FailedError(problem, summary)
    return summary


def _rows(table: object) -> int:
    days = table["days"].values()  # type: ignore[index]
    return sum(day["rows"] + day["rows_naming"] for day in days)


def _problem(proof: "Proof") -> str:
    """What a second look has found and nothing explains; empty where that is nothing."""
    found = {
        name: value
        for name, value in proof["verification"].items()
        if value and name != "old_files"
    }
    return f"still there: {found}; another job writes: run the command again" if found else ""


def _erasure(request: ForgetRequest) -> "Erasure":
    from features.erasure.forget import Erasure, Places
    from features.erasure.person import person_of
    from features.prediction_log.settings import Logging, LogKey

    schema, logging = schema_of(request.dataset), Logging.from_environment()
    log = request.log or (logging.folder if logging.has_folder else None)
    return Erasure(
        person_of(schema, request.user),
        Places(
            lake=request.lake,
            store=request.store,
            log=log,
            landing=None if request.without_landed else request.landing,
            reports=request.docs,
            proofs=request.proofs,
        ),
        log_key=LogKey.from_environment().secret(),
        grace=datetime.timedelta(hours=request.grace_hours),
        session=lambda: _session(schema),
    )


def _session(schema: "Schema") -> "SparkSession":
    from features.spark.session import start_session

    return start_session(f"forget {schema.name}")


def _forget_models(request: ForgetRequest, proof: Place) -> tuple[Summary, str]:
    """Start the command of training, where there is one here; else return its command line.

    A process, as a DAG starts it: this package does not import training.
    """
    arguments = [
        *("training", "forget", "--dataset", request.dataset, "--user", request.user),
        *("--lake", uri(request.lake), "--checkpoints", uri(request.checkpoints)),
        *("--artifacts", uri(request.artifacts), "--proof", uri(proof)),
        *("--grace-hours", str(request.grace_hours)),
    ]
    shown = " ".join(["python -m", *arguments]).replace(f"--user {request.user}", "--user ID")
    is_here = all(importlib.util.find_spec(name) for name in ("training", "torchrec"))
    if request.without_models or not is_here:
        return {}, shown
    done = subprocess.run(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    *text, last = done.stdout.splitlines() or [""]
    summary: Summary = json.loads(last) if last.startswith("{") else {}
    if done.returncode:
        reason = summary.get("error", f"exit code {done.returncode}")
        raise FailedError(
            f"{shown}: {reason}; the rest is done: run it again", {"proof": str(proof)}
        )
    return {**summary, "text": "\n".join(text)}, ""


ERASURE_COMMANDS: dict[str, Command] = {"forget": _forget}

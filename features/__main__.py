"""The door of the data path: ``python -m features VERB --help``.

Every verb logs to stderr and prints one JSON object as its last line on stdout. Exit code 0: done;
1: failed, with ``error: …``; 2: wrong use; 99: nothing to do, with the reason under ``skipped``.
"""

import argparse
import contextlib
import datetime
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.catalog import SCHEMAS, schema_of

if TYPE_CHECKING:
    from features.jobs import Workspace
    from features.tables import Partition

logger = logging.getLogger("features")
Summary = dict[str, Any]


class CriticalError(Exception):
    """A broken critical rule: the day must not go on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("py4j", "great_expectations", "feast", "pyspark"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # Feast calls its Spark store alpha on every use.
    warnings.simplefilter("ignore")
    started = time.monotonic()
    try:
        # Feast and Great Expectations print; stdout is for the one JSON line.
        with contextlib.redirect_stdout(sys.stderr):
            summary = options.run(options)
    except (ValueError, ConnectionError, CriticalError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    seconds = round(time.monotonic() - started, 1)
    sys.stdout.write(json.dumps({"job": options.verb, **summary, "seconds": seconds}) + "\n")
    return 0


def _fetch(options: argparse.Namespace) -> Summary:
    from features.readers import READERS

    sizes = {name: getattr(options, name) for name in ("rows", "users", "items", "days", "seed")}
    schema = schema_of(options.dataset)
    logger.info("fetching %s (licence: %s)", schema.name, schema.licence)
    found = READERS[schema.name].fetch(options.landing / schema.name, **sizes)
    return {"dataset": schema.name, "licence": schema.licence, **found}


def _ingest(options: argparse.Namespace) -> Summary:
    from features import jobs

    work, days = _workspace(options), _days(options)
    return _written(jobs.ingest(work, options.landing, days))


def _validate(options: argparse.Namespace) -> Summary:
    from features import expectations

    work, days = _workspace(options), _days(options)
    if options.table == "impressions":
        outcomes = [expectations.check_impressions(work, days, options.docs)]
    else:
        outcomes = expectations.check_features(work, days, options.docs)
    page = expectations.write_quality_page(options.docs, work.schema, days, outcomes)
    critical = [f"{o.table}: {sentence}" for o in outcomes for sentence in o.critical]
    if critical:
        raise CriticalError(f"{len(critical)} critical rules broken: " + "; ".join(critical))
    return {
        "rows": sum(o.rows for o in outcomes),
        "quarantined": {o.table: o.quarantined for o in outcomes if o.quarantined},
        "broken_rules": {rule: n for o in outcomes for rule, n in o.broken_rules.items()},
        "reported": [f"{o.table}: {sentence}" for o in outcomes for sentence in o.reported],
        "report": page,
    }


def _build(options: argparse.Namespace) -> Summary:
    from features import jobs

    work, days = _workspace(options), _days(options)
    return _written(jobs.build(work, options.landing, days, available_at=options.available_at))


def _apply(options: argparse.Namespace) -> Summary:
    from features import store

    count = store.apply(schema_of(options.dataset), options.store, options.lake)
    return {"objects": count, "registry": str(options.store / options.dataset / "registry.db")}


def _materialize(options: argparse.Namespace) -> Summary:
    from features.online import materialize_days

    written = materialize_days(_workspace(options), options.store, _days(options))
    return {"rows": sum(written.values()), "tables": written}


def _push(options: argparse.Namespace) -> Summary:
    from features.online import push_until

    work = _workspace(options)
    return push_until(
        work, options.landing, options.store, until=options.until, since=options.since
    )


def _examples(options: argparse.Namespace) -> Summary:
    from features import jobs

    return _written(jobs.examples(_workspace(options), _days(options)))


def _prune(options: argparse.Namespace) -> Summary:
    from features.retention import prune

    schema = schema_of(options.dataset)
    removed = prune(schema, options.lake, today=options.date, keep_days=options.keep_days)
    return {"removed": removed}


def _bench(options: argparse.Namespace) -> Summary:
    from features.bench import run_bench

    return run_bench(options.folder, sizes=options.rows, feast_rows=options.feast_rows)


def _document(options: argparse.Namespace) -> Summary:
    from features.document import reference

    text = reference(SCHEMAS.values())
    options.output.write_text(text)
    return {"output": str(options.output), "lines": text.count("\n")}


def _workspace(options: argparse.Namespace) -> "Workspace":
    from features.jobs import Workspace
    from features.spark import start_session
    from features.tables import Lake

    schema = schema_of(options.dataset)
    spark = start_session(f"{options.verb} {schema.name}")
    return Workspace(spark, schema, Lake(options.lake, schema.name))


def _days(options: argparse.Namespace) -> list[datetime.date]:
    last = options.to or options.date
    if last < options.date:
        raise ValueError(f"--to: {last}; not before --date {options.date}")
    return [
        options.date + datetime.timedelta(days=n) for n in range((last - options.date).days + 1)
    ]


def _written(partitions: "Sequence[Partition]") -> Summary:
    tables: dict[str, Summary] = {}
    for partition in partitions:
        table = tables.setdefault(partition.table, {"rows": 0, "days": 0})
        table["rows"] += partition.rows
        table["days"] += 1
        table["content_hash"] = partition.content_hash
    return {"rows": sum(partition.rows for partition in partitions), "tables": tables}


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


_DIRECTORIES = {
    "--landing": "where the log lands, one file a day",
    "--lake": "the Parquet tables, one partition a day",
    "--store": "the Feast registry and online store",
    "--docs": "where reports and Data Docs are written",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m features",
        description="The data path of the ranker, one job a verb.",
        epilog="Start with: python -m features fetch --dataset movielens-100k",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, run: Callable[[argparse.Namespace], Summary], text: str, *folders: str
    ) -> Any:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--dataset", required=True, choices=sorted(SCHEMAS))
        for folder in folders:
            default = Path("var") / ("reports" if folder == "--docs" else folder.strip("-"))
            default = Path("var/feast") if folder == "--store" else default
            text = f"{_DIRECTORIES[folder]} (default: {default})"
            added.add_argument(folder, type=Path, default=default, help=text)
        return added

    def dated(added: Any) -> Any:
        day = datetime.date.fromisoformat
        added.add_argument("--date", type=day, required=True, help="the day, YYYY-MM-DD")
        added.add_argument("--to", type=day, help="last day of a range that starts at --date")
        return added

    fetch = verb("fetch", _fetch, "Get a log and land it, one file a day.", "--landing")
    for name, default in (
        ("rows", 100_000),
        ("users", 2_000),
        ("items", 1_000),
        ("days", 30),
        ("seed", 0),
    ):
        fetch.add_argument(
            f"--{name}", type=int, default=default, help=f"synthetic only ({default})"
        )
    dated(verb("ingest", _ingest, "Landed impressions into the lake.", "--landing", "--lake"))
    check = dated(
        verb("validate", _validate, "Check rows; stop, quarantine or report.", "--lake", "--docs")
    )
    check.add_argument("--table", required=True, choices=("impressions", "features"))
    build = dated(verb("build", _build, "Compute the feature tables.", "--landing", "--lake"))
    build.add_argument(
        "--available-at",
        type=_moment,
        help="for a correction of published days: from when the new rows count (default: declared)",
    )
    verb("apply", _apply, "Register the schema's objects with Feast.", "--lake", "--store")
    dated(verb("materialize", _materialize, "Bring finished days online.", "--lake", "--store"))
    pushed = verb(
        "push", _push, "Bring touched users online within a day.", "--landing", "--lake", "--store"
    )
    pushed.add_argument("--until", type=_moment, required=True, help="push rows countable by then")
    pushed.add_argument("--since", type=_moment, help="last push (default: the recorded one)")
    dated(verb("examples", _examples, "Join impressions with features.", "--lake"))
    prune = dated(verb("prune", _prune, "Drop partitions that nothing needs.", "--lake"))
    prune.add_argument("--keep-days", type=int, default=400, help="days to keep (400)")
    bench = verbs.add_parser("bench", help="Measure rows per second of state, aggregates and join.")
    bench.set_defaults(run=_bench)
    bench.add_argument("--folder", type=Path, default=Path("var/bench"), help="scratch (var/bench)")
    sizes = [100_000, 1_000_000, 10_000_000]
    bench.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes, smallest first")
    bench.add_argument(
        "--feast-rows", type=int, default=50_000, help="size at which Feast's join runs too (50000)"
    )
    document = verbs.add_parser("document", help="Write the feature reference.")
    document.set_defaults(run=_document)
    document.add_argument("--output", type=Path, default=Path("docs/features.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

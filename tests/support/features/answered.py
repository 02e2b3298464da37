"""An answer, and all that is behind it, by hand: log, artifact, checkpoints, lake, landed file."""

import datetime
import json
import uuid

import pyarrow as pa
from support.lake_rows import put
from support.serving import stand_ins
from support.training import manifests

from features.lake.commit import remove
from features.lake.snapshot import snapshot
from features.places import Place
from features.prediction_log.columns import HOUR, arrow_schema, status_column
from features.prediction_log.table import LogTable
from features.provenance.learnt import Learnt, Step, put_learnt
from features.schema import DAY
from training.artifact.manifest import MANIFEST, Manifest
from training.checkpoint.catalog import Checkpoints
from training.checkpoint.learnt_days import complete_records
from training.data.dataset import TABLE
from training.explain.explain import Folders

SCHEMA = stand_ins.SCHEMA
USER, ITEM, DAILY, ATTRIBUTES = "user_id", "item_id", "item_daily", "item_attributes"
NOON = stand_ins.NOON
ONE_DAY = datetime.timedelta(days=1)
YESTERDAY = NOON.date() - ONE_DAY
MIDNIGHT = datetime.datetime.combine(NOON.date(), datetime.time(), tzinfo=datetime.UTC)
AT = pa.timestamp("us", tz="UTC")
STATE = SCHEMA.tables[0]
LANDED = b"a landed file\n"


def answer_id(at=NOON):
    """A UUID of version 7, as a server makes one at a moment."""
    number = (int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | 5
    return str(uuid.UUID(int=number))


def log(folder, **changed):
    """Two candidates of an answer of user 3, and what a shadow made of the first."""
    columns = arrow_schema(SCHEMA)
    fields = [*columns, pa.field(DAY, pa.date32()), pa.field(HOUR, pa.int32())]
    row = {
        "answer_id": answer_id(), "answered_at": NOON, "model_version": "v2", "role": "champion",
        "degraded_by": [], "rank": 1, "score": 0.5, "sent_item_id": "a", USER: 3, ITEM: "a",
        DAY: NOON.date(), HOUR: 12,
        STATE.timestamp_column: MIDNIGHT, STATE.created_column: MIDNIGHT,
        status_column(STATE): "usable",
        f"{DAILY}__event_timestamp": MIDNIGHT, f"{DAILY}__status": "usable",
        "item_impressions_7d": 2,
        f"{ATTRIBUTES}__status": "unknown",
        **changed,
    }  # fmt: skip
    second = row | {"rank": 2, "score": 0.25, "sent_item_id": "b", ITEM: "b"}
    shadow = row | {"role": "shadow", "model_version": "v3"}
    rows = [second, shadow, row]
    arrays = [pa.array([one.get(f.name) for one in rows], f.type) for f in fields]
    table = LogTable(folder, SCHEMA)
    table.open()
    table.append(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), metadata={})


def impressions(lake):
    """Of user 3 yesterday: one counted, one held, one re-admitted, one that vanished; one of 4."""
    ids, users = pa.array([1, 2, 3, 4, 5]), pa.array([3, 3, 3, 3, 4])
    moments = pa.array([NOON - ONE_DAY] * 5, AT)
    raw = pa.table(
        {
            "example_id": ids,
            USER: users,
            ITEM: ["a", "b", "a", "b", "a"],
            "timestamp": moments,
            "label": [1, 0, 1, 0, 1],
            "source_file": [f"impressions/{YESTERDAY}.csv"] * 5,
            "source_line": [2, 3, 4, 5, 6],
        }
    )
    put(lake / "impressions_raw", YESTERDAY, raw, job="ingest", run="r1", inputs={"topic": 3})
    counted = raw.select(["example_id", USER, ITEM, "timestamp", "label"])
    put(lake / "impressions", YESTERDAY, counted.take(pa.array([0, 2, 4])))
    held = raw.append_column("rules", pa.array([["device:vocabulary"]] * 5))
    put(lake / "quarantine_impressions", YESTERDAY, held.slice(1, 1))
    again = {
        "example_id": [3], "broken": [["price:range"]], "source": ["map.yaml@12ab"],
        "readmitted_at": pa.array([NOON], AT),
    }  # fmt: skip
    put(lake / "quarantine_readmitted_impressions", YESTERDAY, pa.table(again))


def written(root: Place) -> Folders:
    """Everything behind an answer."""
    made = Folders(
        log=root / "log",
        lake=root / "lake",
        landing=root / "landing",
        checkpoints=root / "checkpoints",
        artifacts=root / "artifacts",
    )
    lake = made.lake / SCHEMA.name
    impressions(lake)
    one = {"event_timestamp": pa.array([MIDNIGHT] * 2, AT)}
    values = {name: pa.nulls(2, pa.int64()) for name in _inputs(STATE)}
    put(lake / STATE.name, YESTERDAY, pa.table({USER: [3, 4], **one, **values}), job="build")
    values = {name: pa.nulls(2, pa.int64()) for name in _inputs(SCHEMA.tables[1])}
    values["item_impressions_7d"] = pa.array([2, 1])
    put(
        lake / DAILY,
        YESTERDAY,
        pa.table({ITEM: ["a", "b"], **one, **values}),
        job="build",
        run="r2",
    )
    landed = made.landing / SCHEMA.name / "impressions" / f"{YESTERDAY}.csv"
    landed.parent.mkdir(parents=True)
    landed.write_bytes(LANDED)
    _examples(lake)
    _line(made)
    log(made.log)
    return made


def _inputs(table):
    return [name for name in table.encoded_columns if name != table.timestamp_column]


def _examples(lake):
    """Three days; the second was replaced and the third removed after a training had read them."""
    for n in (1, 2, 3):
        put(lake / TABLE, datetime.date(2025, 6, n), pa.table({"id": [n]}))
    put(lake / TABLE, datetime.date(2025, 6, 2), pa.table({"id": [20]}))
    remove(lake / TABLE, [datetime.date(2025, 6, 3)], metadata={})


def _line(made):
    known = Checkpoints(made.checkpoints, SCHEMA)
    before = snapshot(made.lake / SCHEMA.name / TABLE, 2)
    days = [datetime.date(2025, 6, n) for n in (1, 2, 3)]
    hashes = {str(day): before.partition(day).content_hash for day in days}
    manifests.write(
        known,
        "2025-06-13",
        through="2025-06-03",
        family=("2025-06-01", "2025-06-12"),
        partitions=hashes,
        table_versions={TABLE: 2},
    )
    manifests.write(
        known, "2025-06-12", through="2025-05-31", family=("2025-06-01",), parent="2025-06-01"
    )
    # The oldest checkpoint is gone; what it has learnt is not.
    first = Step(by="2025-06-01", days={datetime.date(2025, 5, 30): "f00d"})
    lake = made.lake / SCHEMA.name
    put_learnt(lake, Learnt(checkpoint="2025-06-01", at=NOON, steps=[first]))
    complete_records(lake, known)
    manifest = Manifest(
        version="v2", dataset=SCHEMA.name, schema_fingerprint="f", day="2025-06-13",
        trained_through="2025-06-03", recipe="wukong-tiny", config={},
        parents=["2025-06-01", "2025-06-12"], metrics={"ne": 0.9}, mlflow_run="m",
        content_sha256={"dense": "00"}, checkpoint="2025-06-13",
    )  # fmt: skip
    folder = made.artifacts / SCHEMA.name / "v2"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(vars(manifest)))

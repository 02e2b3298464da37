"""Open Bandit, small version: 60,000 fashion recommendations of one week in November 2019."""

import datetime

from features.schema import Column, Dtype, Kind, Label, Limits, Role, Schema, Severity
from features.schema.derived_tables import attributes, item_daily

ITEM = Column(
    name="item_id",
    dtype=Dtype.STRING,
    kind=Kind.SPARSE,
    hash_size=1_000,
    doc="The garment: its campaign and its number there, such as men-12.",
    severity=Severity.CRITICAL,
)
CLICK = Column(
    name="click",
    dtype=Dtype.INT64,
    kind=Kind.STORED,
    minimum=0,
    maximum=1,
    doc="Whether the garment was clicked; the label.",
)
LABEL = Label(
    column="click",
    positive_from=1,
    delay=datetime.timedelta(minutes=30),
    prior_rate=0.004,
    prior_weight=250,
)


def _hashed(name: str, doc: str) -> Column:
    return Column(name=name, dtype=Dtype.STRING, kind=Kind.SPARSE, hash_size=1_000, doc=doc)


SCHEMA = Schema(
    name="open-bandit",
    doc="Shown garments and their clicks, logged by two policies on three campaigns of one shop. "
    "Users have no id: their four hashed features are request context.",
    licence="CC BY 4.0 (Open Bandit Dataset, ZOZO, Inc.)",
    user=None,
    item=ITEM,
    context=(
        Column(
            name="position",
            dtype=Dtype.INT64,
            kind=Kind.SPARSE,
            minimum=1,
            maximum=3,
            num_ids=4,
            doc="Position among the three garments shown together; 1 is left.",
        ),
        *(_hashed(f"user_feature_{n}", f"Hashed attribute {n} of the user.") for n in range(4)),
    ),
    stored=(
        CLICK,
        Column(
            name="propensity",
            dtype=Dtype.FLOAT64,
            kind=Kind.STORED,
            minimum=0,
            maximum=1,
            doc="Probability with which the logging policy showed the garment there.",
        ),
        Column(
            name="policy",
            dtype=Dtype.STRING,
            kind=Kind.STORED,
            vocabulary=("bts", "random"),
            doc="The policy that chose: Bernoulli Thompson sampling, or uniform at random.",
        ),
    ),
    time_context=("hour_of_day",),
    label=LABEL,
    tables=(
        item_daily(
            label=LABEL,
            windows_days=(1, 7, 28),
            ttl=datetime.timedelta(days=7),
            delay=datetime.timedelta(hours=1),
        ),
        attributes(
            Role.ITEM,
            doc="The shop's hashed description of a garment.",
            columns=(
                Column(
                    name="item_feature_0",
                    dtype=Dtype.FLOAT64,
                    kind=Kind.DENSE,
                    doc="Standardised number; its meaning is not published.",
                ),
                *(_hashed(f"item_feature_{n}", f"Hashed attribute {n} of it.") for n in (1, 2, 3)),
            ),
        ),
    ),
    limits=Limits(
        min_positive_rate=0.0,
        max_positive_rate=0.1,
        min_share_of_trailing_rows=0.2,
        max_times_trailing_rows=5,
    ),
    history_length=0,
    epoch=datetime.date(2019, 1, 1),
    first_day=datetime.date(2019, 11, 24),
    last_day=datetime.date(2019, 11, 30),
    holdout_days=1,
)

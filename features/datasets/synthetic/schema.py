"""Generated impressions whose true probabilities are known, so that regret can be measured."""

import datetime

from features.schema import Column, Dtype, Kind, Label, Limits, Role, Schema, Severity
from features.schema.derived_tables import attributes, item_daily, user_state

SEGMENTS = tuple(f"segment-{n}" for n in range(8))
CATEGORIES = tuple(f"category-{n}" for n in range(12))
DEVICES = ("phone", "tablet", "desktop")

USER = Column(
    name="user_id",
    dtype=Dtype.INT64,
    kind=Kind.SPARSE,
    minimum=0,
    hash_size=100_000,
    doc="The generated user.",
    severity=Severity.CRITICAL,
)
ITEM = Column(
    name="item_id",
    dtype=Dtype.INT64,
    kind=Kind.SPARSE,
    minimum=0,
    hash_size=100_000,
    doc="The generated item.",
    severity=Severity.CRITICAL,
)
CLICK = Column(
    name="click",
    dtype=Dtype.INT64,
    kind=Kind.STORED,
    minimum=0,
    maximum=1,
    doc="Drawn with the true probability; the label.",
)
TRUE_PROBABILITY = Column(
    name="true_probability",
    dtype=Dtype.FLOAT64,
    kind=Kind.STORED,
    minimum=0,
    maximum=1,
    doc="Probability with which the click was drawn; never an input.",
)
LABEL = Label(
    column="click",
    positive_from=1,
    delay=datetime.timedelta(minutes=10),
    prior_rate=0.3,
    prior_weight=10,
)
LIMITS = Limits(
    min_positive_rate=0.01,
    max_positive_rate=0.99,
    min_share_of_trailing_rows=0.2,
    max_times_trailing_rows=5,
)

SCHEMA = Schema(
    name="synthetic",
    doc="A click model with main effects, second- and third-order interactions and drift.",
    licence="generated; none",
    user=USER,
    item=ITEM,
    context=(
        Column(
            name="device",
            dtype=Dtype.STRING,
            kind=Kind.SPARSE,
            vocabulary=DEVICES,
            doc="Device of the request.",
        ),
    ),
    stored=(CLICK, TRUE_PROBABILITY),
    time_context=("hour_of_day", "day_of_week"),
    label=LABEL,
    tables=(
        user_state(
            item=ITEM,
            label=LABEL,
            history_length=20,
            ttl=datetime.timedelta(days=30),
            delay=datetime.timedelta(seconds=60),
        ),
        item_daily(
            label=LABEL,
            windows_days=(1, 7, 28),
            ttl=datetime.timedelta(days=7),
            delay=datetime.timedelta(hours=1),
        ),
        attributes(
            Role.USER,
            doc="What is known of a user from the start.",
            columns=(
                Column(
                    name="user_segment",
                    dtype=Dtype.STRING,
                    kind=Kind.SPARSE,
                    vocabulary=SEGMENTS,
                    doc="Segment of the user; takes part in the interactions.",
                ),
            ),
        ),
        attributes(
            Role.ITEM,
            doc="What is known of an item from the start.",
            columns=(
                Column(
                    name="item_category",
                    dtype=Dtype.STRING,
                    kind=Kind.SPARSE,
                    vocabulary=CATEGORIES,
                    doc="Category of the item; takes part in the interactions.",
                ),
                Column(
                    name="item_price",
                    dtype=Dtype.FLOAT64,
                    kind=Kind.DENSE,
                    minimum=0,
                    unit="standard deviations above the cheapest",
                    doc="Price of the item; a main effect.",
                ),
            ),
        ),
    ),
    limits=LIMITS,
    history_length=20,
    epoch=datetime.date(2024, 1, 1),
    first_day=datetime.date(2025, 1, 1),
    last_day=None,
    holdout_days=1,
    best_log_loss_column="true_probability",
)

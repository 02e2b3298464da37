"""Generated impressions of small fields, whose clicks depend on interactions of two and three.

Every value of a field is seen thousands of times, so its embedding is learnt early. What is left is
to distinguish hundreds of interactions, which takes a larger dense part and more examples: the log
on which growing a ranker, and a law of its size, can be measured against a known floor. Nothing in
it changes with time, so that the first days say of the last what the last say of themselves; counts
of items are left out, for they grow.
"""

import datetime

from features.datasets.synthetic.schema import CLICK, LIMITS, TRUE_PROBABILITY
from features.schema import Column, Dtype, Kind, Label, Role, Schema, Severity
from features.schema.derived_tables import attributes

NUM_ITEMS = 16
NUM_VALUES = 8
FIELDS = tuple(f"field_{number}" for number in range(1, 10))

ITEM = Column(
    name="item_id",
    dtype=Dtype.INT64,
    kind=Kind.SPARSE,
    minimum=0,
    maximum=NUM_ITEMS - 1,
    num_ids=NUM_ITEMS,
    doc="The generated item; takes part in the interactions as the other fields do.",
    severity=Severity.CRITICAL,
)
LABEL = Label(
    column="click",
    positive_from=1,
    delay=datetime.timedelta(minutes=10),
    prior_rate=0.5,
    prior_weight=10,
)

SCHEMA = Schema(
    name="synthetic-fields",
    doc="A click model of ten small fields with interactions of second and third order.",
    licence="generated; none",
    user=None,
    item=ITEM,
    context=tuple(
        Column(
            name=name,
            dtype=Dtype.INT64,
            kind=Kind.SPARSE,
            minimum=0,
            maximum=NUM_VALUES - 1,
            num_ids=NUM_VALUES,
            doc="A generated field of the request; takes part in the interactions.",
        )
        for name in FIELDS
    ),
    stored=(CLICK, TRUE_PROBABILITY),
    time_context=(),
    label=LABEL,
    tables=(
        attributes(
            Role.ITEM,
            doc="What is known of an item from the start.",
            columns=(
                Column(
                    name="item_size",
                    dtype=Dtype.FLOAT64,
                    kind=Kind.DENSE,
                    minimum=0,
                    maximum=1,
                    unit="share of the largest",
                    doc="Size of the item; says nothing of clicks that its id does not.",
                ),
            ),
        ),
    ),
    limits=LIMITS,
    history_length=0,
    epoch=datetime.date(2024, 1, 1),
    first_day=datetime.date(2025, 1, 1),
    last_day=None,
    holdout_days=1,
    best_log_loss_column="true_probability",
)

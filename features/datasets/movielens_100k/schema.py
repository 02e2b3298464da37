"""MovieLens-100k: 100,000 film ratings by 943 people, September 1997 to April 1998."""

import datetime

from features.schema import Column, Dtype, Kind, Label, Limits, Role, Schema, Severity
from features.schema.derived_tables import attributes, item_daily, user_state

OCCUPATIONS = (
    "administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive",
    "healthcare", "homemaker", "lawyer", "librarian", "marketing", "none", "other", "programmer",
    "retired", "salesman", "scientist", "student", "technician", "writer",
)  # fmt: skip
GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
    "unknown", "War", "Western",
)  # fmt: skip

USER = Column(
    name="user_id",
    dtype=Dtype.INT64,
    # No input: two thirds of the people rate on one day only, so an id cannot be learnt;
    # what is learnt of the others' ids is their past, which the state describes better.
    kind=Kind.STORED,
    minimum=1,
    maximum=943,
    doc="The person who rated.",
    severity=Severity.CRITICAL,
)
ITEM = Column(
    name="item_id",
    dtype=Dtype.INT64,
    kind=Kind.SPARSE,
    minimum=1,
    maximum=1682,
    num_ids=1683,
    doc="The film.",
    severity=Severity.CRITICAL,
)
RATING = Column(
    name="rating",
    dtype=Dtype.INT64,
    kind=Kind.STORED,
    minimum=1,
    maximum=5,
    unit="stars",
    doc="The rating given; 4 and 5 are the positive label.",
)
LABEL = Label(
    column="rating",
    positive_from=4,
    delay=datetime.timedelta(0),
    has_rating=True,
    prior_rate=0.55,
    prior_weight=5,
)

USER_ATTRIBUTES = attributes(
    Role.USER,
    doc="What users stated about themselves when they joined.",
    columns=(
        Column(
            name="user_age",
            dtype=Dtype.INT64,
            kind=Kind.DENSE,
            minimum=1,
            maximum=120,
            unit="years",
            doc="Age, as stated by the user.",
        ),
        Column(
            name="user_gender",
            dtype=Dtype.STRING,
            kind=Kind.SPARSE,
            vocabulary=("F", "M"),
            doc="Gender, as stated by the user.",
        ),
        Column(
            name="user_occupation",
            dtype=Dtype.STRING,
            kind=Kind.SPARSE,
            vocabulary=OCCUPATIONS,
            doc="Occupation, as stated by the user, from a list.",
        ),
        Column(
            name="user_zip_code",
            dtype=Dtype.STRING,
            kind=Kind.STORED,
            is_nullable=True,
            doc="Postal code, as stated; too sparse for a thousand users to be an input.",
        ),
    ),
)
ITEM_ATTRIBUTES = attributes(
    Role.ITEM,
    doc="What is known of a film before anyone rates it.",
    columns=(
        Column(
            name="item_title",
            dtype=Dtype.STRING,
            kind=Kind.STORED,
            is_nullable=True,
            doc="Title, for people.",
        ),
        Column(
            name="item_release_year",
            dtype=Dtype.INT64,
            kind=Kind.DENSE,
            is_nullable=True,
            minimum=1900,
            maximum=1998,
            unit="year",
            doc="Year of release.",
        ),
        Column(
            name="item_genres",
            dtype=Dtype.STRING_LIST,
            kind=Kind.SPARSE,
            vocabulary=GENRES,
            max_length=len(GENRES),
            doc="Genres of the film, any number of them.",
        ),
    ),
)

SCHEMA = Schema(
    name="movielens-100k",
    doc="Film ratings; every rating is an impression and 4 or 5 stars are a positive.",
    licence="GroupLens MovieLens 100K terms: research use, acknowledgement, no redistribution "
    "without permission",
    user=USER,
    item=ITEM,
    context=(),
    stored=(RATING,),
    # People rate in one sitting: with a thousand of them the hour is a name, not a habit.
    time_context=(),
    label=LABEL,
    tables=(
        user_state(
            item=ITEM,
            label=LABEL,
            history_length=20,
            ttl=datetime.timedelta(days=365),
            delay=datetime.timedelta(seconds=60),
        ),
        item_daily(
            label=LABEL,
            windows_days=(1, 7, 28),
            ttl=datetime.timedelta(days=28),
            delay=datetime.timedelta(hours=2),
        ),
        USER_ATTRIBUTES,
        ITEM_ATTRIBUTES,
    ),
    limits=Limits(
        min_positive_rate=0.2,
        max_positive_rate=0.9,
        # A thousand users: two days have no ratings, another has one.
        min_share_of_trailing_rows=0,
        max_times_trailing_rows=20,
        min_rows=0,
    ),
    history_length=20,
    epoch=datetime.date(1997, 1, 1),
    first_day=datetime.date(1997, 9, 20),
    last_day=datetime.date(1998, 4, 22),
    holdout_days=7,
    item_title="item_title",
)

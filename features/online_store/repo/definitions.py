"""The only Python file that Feast scans: `feast apply` in this folder registers these objects."""

import os

from features.datasets.catalog import schema_of
from features.online_store.feast_store import feast_objects
from features.places import place

for _object in feast_objects(
    schema_of(os.environ["RANKING_DATASET"]), place(os.environ["RANKING_LAKE"])
):
    globals()[_object.name] = _object

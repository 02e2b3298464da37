"""Keys of declared tables are made of what a candidate was served, as the request made them."""

import numpy as np
import pyarrow as pa
from support.features.declared import ALL_KINDS, declared, named, with_tables

from features.parity.request_keys import Users, keys_of_table, reads_users

PAIRS = declared("pairs", ("user_id", "item_category"), named("pairs", ALL_KINDS[:1]))
DEVICES = declared("devices", ("device",), named("devices", ALL_KINDS[:1]))
SCHEMA = with_tables(PAIRS, DEVICES)


def test_a_key_is_made_of_ids_context_and_served_attributes():
    rows = pa.table({"sent_item_id": [1, 2, 3], "device": ["phone", None, "phone"]})
    used = {"item_category": pa.array(["a", "b", None]), "device": rows["device"].combine_chunks()}
    users = Users(pa.array([7, 7, 8]), np.zeros(3, dtype=np.bool_))

    def keys(table):
        return keys_of_table(SCHEMA, table, rows, used=used, users=users).to_pylist()

    assert keys(PAIRS) == ["7|a", "7|b", None]
    assert keys(DEVICES) == ["phone", None, "phone"]
    assert keys(SCHEMA.table("item_daily")) == [1, 2, 3]
    assert keys(SCHEMA.table("user_state")) == [7, 7, 8]


def test_a_pair_with_a_user_cannot_be_judged_without_the_user():
    found = {table.name: reads_users(SCHEMA, table) for table in SCHEMA.tables}
    assert {name for name, is_read in found.items() if is_read} >= {"user_state", "pairs"}
    assert not {"devices", "item_daily"} & {name for name, is_read in found.items() if is_read}

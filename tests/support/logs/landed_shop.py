"""A small shop's schema in which the landed format is left open."""

from features.datasets.schema_files.build import read_data_set

SCHEMA = """\
name: shop
doc: Visits.
licence: ours
first_day: 2025-03-01
holdout_days: 1
epoch: 2024-01-01
item: {name: item_id, type: int64, kind: sparse, num_ids: 21, doc: The article.}
context:
  device: {type: string, kind: sparse, vocabulary: [phone, desktop], doc: Device.}
  seen: {type: list<int64>, kind: sparse, max_length: 5, shares_table_with: item_id, doc: Seen.}
stored:
  bought: {type: int64, doc: Whether it was bought.}
labels:
  sale: {column: bought, positive_from: 1, delay: 1h}
target: sale
tables:
  - kind: item_attributes
    doc: What the shop says.
    columns:
      item_price: {type: float64, kind: dense, doc: Price.}
      item_tags: {type: list<string>, kind: stored, max_length: 9, doc: Tags.}
      item_vector: {type: list<float64>, kind: dense, max_length: 3, doc: An embedding.}
limits:
  min_positive_rate: 0
  max_positive_rate: 1
  min_share_of_trailing_rows: 0
  max_times_trailing_rows: 5
source:
  format: FORMAT
  list_separator: "|"
  time: {column: at UNIT}
  columns: {example_id: id, item_id: article, seen: seen before, item_price: "price, EUR"}
"""


def data_set(tmp_path, form, unit):
    text = SCHEMA.replace("FORMAT", form).replace(" UNIT", f", unit: {unit}" if unit else "")
    (tmp_path / "shop.yaml").write_text(text)
    return read_data_set(tmp_path / "shop.yaml")

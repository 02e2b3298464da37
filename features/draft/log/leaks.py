"""How well one column alone orders impressions by their label."""

import duckdb

MOST_LIKELY_AUC = 0.95
"""Above it a column does not predict the label, it knows it."""
_FEWEST_POSITIVES = 20
"""In each half of the rows; with fewer of either label the number would be chance."""
_MOST_VALUES = 1_000
_BINS = 200


def single_column_auc(
    connection: duckdb.DuckDBPyConnection, table: str, value: str, label: str, *, is_number: bool
) -> float | None:
    """AUC of one column, whatever its order: rows are scored by the positive rate of their value.

    Rates come from one half of the rows and score the other, so that a value which is there once
    does not know its own label. A missing value is a value too. Of texts with very many values it
    counts alone whether there is one; many numbers are put into bins.

    Args:
        connection: Where the table is.
        table: The rows.
        value: The column's value, in SQL.
        label: 1 or 0, in SQL.
        is_number: Whether the value is a number.

    Returns:
        None where a half has fewer than 20 rows of one of the labels.
    """
    rows = f"""SELECT {value} AS value, ({label})::INT AS label,
        row_number() OVER () % 2 AS half FROM {table}"""
    rows = f"SELECT * FROM ({rows}) WHERE label IS NOT NULL"
    many = f"(SELECT count(DISTINCT value) FROM rows) > {_MOST_VALUES}"
    binned = f"floor({_BINS} * percent_rank() OVER (ORDER BY value))::VARCHAR"
    collapsed = binned if is_number else "'there'"
    found = connection.execute(
        f"""WITH rows AS MATERIALIZED ({rows}),
        sized AS (SELECT {many} AS many),
        named AS (SELECT label, half, CASE WHEN value IS NULL THEN 'missing'
            WHEN many THEN {collapsed} ELSE 'v' || value::VARCHAR END AS name FROM rows, sized),
        counted AS (SELECT name, half, count(*) AS n, sum(label) AS p FROM named GROUP BY ALL),
        whole AS (SELECT half, sum(n) AS n, sum(p) AS p FROM counted GROUP BY half),
        scored AS (SELECT c.half, c.n, c.p, coalesce(o.p / o.n, w.p / w.n) AS score
            FROM counted c LEFT JOIN counted o ON c.name = o.name AND c.half <> o.half
            JOIN whole w ON w.half <> c.half),
        steps AS (SELECT half, score, sum(n - p) AS neg, sum(p) AS pos FROM scored GROUP BY ALL),
        ranked AS (SELECT half, pos, neg, coalesce(sum(neg) OVER (PARTITION BY half ORDER BY score
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS below FROM steps)
        SELECT sum(pos), sum(neg), sum(pos * (below + neg / 2)) FROM ranked GROUP BY half"""
    ).fetchall()
    halves = [(float(pos), float(neg), float(won)) for pos, neg, won in found]
    if len(halves) < 2 or any(min(pos, neg) < _FEWEST_POSITIVES for pos, neg, _ in halves):
        return None
    return sum(won / (pos * neg) for pos, neg, won in halves) / len(halves)


def label_sql(column: str, positive_from: float) -> str:
    """1 or 0 for a positive or a negative row, null where its value is no number."""
    return f"(try_cast({column} AS DOUBLE) >= {positive_from})::INT"

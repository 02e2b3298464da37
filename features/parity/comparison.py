"""Logged answers against the replayed join: how much differs, of which feature, and why."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from features.encoding.encode import encode
from features.lake.lake import Lake
from features.online_store.codec import ARROW_TYPES, STAMP
from features.parity.causes import CAUSES, Cause, Mask, causes_of
from features.parity.differences import differing_inputs, features_of
from features.parity.evidence import Differing, LakeHistory, evidence_of
from features.parity.examples import Codes, worst_rows
from features.parity.logged import Sample, Weights
from features.parity.replay import (
    Answers,
    Served,
    TableReplay,
    column_or_nulls,
    expected_rows,
    not_judged,
    whole_until,
)
from features.parity.request_keys import Users, keys_of_table, reads_users, users_of
from features.prediction_log.hashed_ids import IdHash
from features.schema import REQUEST_TIME, Schema

_NONE = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tally:
    """A feature over all judged candidates, in weights: answers that each candidate stands for."""

    table: str
    feature: str
    compared: float
    by_cause: Mapping[Cause, float]
    """Those that differ."""
    encoded: float
    """Of which the inputs of the model differ, too."""
    rows: int
    """Logged candidates that differ."""

    @property
    def mismatched(self) -> float:
        """Those that differ, whatever the cause."""
        return sum(self.by_cause.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison has found."""

    tallies: list[Tally]
    compared: float
    """Weight of the candidates of which any table was judged."""
    by_cause: Mapping[Cause, float]
    """Weight of those of which any feature differs for the cause."""
    mismatched: float
    """Weight of those of which any feature differs."""
    not_judged: Mapping[str, Mapping[str, int]]
    """By table and reason, logged candidates."""
    not_logged: list[str]
    """Features that the log has no column of."""
    versions: Mapping[str, int]
    """Of the lake's tables."""
    examples: list[dict[str, object]]

    def share(self, cause: Cause) -> float:
        """Of the compared candidates, those with a mismatch of a cause."""
        return self.by_cause[cause] / self.compared if self.compared else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Differences:
    """Where what was served to N candidates differs: each a mask, of all tables."""

    features: Mapping[str, Mask]
    """By value."""
    inputs: Mapping[str, Mask]
    """Of the model, by what the encoder makes; not where a table that it is made of is not judged.
    """
    sources: Mapping[str, Mask]
    """By input, whether any feature that it is made of differs by value."""


def compare(schema: Schema, lake: Lake, sample: Sample, hashed: IdHash | None) -> Comparison:
    """Compare what was served with what the as-of join gives.

    Args:
        schema: The data set's schema.
        lake: Its lake.
        sample: Logged candidates.
        hashed: Hashes by the log's key; None: there is none, and users of a log with hashed ids are
            not judged.
    """
    rows, weights = sample.rows, sample.weights
    answers = Answers.of(schema, rows)
    users = users_of(schema, lake, rows, hashed, times=answers.time)
    replays = list(_replays(schema, lake, rows, answers, users))
    found = _differences(schema, rows, replays)
    tallies: list[Tally] = []
    examples: list[dict[str, object]] = []
    has_cause = np.zeros((len(CAUSES), len(rows)), dtype=np.bool_)
    for one in replays:
        codes, is_encoded = _codes(schema, lake, one, answers, found)
        tallies += _tallies(one, codes, is_encoded, weights)
        examples += worst_rows(one, codes, rows)
        for place in range(len(CAUSES)):
            has_cause[place] |= np.any([of == place for of in codes.values()], axis=0)
    is_compared = np.any([one.is_judged for one in replays], axis=0)
    return Comparison(
        tallies=tallies,
        compared=float(weights[is_compared].sum()),
        by_cause={cause: float(weights[has_cause[n]].sum()) for n, cause in enumerate(CAUSES)},
        mismatched=float(weights[has_cause.any(axis=0)].sum()),
        not_judged={one.table.name: one.reasons for one in replays if one.reasons},
        not_logged=[
            name
            for one in replays
            for name in one.table.encoded_columns
            if name not in one.served.values
        ],
        versions={one.table.name: lake.snapshot(one.table.name).version for one in replays},
        examples=examples,
    )


def _replays(
    schema: Schema, lake: Lake, rows: pa.Table, answers: Answers, users: Users
) -> Iterator[TableReplay]:
    served = {table.name: Served.of(table, rows) for table in schema.tables}
    used = _own_columns(schema, rows)
    for one in served.values():
        used |= one.used
    for table in schema.tables:
        is_hidden = users.is_hidden & reads_users(schema, table)
        until = whole_until(schema, lake, table)
        reasons = not_judged(answers, served[table.name], until=until, is_hidden=is_hidden)
        is_judged = ~np.any(list(reasons.values()), axis=0)
        keys = keys_of_table(schema, table, rows, used=used, users=users)
        yield TableReplay(
            table=table,
            served=served[table.name],
            expected=expected_rows(schema, lake, table, keys, answers, is_judged),
            is_judged=is_judged,
            reasons={reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()},
        )


def _own_columns(schema: Schema, rows: pa.Table) -> dict[str, pa.Array]:
    """What requests brought along."""
    columns = (*(column for _, column in schema.entities()), *schema.context)
    kinds = {column.name: ARROW_TYPES[column.dtype] for column in columns}
    kinds[REQUEST_TIME.name] = STAMP
    return {name: column_or_nulls(rows, name, kind) for name, kind in kinds.items()}


def _differences(schema: Schema, rows: pa.Table, replays: list[TableReplay]) -> Differences:
    inputs = _differing_inputs(schema, rows, replays)
    sources = {name: np.zeros(len(rows), dtype=np.bool_) for name in inputs}
    features = {}
    for one in replays:
        for name, made in features_of(schema, one.table).items():
            features[name] = one.differs(name)
            for of in made:
                inputs[of] = inputs[of] & one.is_judged
                sources[of] |= features[name]
    return Differences(features=features, inputs=inputs, sources=sources)


def _differing_inputs(
    schema: Schema, rows: pa.Table, replays: list[TableReplay]
) -> dict[str, Mask]:
    """(N,) by input of the model, whether the encoder makes another one of what was served."""
    own = _own_columns(schema, rows)
    sides: tuple[dict[str, pa.Array], dict[str, pa.Array]] = ({**own}, {**own})
    for one in replays:
        used, expected = one.served.used, one.expected.used
        for name in one.table.encoded_columns:
            kind = expected[name].type
            sides[0][name] = used.get(name, pa.nulls(len(rows), kind))
            sides[1][name] = expected[name] if name in used else pa.nulls(len(rows), kind)
    served, wanted = (encode(schema, columns) for columns in sides)
    return differing_inputs(served, wanted, schema)


def _codes(
    schema: Schema, lake: Lake, one: TableReplay, answers: Answers, of_all: Differences
) -> tuple[dict[str, Codes], dict[str, Mask]]:
    """By feature of a table, each candidate's cause; and whether its inputs differ."""
    features = features_of(schema, one.table)
    differs = {name: of_all.features[name] for name in features}
    places = np.flatnonzero(np.any(list(differs.values()), axis=0))
    of_row = np.full(len(one.is_judged), _NONE, dtype=np.int8)
    is_same_row = np.zeros(len(one.is_judged), dtype=np.bool_)
    if len(places):
        differing = Differing(
            schema=schema,
            table=one.table,
            places=places,
            served=one.served,
            expected=one.expected,
            answers=answers,
        )
        seen = evidence_of(differing, LakeHistory(lake.snapshot(one.table.name)))
        of_row[places] = [CAUSES.index(cause) for cause in causes_of(seen)]
        is_same_row[places] = seen.is_same_row
    codes, is_encoded = {}, {}
    for name, made in features.items():
        is_input = [(of_all.inputs[of] | answers.is_other_schema) & one.is_judged for of in made]
        is_encoded[name] = np.any(is_input, axis=0)
        # An input may be made of several features, of more than one table.
        is_own = [~of_all.sources[of] for of in made]
        found = np.where(differs[name], of_row, _NONE).astype(np.int8)
        found[np.any(np.logical_and(is_input, is_own), axis=0)] = CAUSES.index(Cause.ENCODER)
        is_open = found == CAUSES.index(Cause.UNEXPLAINED)
        found[is_open & is_same_row & one.is_absent(name)] = CAUSES.index(Cause.DEFAULT)
        codes[name] = found
    return codes, is_encoded


def _tallies(
    one: TableReplay,
    codes: Mapping[str, Codes],
    is_encoded: Mapping[str, Mask],
    weights: Weights,
) -> Iterator[Tally]:
    for name, of_feature in codes.items():
        is_other = of_feature != _NONE
        found = np.bincount(of_feature[is_other], weights[is_other], minlength=len(CAUSES))
        yield Tally(
            table=one.table.name,
            feature=name,
            compared=float(weights[one.is_judged].sum()),
            by_cause={c: float(found[n]) for n, c in enumerate(CAUSES) if found[n]},
            encoded=float(weights[is_encoded[name] & is_other].sum()),
            rows=int(is_other.sum()),
        )

"""Whose data are erased, by id; no Spark, for the models are erased where there is none."""

import dataclasses

from features.schema import Dtype, Schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class Person:
    """Whose rows are looked for."""

    schema: Schema
    user_id: int | str
    requests: frozenset[int | str] = frozenset()
    """Ids of the user's requests, by which events are known that do not have the user's id."""
    examples: frozenset[int | str] = frozenset()
    """Ids of the user's impressions, by which changes to re-admitted ones are known."""


def person_of(schema: Schema, text: str) -> Person:
    """The user whose id a person has typed; ValueError where it cannot be one."""
    if schema.user is None:
        raise ValueError(f"dataset {schema.name}: users have no id; nobody can be erased by one")
    if schema.user.dtype is Dtype.STRING:
        return Person(schema=schema, user_id=text)
    try:
        return Person(schema=schema, user_id=int(text))
    except ValueError as error:
        raise ValueError(f"--user: {schema.user.name} is of type {schema.user.dtype}") from error

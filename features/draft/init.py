"""Files and tables of a log, to the schema file that is drafted from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from features.datasets.schema_files.build import read_data_set
from features.datasets.schema_files.problems import SchemaFileError
from features.draft.commented_yaml import Question
from features.draft.drafts import draft
from features.draft.log.names import file_name
from features.draft.log.sample import connect, open_sample, sample_name
from features.places import Place


class Drafted(NamedTuple):
    """A schema file that was written, and what is left to a person."""

    path: Path
    rows: int
    questions: tuple[Question, ...]
    """What the sample does not say; the file is no schema yet."""
    notes: tuple[str, ...]
    problem: str
    """Why the file is no schema, as ``describe`` says it; empty where it is one."""


def init(
    paths: Sequence[Place],
    *,
    output: Path | None,
    name: str | None,
    items: Place | None,
    users: Place | None,
    max_rows: int,
) -> Drafted:
    """Draft the schema file of a log.

    Args:
        paths: Files, folders of files, or a Delta table with impressions.
        output: The file to write; by default the name's, in the working folder.
        name: Of the data set; by default that of the output, or of the first of ``paths``.
        items: A file with what is known of items.
        users: A file with what is known of users.
        max_rows: Most rows to read of each.

    Raises:
        ValueError: A file cannot be read, or the output is there already.
    """
    name = name or (output.stem if output else file_name(sample_name(paths[0])))
    output = output or Path(f"{name}.yaml")
    if output.stem != name:
        raise ValueError(f"--output {output}: a schema file is named as its data set, {name}.yaml")
    if output.exists():
        raise ValueError(f"--output {output}: is there already; remove it, or choose another name")
    connection = connect()
    sample = open_sample(connection, paths, max_rows=max_rows)
    extra = {
        role: open_sample(connection, [path], max_rows=max_rows, table=role)
        for role, path in (("items", items), ("users", users))
        if path is not None
    }
    made = draft(sample, name=name, items=extra.get("items"), users=extra.get("users"))
    output.write_text(made.written.text)
    return Drafted(output, sample.rows, made.written.questions, made.notes, _problem(output))


def _problem(path: Path) -> str:
    try:
        read_data_set(path)
    except SchemaFileError as error:
        return str(error)
    return ""

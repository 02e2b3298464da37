"""The commands of ``python -m features`` about schema files: draft, check and describe them."""

import json
import sys

from features.cli import Command, FailedError, Summary
from features.datasets.catalog import data_set_at, data_set_of, names
from features.requests import (
    CheckRequest,
    DescribeRequest,
    DocumentRequest,
    InitRequest,
    LandRequest,
    SchemaJsonRequest,
    SchemaYamlRequest,
)


def _init(request: InitRequest) -> Summary:
    from features.draft.init import init

    made = init(
        request.source,
        output=request.output,
        name=request.name,
        items=request.items,
        users=request.users,
        max_rows=request.rows,
    )
    for note in made.notes:
        sys.stderr.write(f"note: {note}\n")
    summary: Summary = {"output": str(made.path), "rows": made.rows, "notes": list(made.notes)}
    if made.questions or made.problem:
        asked = [f"{made.path}:{one.line}: {one.key}: {one.question}" for one in made.questions]
        lines = asked or made.problem.splitlines()
        reason = f"{made.path} is written, and this is left to say ({len(lines)}):"
        raise FailedError("\n".join([reason, *lines]), {**summary, "questions": lines})
    return summary


def _land(request: LandRequest) -> Summary:
    from features.draft.land import land

    data_set = data_set_at(request.schema)
    days = land(data_set, request.source, request.landing / data_set.schema.name)
    return {
        "dataset": data_set.schema.name,
        "rows": sum(days.values()),
        "days": len(days),
        "first_day": str(min(days)),
        "last_day": str(max(days)),
        "landing": str(request.landing / data_set.schema.name),
    }


def _document(request: DocumentRequest) -> Summary:
    from features.datasets.feature_reference import reference

    text = reference(data_set_of(name).schema for name in names())
    request.output.write_text(text)
    return {"output": str(request.output), "lines": text.count("\n")}


def _check(request: CheckRequest) -> Summary:
    from features.draft.checks.check import check
    from features.draft.checks.findings import as_json

    data_set = data_set_at(request.schema)
    found = check(data_set, request.landing, request.days)
    summary: Summary = {
        "dataset": data_set.schema.name,
        "days": [str(day) for day in found.days],
        "rows": found.rows,
        "findings": as_json(found.findings),
        "markdown": found.page,
    }
    if found.errors:
        first = found.errors[0]
        more = f", the first of {len(found.errors)} errors" if found.errors[1:] else ""
        reason = f"{first.key}: {first.said}{more}"
        raise FailedError(reason, summary)
    return summary


def _describe(request: DescribeRequest) -> Summary:
    from features.datasets import description

    if not (request.dataset or request.schema):
        listed = description.listing()
        if request.json:
            return {"document": json.dumps(listed, indent=2) + "\n"}
        return {"datasets": listed, "markdown": description.listing_in_words()}
    data_set = data_set_at(request.schema) if request.schema else data_set_of(request.dataset or "")
    summary: Summary = {"dataset": data_set.schema.name, "file": str(data_set.path)}
    if request.json:
        document = json.dumps(description.described(data_set), indent=2) + "\n"
        return {"document": document, **summary}
    if request.markdown:
        from features.datasets.feature_reference import reference

        return {"document": reference([data_set.schema]), **summary}
    return {"markdown": description.in_words(data_set), **summary}


def _schema_json(request: SchemaJsonRequest) -> Summary:
    from features.datasets.schema_files.json_schema import json_schema

    text = json_schema()
    request.output.write_text(text)
    return {"output": str(request.output), "lines": text.count("\n")}


def _schema_yaml(request: SchemaYamlRequest) -> Summary:
    from features.datasets.python_yaml import write_yaml

    return {"output": str(write_yaml(request.schema, request.output))}


SCHEMA_COMMANDS: dict[str, Command] = {
    "init": _init,
    "land": _land,
    "check": _check,
    "describe": _describe,
    "document": _document,
    "schema-json": _schema_json,
    "schema-yaml": _schema_yaml,
}
"""In the order in which they are used."""

"""What the environment decides: groups of variables as models, checked at the start.

``docs/configuration.md`` is made from the groups and lists of variables of all folders.
"""

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import FilePath, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from features.places import Place

Environment = Mapping[str, str]


class Variable(NamedTuple):
    """One row of the reference."""

    name: str
    values: str
    default: str
    meaning: str


class Group(BaseSettings):
    """Values that the environment may set: the alias of a field is its variable.

    The constructor takes values by the names of fields, and reads no environment. An empty variable
    counts as not set, unless a group says otherwise.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        populate_by_name=True,
        case_sensitive=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the constructor is given, and nothing else."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """What the environment says; ValueError names the variable, its value and its limit."""
        fields = {str(field.validation_alias): field for field in cls.model_fields.values()}
        keeps_empty = not cls.model_config.get("env_ignore_empty")
        source = EnvSettingsSource(cls)
        # By these names alone: the source would take `token` and `key` for variables, too.
        source.env_vars = {
            name: environment[name]
            for name in fields
            if name in environment and (environment[name] or keeps_empty)
        }
        try:
            return cls(**source())
        except ValidationError as error:
            texts = []
            for one in error.errors():
                name, cause = str(one["loc"][0]), one.get("ctx", {}).get("error")
                said = str(cause or f"{one['input']!r}; {_values(fields[name])}")
                texts.append(f"{name}: {said}")
            # The cause would show values, and one of them may be a secret.
            raise ValueError("\n".join(texts)) from None

    @classmethod
    def variables(cls) -> list[Variable]:
        """The rows of the reference."""
        return [
            Variable(
                str(field.validation_alias),
                _values(field),
                _default(field.default),
                " ".join((field.description or "").split()),
            )
            for field in cls.model_fields.values()
        ]


PLACE_VALUES = "a folder, or s3://bucket/prefix"
_WORDS: dict[object, str] = {
    bool: "1 or 0",
    str: "text",
    Path: "a folder",
    Place: PLACE_VALUES,
    str | None: "text, or not set at all",
    FilePath | None: "a file that exists, or not set at all",
}


def _values(field: FieldInfo) -> str:
    low = next((one.ge for one in field.metadata if hasattr(one, "ge")), None)
    high = next((one.le for one in field.metadata if hasattr(one, "le")), None)
    if low is not None:
        return f"a number from {low} to {high}"
    kind = field.annotation
    if isinstance(kind, enum.EnumMeta):
        return f"one of {[str(value) for value in kind]}"
    return _WORDS[kind]


def _default(value: object) -> str:
    if value is None or str(value) in {"", "."}:
        return "not set"
    return str(int(value) if isinstance(value, bool) else value)


VARIABLES = (
    Variable(
        "RANKING_VAR",
        "a folder",
        "var",
        "Folder of this machine's state: MLflow's database, native code, caches, logs.",
    ),
    Variable(
        "RANKING_ROOT",
        PLACE_VALUES,
        "the folder RANKING_VAR",
        "Where all data lie: what lands, the lake, checkpoints, artifacts, reports. Credentials of "
        "an object store come as for all clients of AWS, and so does AWS_ENDPOINT_URL.",
    ),
    Variable(
        "RANKING_RUN",
        "text",
        "by hand",
        "The run of which a job is a part, as the log of a table names it; DAGs set it.",
    ),
    Variable(
        "RANKING_LEASE",
        "a whole number",
        "none",
        "The number of the run's lease: the lake refuses a commit under a number lower than one "
        "that has written; DAGs set it.",
    ),
    Variable(
        "RANKING_RESULT",
        "a file, or s3://bucket/path",
        "none",
        "Where a command puts its exit code and summary, too; the launcher of a job sets it.",
    ),
    Variable(
        "RANKING_MAX_UNEXPLAINED",
        "0 to below 1",
        "0.001",
        "Share of candidates with an unexplained difference between what was served and what the "
        "lake says, above which parity is broken: an alert, and no candidate is promoted.",
    ),
    Variable(
        "RANKING_REQUIRE_PARITY",
        "on or off",
        "off",
        "Whether a candidate is held, too, where there is no result of parity or none that is new "
        "enough.",
    ),
    Variable(
        "RANKING_POLICY",
        "a file",
        "`infra/policy.yaml`",
        "What follows from what the monitors found.",
    ),
    Variable(
        "RANKING_SPARK_PACKAGES",
        "Maven coordinates, separated by commas",
        "none",
        "What a Spark of the jobs' own loads besides its jars, from a Maven repository, such as "
        "the Kafka connector; a Spark server has settings of its own.",
    ),
    Variable(
        "RANKING_SPARK_NATIVE",
        "1 or 0",
        "0",
        "Whether Spark reads an object store by `s3a://`, where it has hadoop-aws; not tested. "
        "Else its tasks read with pyarrow.",
    ),
    Variable(
        "RANKING_ONLINE",
        "sqlite, or redis://[:password@]host[:port][/database], or rediss:// for TLS",
        "sqlite",
        "The online store: a file next to Feast's registry, or a Redis server, the only one where "
        "the registry is in an object store.",
    ),
    Variable(
        "RANKING_REGISTRY",
        "an address as SQLAlchemy has it, such as postgresql+psycopg://user:password@host/feast",
        "not set",
        "The database of Feast's registry, with Redis as the online store; not set, a file below "
        "the root.",
    ),
    Variable(
        "RANKING_SCHEMAS",
        "files and folders, separated by `:`",
        "not set",
        "Schema files of data sets, besides the built-in ones and those of installed packages "
        "(entry points `wukong_ranking.schemas`); the same for all parts of a deployment.",
    ),
    Variable(
        "RANKING_PUSH",
        "on or off",
        "on",
        "Whether a push brings users online within a day; the same for all parts of a deployment.",
    ),
    Variable(
        "RANKING_PUSH_PORT",
        "a number from 0 to 65535",
        "8083",
        "Port of the metrics of `push --follow`, on loopback without `--metrics-host`; 0: none.",
    ),
)
"""What modules of ``features`` read."""

FEAST_VARIABLES = (
    Variable("RANKING_DATASET", "a data set", "none", "The data set whose objects are meant."),
    Variable("RANKING_LAKE", PLACE_VALUES, "none", "The lake that the objects name."),
    Variable("RANKING_STORE", PLACE_VALUES, "none", "Of the registry and the SQLite file."),
    Variable("RANKING_PROJECT", "text", "none", "Feast's project, one for each data set in Redis."),
    Variable("RANKING_ONLINE_TYPE", "a class", "none", "Class of the online store."),
    Variable("RANKING_ONLINE_ADDRESS", "host:port,db=0", "none", "Redis as Feast writes it."),
)
"""What the Feast repository reads: set by a person who runs ``feast``."""

"""What the environment decides of the prediction log: its share, place and lifetime, its key."""

import os
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, FilePath
from pydantic_settings import SettingsConfigDict

from features.environment import Environment, Group
from features.places import Place, place

MIN_KEY_BYTES = 32


class Logging(Group):
    """Which answers are written down, and where."""

    share: float = Field(default=0.0, ge=0.0, le=1.0, validation_alias="RANKING_LOG_SHARE")
    """Share of the answers that are written down, besides all degraded ones and those of a canary;
    0: none at all."""
    folder: Annotated[Place, BeforeValidator(place)] = Field(
        default=place(""), validation_alias="RANKING_LOG_FOLDER"
    )
    """Where the answers that are written down lie; required where there is a share."""
    flush_seconds: float = Field(
        default=60.0, ge=0.1, le=3600, validation_alias="RANKING_LOG_SECONDS"
    )
    """How long an answer waits at most until it is in a file."""
    keep_days: int = Field(default=30, ge=1, le=3650, validation_alias="RANKING_LOG_KEEP_DAYS")
    """Days of answers that `python -m serving prune-log` keeps."""

    @property
    def has_folder(self) -> bool:
        """Whether a folder was named."""
        return "folder" in self.model_fields_set

    @classmethod
    def from_environment(cls, environment: Environment = os.environ) -> Self:
        """Its variables; a share needs a folder."""
        found = super().from_environment(environment)
        if found.share and not found.has_folder:
            raise ValueError(
                f"RANKING_LOG_FOLDER: not set; a folder, as RANKING_LOG_SHARE={found.share}"
            )
        return found


class LogKey(Group):
    """The secret by which ids are hashed; set but empty is an error: ids must not stay readable."""

    model_config = SettingsConfigDict(env_ignore_empty=False)

    text: str | None = Field(default=None, validation_alias="RANKING_LOG_HASH_KEY", repr=False)
    """Key by which ids of users and requests are hashed (HMAC-SHA256) before they are written to
    the log of answers, at least 32 bytes; not set, they are written as they are."""
    file: FilePath | None = Field(default=None, validation_alias="RANKING_LOG_HASH_KEY_FILE")
    """A file that holds this key, instead of the variable; white space at its ends is left out."""

    def secret(self) -> bytes | None:
        """The key; None: ids are not hashed.

        Raises:
            ValueError: Both are set, or the key is shorter than ``MIN_KEY_BYTES`` bytes.
            OSError: The file cannot be read.
        """
        if self.text is not None and self.file is not None:
            raise ValueError(
                f"RANKING_LOG_HASH_KEY, RANKING_LOG_HASH_KEY_FILE: both are set, the second to "
                f"{self.file}; one of them"
            )
        if self.text is None and self.file is None:
            return None
        key = self.text.encode() if self.file is None else self.file.read_bytes().strip()  # type: ignore[union-attr]
        if len(key) < MIN_KEY_BYTES:
            name = (
                "RANKING_LOG_HASH_KEY"
                if self.file is None
                else f"RANKING_LOG_HASH_KEY_FILE: {self.file}"
            )
            raise ValueError(f"{name}: {len(key)} bytes; at least {MIN_KEY_BYTES}")
        return key

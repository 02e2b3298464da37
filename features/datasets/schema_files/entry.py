"""What all mappings of a schema file share: known keys, and values of exactly their types."""

import difflib

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

UNKNOWN_KEY = "unknown_key"
"""Type of the error about a key that there is not; its context has the key."""


class Entry(BaseModel):
    """A mapping with known keys; its values are of exactly the types named."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, value: object) -> object:
        known = list(cls.model_fields)
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                raise PydanticCustomError(
                    UNKNOWN_KEY,
                    "unknown key; {hint}",
                    {
                        "key": key,
                        "hint": f"do you mean {near[0]}?" if near else f"the keys are {known}",
                    },
                )
        return value

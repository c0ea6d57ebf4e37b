"""Request bodies whose validation errors are part of what the server shows."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from .errors import BrokenError
from .scopes import Scope

_COMPONENT = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*|\*")


class ScopeBody(BaseModel):
    """A scope on the wire: null, `*` and a missing key are all wildcards."""

    model_config = ConfigDict(frozen=True)

    org: str | None = None
    campaign: str | None = None
    project: str | None = None

    @model_validator(mode="before")
    @classmethod
    def check_hierarchy(cls, values: Any) -> Any:
        """No level may be given below one that is not; anything but an object breaks the server."""
        if not isinstance(values, dict):
            raise BrokenError(f"a scope that is {type(values).__name__}")
        given = {name: values.get(name) for name in ("org", "campaign", "project")}
        levels = [level is not None for level in given.values()]
        if levels != sorted(levels, reverse=True):
            raise ValueError(
                f"Invalid scope hierarchy: {values}, cannot specify wildcard ('*') in a scope "
                "component if a less specific scope component is not given, unless all "
                "components are wildcards (*-*-*)."
            )
        return values

    @field_validator("org", "campaign", "project")
    @classmethod
    def check_component(cls, value: str | None, info: ValidationInfo) -> str | None:
        """A name, or a wildcard."""
        if value is None:
            return None
        if not _COMPONENT.fullmatch(value):
            raise ValueError(
                f"'{info.field_name}' must either start with an alphabetical and contain only "
                "alphanumeric or underscore ('_') thereafter OR must be a single asterisk ('*')"
            )
        return None if value == "*" else value

    def scope(self) -> Scope:
        """The scope itself."""
        return Scope(self.org, self.campaign, self.project)

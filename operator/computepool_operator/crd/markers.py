"""Annotations with which a pydantic model says what only a Kubernetes schema can say.

They stand in `Annotated[...]` beside the type and add keywords to the model's JSON schema, which
`crd.schema` turns into a structural schema. None of them refuses anything in Python: admission is
the API server's work, and `AtMost` cuts what the API server would refuse to store.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS: Final = "x-kubernetes-validations"


@dataclass(frozen=True, eq=False)  # by identity: `Annotated[...] | None` hashes its parts
class Keywords:
    """Adds schema keywords to the annotated type, in place of those of the same name."""

    keywords: dict[str, Any]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the annotated type with the keywords."""
        return {**handler(core_schema), **self.keywords}


@dataclass(frozen=True)
class Rule:
    """A CEL rule that the API server checks at admission.

    `message` completes the API server's "FIELD: Invalid value: VALUE: " and says what to do.
    """

    rule: str
    message: str

    def keyword(self) -> dict[str, str]:
        """Return one item of `x-kubernetes-validations`."""
        return {"rule": self.rule, "message": self.message}

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the annotated type with this rule behind those it has."""
        schema = handler(core_schema)
        return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), self.keyword()]}


@dataclass(frozen=True)
class AtMost:
    """Cuts a text to so many characters, or a list to so many items, and says so in the schema.

    For status fields: what the operator reports must be storable however long its source is.
    """

    size: int

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the validation of the annotated type with the cut before it."""
        return BeforeValidator(self._cut).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the annotated type with its limit."""
        schema = handler(core_schema)
        keyword = "maxItems" if schema.get("type") == "array" else "maxLength"
        return {**schema, keyword: self.size}

    def _cut(self, value: object) -> object:
        match value:
            case str() if len(value) > self.size:
                return value[: self.size - 1] + "…"
            case list() | tuple():
                return value[: self.size]
            case _:
                return value

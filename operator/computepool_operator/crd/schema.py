"""From a pydantic model to the structural schema of a custom resource definition.

A structural schema has no references and no alternatives: every value has one type
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
Optional fields are left out rather than `nullable`: the API server then drops a `null` that
somebody writes, so an object never differs from its manifest by a stored null.
"""

import re
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from computepool_operator.amount import Mebibytes, format_amount
from computepool_operator.crd.markers import VALIDATIONS
from computepool_operator.crd.pod_schemas import PRESERVE
from computepool_operator.duration import format_duration

# The keywords that are written, in the order in which they are written.
_KEYWORDS: Final = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    VALIDATIONS,
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    PRESERVE,
    "properties",
    "items",
    "additionalProperties",
)
_LEFT_OUT: Final = {"title", "$defs", "$ref"}


def structural_schema(model: type[BaseModel], *, defaults: bool) -> dict[str, Any]:
    """Return the structural schema of a model.

    `defaults` says whether the API server fills in absent fields: in a spec it should, so that
    people see what holds; a status is what the operator wrote and no more.

    Raises ValueError for a model that a structural schema cannot express.
    """
    document = model.model_json_schema(
        by_alias=True, mode="validation", schema_generator=_DefaultsAsWritten
    )
    return _Converter(document.get("$defs", {}), defaults=defaults).convert(document)


class _DefaultsAsWritten(GenerateJsonSchema):
    """Writes the default of a duration or an amount as people write it."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Mebibytes):
            return format_amount(dft)
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class _Converter:
    def __init__(self, definitions: dict[str, Any], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = self._resolve(schema)
        if unknown := schema.keys() - set(_KEYWORDS) - _LEFT_OUT:
            msg = f"a structural schema cannot express {sorted(unknown)} of {schema}"
            raise ValueError(msg)
        converted: dict[str, Any] = {key: schema[key] for key in _KEYWORDS if key in schema}
        if "description" in converted:
            converted["description"] = _unwrap(converted["description"])
        if "default" in converted:
            if not self._defaults or converted["default"] is None:
                del converted["default"]
            elif "properties" in converted:
                # The members have their own defaults, which the API server adds to this.
                converted["default"] = {}
        if "properties" in converted:
            converted["properties"] = {
                name: self.convert(member) for name, member in converted["properties"].items()
            }
        if "items" in converted:
            converted["items"] = self.convert(converted["items"])
        match converted.get("additionalProperties"):
            case dict() as values:
                converted["additionalProperties"] = self.convert(values)
            case True:  # what pydantic says of a dict: its fields are kept as they are
                del converted["additionalProperties"]
                converted[PRESERVE] = True
        return converted

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema with its reference inlined and without the alternative `null`."""
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
            return self._resolve({**target, **{k: v for k, v in schema.items() if k != "$ref"}})
        if "anyOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            alternatives = [item for item in schema["anyOf"] if item != {"type": "null"}]
            if len(alternatives) != 1:
                msg = f"a structural schema has one type for a value, not those of {schema}"
                raise ValueError(msg)
            return self._resolve({**alternatives[0], **rest})
        return schema


def _unwrap(text: str) -> str:
    """Join the lines of each paragraph, which is how `kubectl explain` expects them."""
    return "\n\n".join(" ".join(p.split()) for p in re.split(r"\n\s*\n", text.strip()))

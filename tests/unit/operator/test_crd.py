"""The definition and the reference page: up to date, complete, and fit for people."""

import re
import runpy
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from computepool_operator.crd.manifest import (
    custom_resource_definition,
    custom_resource_definition_yaml,
)
from computepool_operator.crd.markers import VALIDATIONS, AtMost, Rule
from computepool_operator.crd.pod_schemas import PRESERVE
from computepool_operator.crd.reference import reference_page
from computepool_operator.crd.schema import structural_schema
from computepool_operator.duration import parse_duration

ROOT = Path(__file__).parents[3]
Schema = dict[str, Any]


def schema() -> Schema:
    (version,) = custom_resource_definition()["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def walk(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, node
    for name, member in node.get("properties", {}).items():
        yield from walk(member, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from walk(node[key], f"{path}[]")


NODES = {
    path: node
    for part in ("spec", "status")
    for path, node in walk(schema()["properties"][part], part)
}
FIELDS = [path for path in NODES if not path.endswith("[]")]
RULED = [path for path in NODES if VALIDATIONS in NODES[path]]


DEFAULTED = [path for path in NODES if "default" in NODES[path]]
TYPES: dict[str, type] = {
    "string": str, "integer": int, "boolean": bool, "array": list, "object": dict
}  # fmt: skip


@pytest.mark.parametrize("path", DEFAULTED)
def test_a_default_is_of_its_field_s_type(path: str) -> None:
    node = NODES[path]
    assert type(node["default"]) is TYPES[node["type"]]


# Up to date


@pytest.mark.parametrize(
    ("file", "generated"),
    [
        ("crds/computepools.yaml", custom_resource_definition_yaml),
        ("docs/pool-reference.md", reference_page),
    ],
)
def test_the_file_is_what_the_models_say(file: str, generated: Any) -> None:
    assert (ROOT / file).read_text("utf-8") == generated(), f"{file} is stale: run `make crd`"


@pytest.mark.parametrize(
    ("arguments", "generated"),
    [([], custom_resource_definition_yaml), (["--reference"], reference_page)],
)
def test_the_command_writes_either(
    arguments: list[str],
    generated: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["crd", *arguments])
    runpy.run_module("computepool_operator.crd", run_name="__main__")
    assert capsys.readouterr().out == generated()


def test_the_definition_fits_the_annotation_of_a_client_side_apply() -> None:
    assert len(custom_resource_definition_yaml().encode()) < 262_144


# Complete


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_is_described(path: str) -> None:
    assert NODES[path]["description"].endswith(".")
    assert "\n" not in NODES[path]["description"]


@pytest.mark.parametrize("path", NODES)
def test_every_text_and_list_has_a_limit_so_that_the_cost_of_rules_is_known(path: str) -> None:
    node = NODES[path]
    match node.get("type"):
        case "string":
            assert "maxLength" in node or "enum" in node or node.get("format") == "date-time"
        case "array":
            assert "maxItems" in node
        case "object":
            assert "additionalProperties" not in node or "maxProperties" in node
        case "integer":
            assert "minimum" in node


@pytest.mark.parametrize("path", RULED)
def test_every_rule_has_a_message_of_one_line(path: str) -> None:
    for rule in NODES[path][VALIDATIONS]:
        assert rule["message"]
        assert "\n" not in rule["message"]
        assert not rule["message"].endswith(".")


def test_no_field_of_ours_is_pruned_or_kept_by_accident() -> None:
    kept = {path for path, node in walk(schema()["properties"]["spec"], "spec") if PRESERVE in node}
    assert {path for path in kept if path.count(".") == 2} == {
        "spec.worker.resources",
        "spec.worker.spool",
        "spec.worker.podTemplate",
    }
    assert all(path.startswith("spec.worker.") for path in kept)
    assert not [path for path, node in walk(schema()["properties"]["status"]) if PRESERVE in node]


def test_a_status_has_no_defaults_and_a_spec_has_them_as_people_write_them() -> None:
    assert not [path for path, node in walk(schema()["properties"]["status"]) if "default" in node]
    defaults = {
        path: node["default"]
        for path, node in walk(schema()["properties"]["spec"])
        if "default" in node
    }
    assert defaults[".cycleInterval"] == "30s"
    assert parse_duration(defaults[".worker.heartbeatInterval"]) == timedelta(seconds=60)
    assert defaults[".scopes"] == ["*-*-*"]
    assert defaults[".job"] == {}
    assert None not in defaults.values()


def test_the_columns_are_those_of_the_design() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if "priority" not in column]
    wide = [column["name"].upper() for column in columns if column.get("priority") == 1]
    assert shown == ["READY", "REASON", "TASKS", "ACTIVE", "MAX", "SATURATION", "AGE"]
    assert wide == ["INSTRUCTION", "MANAGER", "URL", "LAST CYCLE"]


# The reference page


def test_the_page_names_every_field_and_every_rule() -> None:
    page = reference_page()
    for path in FIELDS:
        if path.count(".") and not re.search(r"worker\.(resources|spool|podTemplate)\.", path):
            assert f"`{path.rsplit('.', 1)[1]}`" in page
    readable = page.replace("\\", "")
    for path in RULED:
        for rule in NODES[path][VALIDATIONS]:
            assert rule["message"][1:] in readable


def test_the_example_of_the_page_is_the_smallest_pool_of_the_tests() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", reference_page(), re.DOTALL)
    smallest = ROOT / "tests" / "cluster" / "data" / "minimal_pool.yaml"
    assert yaml.safe_load(example)["spec"] == yaml.safe_load(smallest.read_text("utf-8"))["spec"]


def test_the_page_is_well_formed() -> None:
    for line in reference_page().splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))
            assert len(cells) == 6
        assert not re.search(r"(?<!\\)[*_]", re.sub(r"`[^`]*`|^<!--.*", "", line)), line


# From models to schemas


class Inner(BaseModel):
    """Inside."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    size: Annotated[int, Field(ge=1, le=9)] = 2


class Outer(BaseModel):
    """Outside."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    inner: Inner = Inner()
    """One line,
    and one more.

    Another paragraph."""

    name: Annotated[str, Rule("self != 'x'", "must not be x"), Rule("self != 'y'", "nor y")]
    wait: timedelta | None = None
    until: timedelta = timedelta(minutes=90)
    names: Annotated[tuple[str, ...], AtMost(3)] = ()


def test_a_model_becomes_a_structural_schema() -> None:
    assert structural_schema(Outer, defaults=True) == {
        "description": "Outside.",
        "type": "object",
        "required": ["name"],
        "properties": {
            "inner": {
                "description": "One line, and one more.\n\nAnother paragraph.",
                "type": "object",
                "default": {},
                "properties": {
                    "size": {"type": "integer", "default": 2, "minimum": 1, "maximum": 9}
                },
            },
            "name": {
                "type": "string",
                VALIDATIONS: [
                    {"rule": "self != 'x'", "message": "must not be x"},
                    {"rule": "self != 'y'", "message": "nor y"},
                ],
            },
            "wait": {"type": "string", "format": "duration"},
            "until": {"type": "string", "format": "duration", "default": "1h30m"},
            "names": {
                "type": "array",
                "default": [],
                "maxItems": 3,
                "items": {"type": "string"},
            },
        },
    }


def test_without_defaults() -> None:
    converted = structural_schema(Outer, defaults=False)
    assert not [path for path, node in walk(converted) if "default" in node]


def test_what_a_structural_schema_cannot_express_is_an_error() -> None:
    class Either(BaseModel):
        value: int | str

    class Pair(BaseModel):
        value: tuple[int, str]

    with pytest.raises(ValueError, match="one type for a value"):
        structural_schema(Either, defaults=True)
    with pytest.raises(ValueError, match="cannot express"):
        structural_schema(Pair, defaults=True)

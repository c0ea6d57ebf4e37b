import json
import random
from pathlib import Path
from typing import Any

import pytest

from computepool_worker.fingerprint import Fingerprint, fingerprint


def of(tmp_path: Path, body: Any) -> Fingerprint:
    path = tmp_path / "body.json"
    path.write_text(json.dumps(body))
    return fingerprint(path)


def key(name: str, number: int) -> str:
    return f"{name}-{number:032x}"


def chain(count: int) -> list[Any]:
    parts = [[key("Part", number), {"data": "x" * 5000}] for number in range(count)]
    members = {
        "parts": [{":gufe-key:": name} for name, _ in parts],
        "protocol": {":gufe-key:": key("SomeProtocol", 9)},
    }
    return [*parts, [key("Transformation", 7), members]]


@pytest.mark.parametrize("count", [3, 500])
def test_it_names_the_transformation_and_its_protocol(tmp_path: Path, count: int) -> None:
    # What a Task extends follows, and is longer than what is read at once.
    found = of(tmp_path, [chain(count), "an earlier result" * 200_000])
    assert (found.transformation, found.protocol) == (key("Transformation", 7), "SomeProtocol")


def test_the_order_of_the_dependencies_does_not_matter(tmp_path: Path) -> None:
    # Larger than what is read at once.
    original = chain(500)
    shuffled = random.Random(7).sample(original[:-1], k=len(original) - 1)
    first = of(tmp_path, [original, None])
    assert of(tmp_path, [[*shuffled, original[-1]], None]) == first
    assert of(tmp_path, [chain(499), None]) != first


def test_what_the_task_extends_matters(tmp_path: Path) -> None:
    assert of(tmp_path, [chain(3), None]) != of(tmp_path, [chain(3), "a result"])


def test_old_servers_send_no_keys_and_the_bytes_count(tmp_path: Path) -> None:
    first = of(tmp_path, [json.dumps({"a": 1}), None])
    assert (first.transformation, first.protocol) == ("", "")
    assert first == of(tmp_path, [json.dumps({"a": 1}), None])
    assert first != of(tmp_path, [json.dumps({"a": 2}), None])

"""The page of invariants names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/invariants.md").read_text()
NAMED = sorted(set(re.findall(r"`([a-z0-9_/]+\.py)::([a-z0-9_]+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| \d+\. ", line)]


@pytest.mark.parametrize(("file", "name"), NAMED, ids="::".join)
def test_it_exists(file: str, name: str) -> None:
    assert re.search(rf"def {name}\(", (ROOT / "tests" / file).read_text())


def test_each_has_a_property_and_a_test_on_a_real_cluster() -> None:
    assert len(ROWS) == 13
    for row in ROWS:
        *_, properties, cluster, _ = row.split("|")
        assert "::" in properties
        assert re.search(r"`(cluster|e2e)/", cluster)

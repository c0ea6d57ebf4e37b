"""Specs that can't be read as a whole."""

import pytest
from pydantic import ValidationError
from unit.operator.builders import make_spec

from computepool_operator.pool import PoolSpec
from computepool_operator.salvage import faults, salvage

GOOD = make_spec(deletion_policy="Stop", drain_timeout="1h").model_dump(mode="json", by_alias=True)


def test_a_good_spec_is_itself() -> None:
    assert salvage(GOOD) == PoolSpec.model_validate(GOOD)


def test_the_fields_that_can_be_read_are_kept() -> None:
    spec = salvage({**GOOD, "cycleInterval": "soon", "worker": {"image": 7}})
    good = PoolSpec.model_validate(GOOD)
    assert spec == good.model_copy(update={"worker": spec.worker})
    assert spec.worker.image == "unreadable"


@pytest.mark.parametrize("raw", [None, 3, [], {}, {"computeAPI": None, "deletionPolicy": "Wait"}])
def test_of_nothing_the_defaults_are_left(raw: object) -> None:
    spec = salvage(raw)
    assert spec.deletion_policy == "Drain"
    assert spec.compute_api.url == "https://unreadable.invalid"


def test_the_faults_tell_where_and_not_what_stands_there() -> None:
    with pytest.raises(ValidationError) as caught:
        PoolSpec.model_validate({**GOOD, "scopes": "private", "maxComputeServices": "many"})
    told = faults(caught.value)
    assert "spec.scopes: " in told
    assert "; spec.maxComputeServices: Input should be a valid integer" in told
    assert "private" not in told

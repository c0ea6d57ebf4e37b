"""What Argo CD shows about a pool: health.lua, run by a real Lua on statuses of the operator."""

from datetime import UTC, datetime
from typing import Any

import pytest
from lupa.lua51 import LuaRuntime  # the version that Argo CD runs

from computepool_operator.memory import Memory
from computepool_operator.plan import Verdict
from computepool_operator.pool import PoolStatus
from computepool_operator.reasons import HEALTH, Health, Reason
from computepool_operator.status import Facts, build_status
from written.manifests import DEPLOY

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHECK = (DEPLOY / "argocd" / "health.lua").read_text()

EXPECTED = {
    Health.GOOD: "Healthy",
    Health.WAITING: "Progressing",
    Health.UNKNOWN: "Progressing",
    Health.STALLED: "Degraded",
}


def pool(status: dict[str, Any] | None, generation: int = 1) -> dict[str, Any]:
    body: dict[str, Any] = {"metadata": {"name": "a100", "generation": generation}}
    return body if status is None else {**body, "status": status}


def status_with(reason: Reason, *, deleting: bool = False) -> dict[str, Any]:
    facts = Facts(
        generation=1,
        verdict=Verdict(reason, "what happened"),
        memory=Memory(),
        manager_id="alchemiscale.a100-" + 32 * "0",
        selector="",
        deleting=deleting,
    )
    return build_status(PoolStatus(), facts, NOON).to_body()


def health(body: dict[str, Any]) -> tuple[str, str]:
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(without_nulls(body), recursive=True)
    found = lua.execute(CHECK)
    return found["status"], found["message"]


def without_nulls(value: Any) -> Any:
    """As Argo CD hands an object to Lua: what is null is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


@pytest.mark.parametrize("reason", [reason for reason in HEALTH if reason is not Reason.SUSPENDED])
def test_health_follows_the_reason(reason: Reason) -> None:
    found, message = health(pool(status_with(reason)))
    assert found == EXPECTED[HEALTH[reason]]
    assert "what happened" in message


def test_what_is_not_healthy_names_its_reason() -> None:
    _, message = health(pool(status_with(Reason.SECRET_MISSING)))
    assert message == "SecretMissing: what happened"


def test_a_suspended_pool_is_suspended() -> None:
    assert health(pool(status_with(Reason.SUSPENDED)))[0] == "Suspended"


def test_a_new_pool_is_progressing() -> None:
    assert health(pool(None))[0] == "Progressing"
    assert health(pool({}))[0] == "Progressing"


def test_a_change_that_was_not_seen_yet_is_progressing() -> None:
    status = status_with(Reason.NO_TASKS)
    assert health(pool(status, generation=2))[0] == "Progressing"
    assert health(pool(status_with(Reason.SECRET_MISSING), generation=2))[0] == "Progressing"

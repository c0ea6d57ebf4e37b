"""The commands by which the runbook frees a manager's name, run against a server."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator

import pytest

from computepool_api.credentials import Credentials
from computepool_api.errors import ManagerNameTaken
from computepool_api.ids import ComputeManagerID
from computepool_api.manager_client import ComputeManagerClient
from computepool_api.transport import ComputeAPI
from simulator.records import Identity
from simulator.serving import Running, running
from simulator.simulator import Options, Simulator
from written.pages import page

HELD = "lab.a100"


def recipe(name: str) -> str:
    text = page("docs/runbook.md").path.read_text()
    found = re.search(rf"<!-- recipe: {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    identity = Identity("compute-identity", "compute-key", ("*-*-*",))
    async with running(Simulator(Options(identities=[identity]))) as found:
        yield found


async def run(server: Running, *recipes: str) -> str:
    """Run recipes with another server, name and Secret than those in the text."""
    token = recipe("token")
    token = re.sub(r"^API=.*$", f"API={server.url}", token, flags=re.MULTILINE)
    token = re.sub(r"^NAME=.*$", f"NAME={HELD}", token, flags=re.MULTILINE)
    secret = """
    kubectl() {
      case "$*" in
        *jsonpath={.data.identifier}*) echo compute-identity | base64 ;;
        *jsonpath={.data.key}*) echo compute-key | base64 ;;
      esac
    }
    """
    script = "\n".join(["set -euo pipefail", secret, token, *map(recipe, recipes)])
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.fixture
async def managers(server: Running) -> AsyncIterator[ComputeManagerClient]:
    credentials = Credentials("compute-identity", "compute-key")
    async with ComputeAPI(server.url, lambda: credentials, user_agent="test") as api:
        yield ComputeManagerClient(api)


def manager_id() -> ComputeManagerID:
    return ComputeManagerID.new(HELD, uuid.uuid4())


async def test_the_name_of_a_dead_manager_is_freed(
    server: Running, managers: ComputeManagerClient
) -> None:
    await managers.register(manager_id())
    with pytest.raises(ManagerNameTaken):
        await managers.register(manager_id())
    answers = await run(server, "take-over")
    assert answers.count(f'"{HELD}-') == 2
    await managers.register(manager_id())


async def test_a_manager_in_error_is_cleared(
    server: Running, managers: ComputeManagerClient
) -> None:
    holder = manager_id()
    await managers.register(holder)
    await managers.report_error(holder, "somebody said so")
    with pytest.raises(ManagerNameTaken, match="ERROR"):
        await managers.register(manager_id())
    assert await run(server, "clear-error") == "null"
    await managers.register(manager_id())


async def test_clearing_what_is_not_in_error_says_so(server: Running) -> None:
    assert await run(server, "clear-error") == "Internal Server Error"


async def test_the_key_is_in_no_argument_of_a_program(server: Running) -> None:
    words = recipe("token") + recipe("clear-error") + recipe("take-over")
    assert "$(credential" not in words
    assert '"Authorization' not in words.replace('<(echo "Authorization', "")

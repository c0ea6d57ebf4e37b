"""A container's memory limit, with a real cgroup where one can be made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.worker.harness import Pool

from computepool_api.outcomes import Outcome

ROOT = Path("/sys/fs/cgroup")
LIMIT = 200 * 2**20


@pytest.fixture
def container(tmp_path: Path) -> Iterator[list[str]]:
    """A command that runs another in a cgroup with a memory limit, as a container has one."""
    first = (ROOT / "memory", "memory.limit_in_bytes")
    base, limit = first if first[0].is_dir() else (ROOT, "memory.max")
    group = base / f"computepool-test-{tmp_path.parent.name}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip("this cgroup has no memory controller")
        (group / limit).write_text(str(LIMIT))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


def test_a_task_that_needs_more_memory_than_the_container_has_is_failed_with_the_reason(
    pool: Pool, container: list[str]
) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="greedy", stand_in={"bytes": 4 * LIMIT})
    worker = pool.worker(n_retries=1)
    worker.prefix = container
    assert worker.run() is Outcome.DONE
    assert len(worker.logged("task.crashed")) == 2
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("error", 1)
    (entry,) = pool.admin.results(task)
    told = json.dumps(entry.document)
    assert "was killed by SIGKILL" in told
    assert "its container had reached its memory limit, after" in told
    assert "MiB of memory" in told
    assert worker.left_behind() == []


def test_one_that_needs_less_is_done(pool: Pool, container: list[str]) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="greedy", stand_in={"bytes": LIMIT // 8})
    worker = pool.worker()
    worker.prefix = container
    assert worker.run() is Outcome.DONE
    assert pool.admin.task(task).status == "complete"

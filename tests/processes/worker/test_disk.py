"""A Task that fills the disk, with a real file system that is full where one can be mounted."""

import shlex
import subprocess
from pathlib import Path

import pytest
from processes.worker.harness import Pool

from computepool_api.outcomes import Outcome

SIZE = 16 * 2**20


@pytest.fixture
def disk(tmp_path: Path) -> list[str]:
    """A command that runs another with a small file system of its own at `tmp_path`/disk."""
    (tmp_path / "disk").mkdir()
    place = shlex.quote(str(tmp_path / "disk"))
    mount = f'mount -t tmpfs -o size={SIZE} none {place} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode != 0:
        pytest.skip("nothing can be mounted here")
    return command


@pytest.mark.parametrize("spooled", [False, True])
def test_a_task_that_fills_the_disk_is_given_back_at_once(
    pool: Pool, tmp_path: Path, disk: list[str], spooled: bool
) -> None:
    (task,) = pool.admin.add_tasks(1, behaviour="fill")
    worker = pool.worker(
        scratch_basedir=str(tmp_path / "disk" / "scratch"),
        spool_dir=str(tmp_path / "disk" / "spool") if spooled else None,
        scratch_min_free=1,
        n_retries=5,
    )
    worker.prefix = disk
    assert worker.run() is Outcome.TASK_CRASHED
    assert len(worker.logged("task.executing")) == 1
    assert pool.admin.task(task).status == "waiting"
    assert pool.pushes() == 0
    assert pool.admin.services() == []
    message = worker.message()
    assert message is not None
    assert message.task == task
    assert "the scratch space is full" in message.detail


def test_a_result_that_the_spool_has_no_room_for_is_pushed_all_the_same(
    pool: Pool, tmp_path: Path, disk: list[str]
) -> None:
    (task,) = pool.admin.add_tasks(1)
    spool = shlex.quote(str(tmp_path / "disk"))
    worker = pool.worker(spool_dir=str(tmp_path / "disk"))
    filled = f'head -c {2 * SIZE} /dev/zero > {spool}/full 2> /dev/null; exec "$@"'
    worker.prefix = [*disk, "sh", "-c", filled, "sh"]
    assert worker.run() is Outcome.DONE
    assert worker.logged("spool.not_written")
    assert pool.admin.task(task).status == "complete"

"""`make demo` and `make demo-down`, as a newcomer types them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stage.images import Images
from testcluster.images import REPOSITORY
from testcluster.ways import Choice

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def demo(command: str, state: Path) -> str:
    words = [sys.executable, "-m", "demo", command, "--state", str(state)]
    done = subprocess.run(
        [*words, "--tasks", "5", "--seconds", "0.5"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_demo_plays_twice_in_a_row_and_leaves_nothing_behind(
    way: Choice, built_images: Images
) -> None:
    if way.way == "kubeconfig":
        pytest.skip("the demo brings up a cluster of its own, and tests were given one")
    state = Path(tempfile.mkdtemp(prefix="computepool-demo-"))
    try:
        first = demo("up", state)
        again = demo("up", state)
    finally:
        last = demo("down", state)

    assert "All 5 Tasks are complete" in first
    assert "It created 5 Jobs" in first
    assert "still up" in again
    assert "All 5 Tasks are complete" in again
    assert "the demo is down" in last
    assert not state.exists()

"""What has left the session of a child: found, ended, and told from what is this process's own.

In a process of its own, which adopts orphans for the rest of its life.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from computepool_worker import orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")

BEGIN = """
import os, subprocess, sys, time
from computepool_worker import orphans
assert orphans.adopt()
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(3600)"]
def apart(code):
    return orphans.start_apart(
        lambda: subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
    )
ESCAPE = f"import subprocess; subprocess.Popen({SLEEP!r}, start_new_session=True)"
"""
END = "\nfor process in own:\n    process.kill()\n    process.wait()\n"


def run(script: str) -> None:
    """Run a script whose assertions are the test's."""
    subprocess.run([sys.executable, "-c", f"{BEGIN}\n{script}{END}"], check=True, timeout=50)


def test_what_a_child_leaves_behind_is_ended_and_reaped() -> None:
    run("""
own = []
child = apart(ESCAPE)
child.wait()
ended, left = orphans.end_all(10)
assert (len(ended), left) == (1, []), (ended, left)
try:
    os.kill(ended[0], 0)
except ProcessLookupError:
    pass
else:
    raise AssertionError("it is not reaped")
assert orphans.end_all(0) == ([], [])
""")


def test_what_it_leaves_behind_itself_is_found_when_it_has_ended() -> None:
    run("""
own = []
child = apart(f"import subprocess, sys, time; "
    f"subprocess.Popen([sys.executable, '-c', {ESCAPE + '; import time; time.sleep(3600)'!r}],"
    " start_new_session=True); time.sleep(1)")
child.wait()
ended, left = orphans.end_all(10)
assert (len(ended), left) == (2, []), (ended, left)
""")


def test_what_this_process_has_started_itself_is_spared() -> None:
    run("""
before = subprocess.Popen(SLEEP, start_new_session=True)
child = apart(ESCAPE)
beside = apart("import time; time.sleep(3600)")
inside = subprocess.Popen(SLEEP)
own = [before, beside, inside]
child.wait()
ended, left = orphans.end_all(10)
assert (len(ended), left) == (1, []), (ended, left)
assert [process.poll() for process in own] == [None] * 3
""")


def test_without_proc_none_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(orphans, "_PROCESSES", tmp_path / "nothing")
    assert orphans.end_all(0) == ([], [])


def test_a_commands_name_may_hold_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "stat").write_text(f"12 (a) S 1 (b)) S {os.getpid()} 12 12 0 -1\n")
    (tmp_path / "13").mkdir()
    monkeypatch.setattr(orphans, "_PROCESSES", tmp_path)
    assert orphans._found() == [12]

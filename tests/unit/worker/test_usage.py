"""What a Task's execution uses at most: real processes, and a driver's library that is loaded."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from computepool_worker.boundary import Done, Execute, Prepare, decode, encode
from computepool_worker.child import usage
from computepool_worker.child.capacity import device_uuid
from computepool_worker.child.nvml import DeviceMemory
from computepool_worker.child.usage import memory_of, tree, watched

MIB = 2**20
UUID = "07ababab-abab-abab-abab-abababababab"
SOURCE = Path(__file__).with_name("driver.c")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libraries that have the names of the driver's."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a driver's library with")
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    shutil.copy(library, folder / "libcuda.so.1")
    return folder


@pytest.fixture
def load(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ctypes.CDLL]:
    monkeypatch.setenv("DRIVER_UUID", f"GPU-{UUID}")
    monkeypatch.setenv("DRIVER_USED", str(tmp_path / "used"))
    (tmp_path / "used").write_text(str(300 * MIB))
    return lambda name: ctypes.CDLL(str(libraries / name))


@pytest.mark.parametrize("kind", ["GPU", "MIG"])
def test_the_driver_tells_what_is_in_use(
    load: Callable[[str], Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIVER_UUID", f"{kind}-{UUID}")
    memory = DeviceMemory(UUID, load)
    assert memory.open()
    assert memory.used() == 300 * MIB
    memory.close()


def test_a_device_that_is_lost_meanwhile(load: Callable[[str], Any], tmp_path: Path) -> None:
    memory = DeviceMemory(UUID, load)
    assert memory.open()
    (tmp_path / "used").unlink()
    assert memory.used() is None


def test_nobody_can_tell(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not DeviceMemory("0" * 32, load).open(), "another device"
    assert not DeviceMemory(UUID, lambda _: ctypes.CDLL(None)).open(), "another library"
    assert not DeviceMemory(UUID, lambda _: ctypes.CDLL("libnothing-of-this-name.so")).open()
    monkeypatch.setenv("DRIVER_DOWN", "1")
    assert not DeviceMemory(UUID, load).open()


def test_a_driver_that_is_too_old_to_say(load: Callable[[str], Any]) -> None:
    class Old:
        def __init__(self, library: ctypes.CDLL) -> None:
            self.nvmlInit_v2 = library.nvmlInit_v2
            self.nvmlDeviceGetHandleByUUID = library.nvmlDeviceGetHandleByUUID

    memory = DeviceMemory(UUID, lambda name: Old(load(name)))
    assert memory.open()
    assert memory.used() is None


def test_the_uuid_of_the_device_that_openmm_has_chosen(load: Callable[[str], Any]) -> None:
    assert device_uuid("CUDA", 0, load) == UUID
    assert device_uuid("CUDA", 1, load) == UUID.replace("07", "08")
    assert device_uuid("CUDA", 2, load) is None
    assert device_uuid("OpenCL", 0, load) is None
    assert device_uuid("CUDA", 0, lambda _: ctypes.CDLL(None)) is None


def test_the_peak_of_a_device_is_seen_while_it_lasts(
    load: Callable[[str], Any], tmp_path: Path
) -> None:
    def say(used: int) -> None:
        (tmp_path / "next").write_text(str(used))
        (tmp_path / "next").rename(tmp_path / "used")

    with watched(DeviceMemory(UUID, load), interval=0.01) as peaks:
        say(900 * MIB)
        deadline = time.monotonic() + 5
        while peaks.device_memory != 900 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
        say(400 * MIB)
    assert peaks.device_memory == 900 * MIB


def test_without_a_device_there_is_no_peak_of_one(load: Callable[[str], Any]) -> None:
    with watched(DeviceMemory("0" * 32, load)) as unknown:
        pass
    with watched(None) as none:
        pass
    assert (unknown.device_memory, none.device_memory) == (None, None)


def test_a_driver_that_hangs_keeps_no_result(
    load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIVER_HANGS", "1")
    monkeypatch.setattr(usage, "_PATIENCE", 0.1)
    began = time.monotonic()
    with watched(DeviceMemory(UUID, load)) as peaks:
        pass
    assert time.monotonic() - began < 1
    assert peaks.device_memory is None
    assert peaks.memory > MIB


@contextmanager
def taking(size: int) -> Iterator[int]:
    """A process of its own that has taken `size` bytes."""
    code = f"x = bytearray(b'x' * {size}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's descendants")
def test_memory_is_that_of_all_processes_together() -> None:
    with ExitStack() as stack, watched(None, interval=0.01) as peaks:
        for _ in range(2):
            stack.enter_context(taking(60 * MIB))
        assert len(tree(os.getpid())) >= 3
        deadline = time.monotonic() + 5
        while peaks.memory < 120 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
    assert peaks.memory >= 120 * MIB


ALONE = """
from computepool_worker.child.usage import largest_process, tree, watched
import os
with watched(None) as peaks:
    pass
print(len(tree(os.getpid())), peaks.memory, largest_process())
"""


def test_of_a_single_process_the_kernel_knows_the_peak() -> None:
    # Not of this one: a stand-in server that other tests share may be its child.
    alone = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    )
    processes, peak, largest = map(int, alone.stdout.split())
    assert (processes, peak) == (1, largest)


def test_what_is_shared_counts_once_where_the_kernel_tells(tmp_path: Path) -> None:
    for process, children in ((1, "2 3"), (2, ""), (3, "4 5"), (4, ""), (5, "")):
        threads = tmp_path / str(process) / "task" / str(process)
        threads.mkdir(parents=True)
        (threads / "children").write_text(children)
    (tmp_path / "1" / "smaps_rollup").write_text("Rss: 900 kB\nPss:     100 kB\nPss_Anon: 9 kB\n")
    (tmp_path / "2" / "statm").write_text("5000 3 2 1 0 4 0\n")
    (tmp_path / "3" / "smaps_rollup").write_text("")
    assert tree(1, tmp_path) == [1, 2, 3, 4, 5]
    page = os.sysconf("SC_PAGE_SIZE")
    assert memory_of([1, 2, 3, 4, 5, 6], tmp_path) == 100 * 1024 + 3 * page


SCRIPT = """
import sys
from computepool_worker.boundary import Done, Ready
from computepool_worker.child.loop import serve

class Science:
    def prepare(self, request):
        return Ready(ok=True, facts={"device_uuid": sys.argv[1]})

    def execute(self, request, tell):
        return Done(request.task, ok=True, units=1, failures=0, seconds=0.0)

serve(sys.stdin.buffer, sys.stdout.buffer, Science())
"""


@pytest.mark.parametrize(("uuid", "peak"), [(UUID, 300 * MIB), ("0" * 32, None)])
def test_the_child_tells_it(
    load: object, libraries: Path, tmp_path: Path, uuid: str, peak: int | None
) -> None:
    execute = Execute("Task-1", "/t.json", "/r.json", "/", str(tmp_path), 0, False, False)
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT, uuid],
        input=encode(Prepare("CUDA")) + encode(execute),
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        stdout=subprocess.PIPE,
        check=True,
    )
    done = decode(child.stdout.splitlines()[-1])
    assert isinstance(done, Done)
    assert done.peak_device_memory == peak

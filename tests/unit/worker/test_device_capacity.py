"""Free memory and space. The driver's library is one of ctypes functions, called as a real one."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from computepool_worker.child.capacity import (
    check_memory,
    check_scratch,
    driver,
    free_memory,
    nvidia_driver,
    processor,
    processor_name,
)
from computepool_worker.child.unfit import UnfitError

POINTER = ctypes.c_void_p


def function(
    name: str, calls: list[str], *, returns: int = 0, free: int = 0, arguments: Any
) -> Any:
    def call(*given: Any) -> int:
        calls.append(name)
        if free:
            ctypes.cast(given[0], ctypes.POINTER(ctypes.c_size_t))[0] = free
        return returns

    return ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(call)


def cuda(calls: list[str], failing: str = "") -> SimpleNamespace:
    signatures: dict[str, list[Any]] = {
        "cuInit": [ctypes.c_uint],
        "cuDeviceGet": [POINTER, ctypes.c_int],
        "cuDevicePrimaryCtxRetain": [POINTER, ctypes.c_int],
        "cuCtxPushCurrent_v2": [POINTER],
        "cuMemGetInfo_v2": [POINTER, POINTER],
        "cuCtxPopCurrent_v2": [POINTER],
        "cuDevicePrimaryCtxRelease_v2": [ctypes.c_int],
    }
    return SimpleNamespace(
        **{
            name: function(
                name,
                calls,
                returns=2 if name == failing else 0,
                free=40 * 2**30 + 5 if name == "cuMemGetInfo_v2" else 0,
                arguments=arguments,
            )
            for name, arguments in signatures.items()
        }
    )


def test_the_driver_tells_the_free_memory_of_an_nvidia_device() -> None:
    calls: list[str] = []
    names: list[str] = []

    def load(name: str) -> Any:
        names.append(name)
        return cuda(calls)

    assert free_memory("CUDA", 0, load) == 40 * 1024
    assert names == ["libcuda.so.1"]
    assert calls[-1] == "cuDevicePrimaryCtxRelease_v2"


@pytest.mark.parametrize(
    "failing",
    [
        "cuInit",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuCtxPushCurrent_v2",
        "cuMemGetInfo_v2",
    ],
)
def test_a_call_that_fails_is_unknown_and_what_was_taken_is_given_back(failing: str) -> None:
    calls: list[str] = []
    assert free_memory("CUDA", 0, lambda _: cuda(calls, failing)) is None
    taken = "cuDevicePrimaryCtxRetain" in calls and failing != "cuDevicePrimaryCtxRetain"
    assert ("cuDevicePrimaryCtxRelease_v2" in calls) is taken


def test_the_runtime_tells_the_free_memory_of_an_amd_device() -> None:
    def load(name: str) -> Any:
        assert name == "libamdhip64.so"
        return SimpleNamespace(
            hipSetDevice=function("set", [], arguments=[ctypes.c_int]),
            hipMemGetInfo=function("get", [], free=3 * 2**20, arguments=[POINTER, POINTER]),
        )

    assert free_memory("HIP", 1, load) == 3


def test_what_cannot_be_told_is_unknown() -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    assert free_memory("CUDA", 0, absent) is None
    assert free_memory("HIP", 0, lambda _: SimpleNamespace()) is None
    assert free_memory("OpenCL", 0, absent) is None
    assert free_memory("CPU", 0, absent) is None


def test_unknown_is_not_zero() -> None:
    check_memory(None, 10**6, "A100")
    check_memory(1024, 1024, "A100")
    with pytest.raises(UnfitError, match="only 0 MiB of memory are free on A100, and 1 MiB"):
        check_memory(0, 1, "A100")


def test_scratch_space(tmp_path: Path) -> None:
    assert check_scratch(tmp_path, 1) >= 1
    with pytest.raises(UnfitError, match=r"free for scratch files at .*lower scratch_min_free"):
        check_scratch(tmp_path, 10**12)
    with pytest.raises(UnfitError, match=r"cannot be used: .*absent"):
        check_scratch(tmp_path / "absent", 0)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.06  Release Build\n",
            "555.42.06",
        ),
        ("", None),
        ("GCC version:  gcc version 12.3.0\n", None),
    ],
)
def test_the_version_of_nvidias_driver(text: str, version: str | None) -> None:
    assert nvidia_driver(text) == version


def test_the_name_of_a_processor() -> None:
    assert processor("processor\t: 0\nmodel name\t: AMD EPYC 7543 32-Core\n") == (
        "AMD EPYC 7543 32-Core"
    )
    assert processor("Hardware : BCM2835\n") is None
    assert processor_name()


def test_a_processor_has_no_driver() -> None:
    assert driver("CPU") == "none"

"""What there is room for: free memory of the device, free space for scratch files.

Sizes are in MiB. What cannot be told is None, which is not zero: it fails nothing.
"""

import ctypes
import re
import shutil
import uuid
from pathlib import Path

from computepool_worker.child.nvml import Loader
from computepool_worker.child.unfit import UnfitError

_MIB = 2**20
_NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
_AMD_VERSION = Path("/sys/module/amdgpu/version")


def check_scratch(directory: Path, minimum: int) -> int:
    """Return the free space of the file system that ``directory`` is on.

    Raises UnfitError if that is less than ``minimum``, or if the directory cannot be looked at.
    """
    try:
        free = shutil.disk_usage(directory).free // _MIB
    except OSError as error:
        raise UnfitError(f"the scratch directory cannot be used: {error}") from None
    if free < minimum:
        raise UnfitError(
            f"only {free} MiB are free for scratch files at {directory}, and {minimum} MiB are "
            "demanded: clear that file system, or lower scratch_min_free"
        )
    return free


def check_memory(free: int | None, minimum: int, device: str) -> None:
    """Raise UnfitError if ``free`` is known and less than ``minimum``."""
    if free is not None and free < minimum:
        raise UnfitError(
            f"only {free} MiB of memory are free on {device}, and {minimum} MiB are demanded: look "
            "for another process on this device (nvidia-smi), or lower device_min_memory"
        )


def free_memory(platform: str, index: int, load: Loader = ctypes.CDLL) -> int | None:
    """Return the free memory of the device that OpenMM's ``platform`` calls ``index``.

    The driver's own library is asked, as it respects what a container is shown of a device (one
    part of a shared GPU, say). OpenCL has no such call, and a CPU no memory of its own: None.
    """
    ask = {"CUDA": _cuda, "HIP": _hip}.get(platform)
    if ask is None:
        return None
    try:
        free = ask(index, load)
    except (OSError, AttributeError):
        return None
    return None if free is None else free // _MIB


def device_uuid(platform: str, index: int, load: Loader = ctypes.CDLL) -> str | None:
    """Return the UUID of the device, or of the part of one, that ``platform`` calls ``index``.

    By it tools for administrators and other libraries know the device, whatever is visible here.
    """
    if platform != "CUDA":
        return None
    device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    try:
        cuda = load("libcuda.so.1")
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index):
            return None
        failed = cuda.cuDeviceGetUuid_v2(ctypes.byref(found), device)
    except (OSError, AttributeError):
        return None
    return None if failed else str(uuid.UUID(bytes=bytes(found)))


def _cuda(index: int, load: Loader) -> int | None:
    cuda = load("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index):
        return None
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    try:
        if cuda.cuCtxPushCurrent_v2(context):
            return None
        failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
    return None if failed else free.value


def _hip(index: int, load: Loader) -> int | None:
    hip = load("libamdhip64.so")
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if hip.hipSetDevice(index) or hip.hipMemGetInfo(ctypes.byref(free), ctypes.byref(total)):
        return None
    return free.value


def driver(platform: str) -> str:
    """Return the version of the device's driver, as the kernel tells it; else ``unknown``."""
    if platform in ("CUDA", "OpenCL"):
        found = nvidia_driver(_read(_NVIDIA_VERSION))
        if found is not None:
            return found
    if platform in ("HIP", "OpenCL"):
        return _read(_AMD_VERSION).strip() or "unknown"
    return "unknown" if platform == "CUDA" else "none"


def nvidia_driver(text: str) -> str | None:
    """Read ``/proc/driver/nvidia/version``, of the closed as of the open kernel module."""
    found = re.search(r"^NVRM version:.*?Kernel Module\b.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return found[1] if found else None


def processor(text: str) -> str | None:
    """Read the processor's name from ``/proc/cpuinfo``."""
    found = re.search(r"^model name\s*:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return found[1] if found else None


def processor_name() -> str:
    """Return the name of this machine's processor, or ``unknown``."""
    return processor(_read(Path("/proc/cpuinfo"))) or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

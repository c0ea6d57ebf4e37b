"""How much memory of an NVIDIA device is in use, as the driver's management library tells it.

The library comes with the driver. It needs no context on the device, so asking takes none of what
is asked about.
"""

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

Loader: TypeAlias = Callable[[str], Any]

_LIBRARY = "libnvidia-ml.so.1"


class _Memory(ctypes.Structure):
    """NVML's ``nvmlMemory_v2_t``; what the driver keeps for itself is apart from ``used``."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


# As NVML_STRUCT_VERSION composes it.
_VERSION = ctypes.sizeof(_Memory) | 2 << 24


class DeviceMemory:
    """The memory of the device, or of the part of one, whose UUID is ``uuid`` (without GPU-)."""

    def __init__(self, uuid: str, load: Loader = ctypes.CDLL) -> None:
        self._uuid = uuid
        self._load = load
        self._library: Any = None
        self._handle = ctypes.c_void_p()

    def open(self) -> bool:
        """Return whether there is a library that knows the device."""
        try:
            library = self._load(_LIBRARY)
            if library.nvmlInit_v2():
                return False
            for kind in ("GPU", "MIG"):
                name = f"{kind}-{self._uuid}".encode("ascii")
                if not library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(self._handle)):
                    self._library = library
                    return True
        except (OSError, AttributeError):
            return False
        library.nvmlShutdown()
        return False

    def used(self) -> int | None:
        """Return the bytes in use, by whomever; None where the library does not say.

        Only after `open` has returned true. Drivers before version 510 do not say.
        """
        memory = _Memory(version=_VERSION)
        try:
            failed = self._library.nvmlDeviceGetMemoryInfo_v2(self._handle, ctypes.byref(memory))
        except AttributeError:
            return None
        return None if failed else int(memory.used)

    def close(self) -> None:
        """Let the library go."""
        if self._library is not None:
            self._library.nvmlShutdown()
            self._library = None

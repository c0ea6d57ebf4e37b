"""What a fetched Transformation is, in a few characters, whatever the order it was written in.

The server walks sets when it writes a keyed chain, so two answers for one Task may differ in the
order of their entries. The gufe keys in it do not: each is the hash of what it names.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1024 * 1024
_KEY = re.compile(rb'"([A-Za-z_][A-Za-z0-9_]*-[0-9a-f]{32})"')
_PROTOCOL = re.compile(
    rb'"protocol"\s*:\s*\{\s*":gufe-key:"\s*:\s*"([A-Za-z_][A-Za-z0-9_]*)-[0-9a-f]{32}"'
)
_ENTRY = re.compile(rb'\[\s*"([A-Za-z_][A-Za-z0-9_]*-[0-9a-f]{32})"\s*,\s*\{')
# Longer than any key with what stands around it, so that none is missed between two pieces.
_OVERLAP = 512


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """``digest`` names the fetched body; the rest is for people, and "" where it is not given.

    ``transformation`` is its gufe key, ``protocol`` the name of its Protocol's class.
    """

    digest: str
    transformation: str = ""
    protocol: str = ""


def fingerprint(body: Path) -> Fingerprint:
    """Read the body of ``GET /tasks/{task}/transformation/gufe``, in constant memory.

    The digest is that of the set of its gufe keys and of its size; servers before 0.8 send no keys,
    then it is that of the bytes. Raises OSError.
    """
    raw, keys, last, protocol, size = hashlib.sha256(), set[bytes](), b"", b"", 0
    rest = b""
    with body.open("rb") as file:
        while piece := file.read(_PIECE):
            raw.update(piece)
            size += len(piece)
            window = rest + piece
            keys.update(_KEY.findall(window))
            last = (_ENTRY.findall(window) or [last])[-1]
            protocol = (_PROTOCOL.findall(window) or [protocol])[-1]
            rest = window[-_OVERLAP:]
    if not keys:
        return Fingerprint(raw.hexdigest())
    named = hashlib.sha256(b"\n".join([*sorted(keys), str(size).encode()]))
    return Fingerprint(named.hexdigest(), last.decode("ascii"), protocol.decode("ascii"))

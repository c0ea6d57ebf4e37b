"""What a Dockerfile reads from its context and accepts as arguments. Pure but for hashing files."""

import fnmatch
import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

IGNORED = ("__pycache__", "*.pyc", "*.egg-info")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile: the upper-case keyword and the rest."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    for line in joined.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword:
            yield keyword.upper(), rest.strip()


def copied(text: str) -> tuple[str, ...]:
    """Return the paths that COPY and ADD take from the context, without those of other stages."""
    sources: list[str] = []
    for keyword, rest in instructions(text):
        words = shlex.split(rest)
        if keyword in {"COPY", "ADD"} and not any(word.startswith("--from=") for word in words):
            sources.extend(word for word in words if not word.startswith("--"))
            sources.pop()  # the destination
    return tuple(dict.fromkeys(sources))


def arguments(text: str) -> frozenset[str]:
    """Return the names of the build arguments that the Dockerfile declares."""
    found = [rest.partition("=")[0] for keyword, rest in instructions(text) if keyword == "ARG"]
    return frozenset(found)


def files(context: Path, sources: Sequence[str]) -> list[Path]:
    """Return the files below ``context`` that ``sources`` name, sorted, without build leftovers."""
    found: set[Path] = set()
    for source in sources:
        matches = list(context.glob(source.strip("/"))) if source.strip("./") else [context]
        if not matches:
            raise FileNotFoundError(f"{source} is copied by the Dockerfile but not in {context}")
        for match in matches:
            found.update([match] if match.is_file() else filter(Path.is_file, match.rglob("*")))
    return sorted(path for path in found if not _is_ignored(path.relative_to(context)))


def content_key(text: str, build_args: Mapping[str, str], context: Path, base: str) -> str:
    """Return a hash of all that decides what a build gives: text, arguments, files, base."""
    digest = hashlib.sha256()
    for part in (text, repr(sorted(build_args.items())), base):
        digest.update(part.encode() + b"\0")
    for path in files(context, copied(text)):
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        digest.update(f"{path.relative_to(context)}\0{mode}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _is_ignored(path: Path) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in IGNORED)

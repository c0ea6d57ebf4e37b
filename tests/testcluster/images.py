"""Build container images from Dockerfiles by buildah or Docker, as archives that nodes load.

Nothing is built when nothing has changed: an archive is kept under the hash of all that went in.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testcluster import baseimage, dockerfile, packages
from testcluster.cache import beside, cache_folder, locked
from testcluster.commands import run
from testcluster.filesystems import can_overlay
from testcluster.progress import Progress, timed, to_stderr

REPOSITORY = Path(__file__).parents[2]
OPERATOR_TAG = "localhost/computepool/operator:dev"
WORKER_TAG = "localhost/computepool/worker:dev"
BASE_TAG = "localhost/computepool/base"
PUBLIC_BASE = "docker.io/library/python:3.13-slim-bookworm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Settings of pip and uv that a build takes over from this host; files among them are lent to it.
PASSED_ON = (
    "PIP_CERT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "SSL_CERT_FILE",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INSECURE_HOST",
)
BUILD_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Image:
    """A built image: its tag, and a docker-archive with it."""

    tag: str
    archive: Path


def operator(engine: str = "buildah", progress: Progress = to_stderr) -> Image:
    """Build the operator's image, on the base that ``engine`` can get."""
    return build(
        REPOSITORY / "Dockerfile.operator",
        OPERATOR_TAG,
        build_args={"BASE": python_base(engine)},
        engine=engine,
        progress=progress,
    )


def worker(engine: str = "buildah", progress: Progress = to_stderr) -> Image:
    """Build the worker's image on a base without gufe and OpenMM, for tests and the demo."""
    return build(
        REPOSITORY / "Dockerfile.worker",
        WORKER_TAG,
        build_args={"BASE": python_base(engine)},
        engine=engine,
        progress=progress,
    )


def python_base(engine: str) -> str:
    """Return the tag of a base image with Python: Docker pulls one, for buildah one is made."""
    return PUBLIC_BASE if engine == "docker" else f"{BASE_TAG}:{baseimage.key()}"


def build(
    path: Path,
    tag: str,
    *,
    build_args: Mapping[str, str] | None = None,
    context: Path = REPOSITORY,
    engine: str = "buildah",
    progress: Progress = to_stderr,
) -> Image:
    """Build the Dockerfile at ``path`` with ``engine`` ("buildah" or "docker").

    Returns at once when neither the Dockerfile, its arguments, an image of ours among these, nor
    any file that it copies has changed since the archive in the cache was made. Raises
    TestClusterError with the end of the build's output.
    """
    text = path.read_text()
    given = dict(build_args or {})
    bases = " ".join(_identity(value) for _, value in sorted(given.items()))
    key = dockerfile.content_key(text, given, context, f"{engine} {bases}")
    folder = cache_folder() / "images"
    name = _file_name(tag)
    archive = folder / f"{name}-{engine}-{key}.tar"
    with locked(folder / f"{name}.lock", progress):
        if not archive.exists():
            with timed(progress, f"image {tag} built"):
                progress(f"building {tag} from {path.name} with {engine}")
                _build_archive(path, tag, given, context, engine, archive, progress)
            for other in folder.glob(f"{name}-{engine}-*.tar"):
                if other != archive:
                    other.unlink()
    return Image(tag, archive)


def host_settings(
    environment: Mapping[str, str], declared: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (build arguments, read-only mounts) by which a build fetches packages as we do.

    Only arguments that the Dockerfile declares are given. The host's certificate authorities are
    trusted inside the build, at the place where they lie here.
    """
    found = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    if CERTIFICATES.exists():
        found.setdefault("PIP_CERT", str(CERTIFICATES))
        found.setdefault("SSL_CERT_FILE", str(CERTIFICATES))
    if "PIP_INDEX_URL" in found:
        found.setdefault("UV_DEFAULT_INDEX", found["PIP_INDEX_URL"])
    arguments, mounts = {}, {}
    for name in sorted(declared & found.keys()):
        value = found[name]
        if value.startswith("/"):
            if not Path(value).exists():
                continue
            mounts[value] = value
        arguments[name] = value
    return arguments, mounts


def _identity(value: str) -> str:
    """Return what tells one state of an image that we built from another; else nothing."""
    if not value.startswith("localhost/"):
        return ""
    archives = sorted((cache_folder() / "images").glob(f"{_file_name(value)}-*.tar"))
    return " ".join(archive.name for archive in archives)


def _file_name(tag: str) -> str:
    return tag.rpartition("/")[2].replace(":", "-")


def _build_archive(
    path: Path,
    tag: str,
    given: Mapping[str, str],
    context: Path,
    engine: str,
    archive: Path,
    progress: Progress,
) -> None:
    arguments, mounts = host_settings(os.environ, dockerfile.arguments(path.read_text()))
    arguments |= given
    partial = archive.with_suffix(".new")
    partial.unlink(missing_ok=True)
    if engine == "docker":
        # Docker cannot be lent this host's files, so only what is not one is passed on.
        passed = {name: value for name, value in arguments.items() if value not in mounts}
        words = [f"--build-arg={name}={value}" for name, value in passed.items()]
        run(["docker", "build", "-f", path, "-t", tag, *words, context], timeout=BUILD_TIMEOUT)
        run(["docker", "save", "-o", partial, tag])
    else:
        packages.require(packages.IMAGES, "Building images")
        with _buildah(progress) as buildah:
            base = python_base(engine)
            if base in given.values() and not buildah.has(base):
                folder = baseimage.rootfs(progress)
                buildah.build(folder / "Dockerfile", base, {}, {}, folder)
            buildah.build(path, tag, arguments, mounts, context)
            buildah.save(tag, partial)
    partial.rename(archive)


@contextmanager
def _buildah(progress: Progress) -> Iterator["_Buildah"]:
    """Give buildah with a storage of its own, to one user at a time."""
    storage = cache_folder() / "buildah"
    storage.mkdir(parents=True, exist_ok=True)
    with (
        locked(beside(storage, ".lock"), progress),
        tempfile.TemporaryDirectory(prefix="computepool-buildah-") as running,
    ):
        buildah = _Buildah(storage, Path(running))
        buildah.run("rm", "--all")  # what a killed build has left
        yield buildah


@dataclass(frozen=True)
class _Buildah:
    storage: Path
    running: Path

    def run(self, command: str, *words: str | Path) -> str:
        options = [
            f"--root={self.storage}",
            f"--runroot={self.running}",
            f"--storage-driver={'overlay' if can_overlay(self.storage) else 'vfs'}",
        ]
        # In a mount namespace of its own, so that a killed build leaves no mount behind.
        alone = ["unshare", "--mount", "--"]
        return run([*alone, "buildah", *options, command, *words], timeout=BUILD_TIMEOUT)

    def has(self, tag: str) -> bool:
        return tag in self.run("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()

    def build(
        self,
        path: Path,
        tag: str,
        build_args: Mapping[str, str],
        mounts: Mapping[str, str],
        context: Path,
    ) -> None:
        options = [f"--build-arg={name}={value}" for name, value in build_args.items()]
        options += [f"--volume={here}:{there}:ro" for here, there in mounts.items()]
        if ignore := next(iter(context.glob(".dockerignore")), None):
            options.append(f"--ignorefile={ignore}")
        where = [f"--file={path}", f"--tag={tag}", str(context)]
        # chroot isolation needs no privileges that a build machine may lack.
        self.run("bud", "--isolation=chroot", "--layers", "--quiet", *options, *where)

    def save(self, tag: str, archive: Path) -> None:
        self.run("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")

from pathlib import Path

import pytest

from testcluster import dockerfile, images

TEXT = """\
# a comment with COPY nothing /
ARG BASE=python
FROM ${BASE} AS build
ARG PIP_CERT
COPY --chown=1:1 pyproject.toml uv.lock ./
RUN echo \\
    # inside
    COPY
COPY src src
FROM ${BASE}
COPY --from=build /x /x
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "uv.lock", "src/a.py", "src/__pycache__/a.pyc", "other"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def key(context: Path, text: str = TEXT, base: str = "", **build_args: str) -> str:
    return dockerfile.content_key(text, build_args, context, base)


def test_what_is_copied_from_the_context() -> None:
    assert dockerfile.copied(TEXT) == ("pyproject.toml", "uv.lock", "src")


def test_declared_arguments() -> None:
    assert dockerfile.arguments(TEXT) == {"BASE", "PIP_CERT"}


def test_files_of_the_context(context: Path) -> None:
    found = dockerfile.files(context, dockerfile.copied(TEXT))
    assert [str(path.relative_to(context)) for path in found] == [
        "pyproject.toml",
        "src/a.py",
        "uv.lock",
    ]


def test_the_whole_context(context: Path) -> None:
    assert len(dockerfile.files(context, ["."])) == 4


def test_a_missing_source_is_named(context: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dockerfile.files(context, ["nowhere"])


def test_the_key_changes_with_all_that_matters_and_nothing_else(context: Path) -> None:
    before = key(context)
    (context / "other").write_text("changed")
    (context / "src/__pycache__/a.pyc").write_text("changed")
    assert key(context) == before
    others = {before, key(context, f"{TEXT}#"), key(context, base="b"), key(context, BASE="c")}
    (context / "src/a.py").chmod(0o755)
    others.add(key(context))
    (context / "src/a.py").write_text("changed")
    others.add(key(context))
    (context / "src/a.py").rename(context / "src/b.py")
    others.add(key(context))
    assert len(others) == 7


def test_host_settings_are_passed_only_where_declared_and_files_are_lent(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    environment = {
        "PIP_CERT": str(authority),
        "PIP_FIND_LINKS": str(tmp_path / "missing"),
        "PIP_INDEX_URL": "https://mirror.example.org/simple",
        "SECRET": "not passed",
        "SSL_CERT_FILE": str(authority),
    }
    declared = frozenset(images.PASSED_ON) - {"SSL_CERT_FILE"}
    arguments, mounts = images.host_settings(environment, declared | {"SECRET"})
    assert arguments == {
        "PIP_CERT": str(authority),
        "PIP_INDEX_URL": "https://mirror.example.org/simple",
        "UV_DEFAULT_INDEX": "https://mirror.example.org/simple",
    }
    assert mounts == {str(authority): str(authority)}


@pytest.mark.parametrize("name", ["Dockerfile.operator", "Dockerfile.worker"])
def test_our_dockerfiles(name: str) -> None:
    text = (images.REPOSITORY / name).read_text()
    found = list(dockerfile.instructions(text))
    first = found[0]
    final = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert first[0] == "ARG"
    assert first[1].startswith("BASE=")
    assert final[0][1] in {"${BASE}", "science"}
    assert ("USER", "65532:65532") in final
    # What only the build needs must not be recorded in the image.
    assert not {"ARG", "RUN"} & {word for word, _ in final}
    assert set(images.PASSED_ON) <= dockerfile.arguments(text)


@pytest.mark.parametrize("name", ["Dockerfile.operator", "Dockerfile.worker"])
def test_the_ignore_file_lets_through_what_they_copy(name: str) -> None:
    allowed = (images.REPOSITORY / ".dockerignore").read_text().splitlines()
    for source in dockerfile.copied((images.REPOSITORY / name).read_text()):
        top = source.split("/")[0]
        assert f"!{top}" in allowed, source

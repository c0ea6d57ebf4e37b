import re
import sys
from pathlib import Path

import pytest

from testcluster import gotoolchain
from testcluster.errors import TestClusterError
from testcluster.progress import silent


def program(folder: Path, prints: str) -> Path:
    path = folder / "go"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


def test_a_go_that_is_new_enough_is_used(tmp_path: Path) -> None:
    path = program(tmp_path, "go version go1.26.8 linux/amd64")
    go, _ = gotoolchain.find((1, 26, 0), str(tmp_path))
    assert go == gotoolchain.Go(path, "1.26.8")
    assert go.environment()["CGO_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("prints", "reason"),
    [
        ("go version go1.19.8 linux/amd64", r"is Go 1\.19\.8, 1\.26\.0 or later is needed"),
        ("it is me", "does not tell its version"),
    ],
)
def test_another_go_is_not(tmp_path: Path, prints: str, reason: str) -> None:
    program(tmp_path, prints)
    go, said = gotoolchain.find((1, 26, 0), str(tmp_path))
    assert go is None
    assert re.search(reason, said)


def test_without_go_the_packaged_one_in_the_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPUTEPOOL_CACHE", str(tmp_path))
    name = f"{gotoolchain.PACKAGE}-{gotoolchain.PACKAGE_VERSION}"
    path = program(tmp_path / name / "go" / "bin", "go version go1.26.6 linux/amd64")
    go = gotoolchain.ensure((1, 26, 0), silent, str(tmp_path / "nothing"))
    assert go == gotoolchain.Go(path, "1.26.6")


def test_when_nothing_helps_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPUTEPOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    uv = tmp_path / "uv"
    uv.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no network')\n")
    uv.chmod(0o755)
    said: list[str] = []
    with pytest.raises(TestClusterError, match=r"no network[\s\S]*Install Go 1\.26\.0 or later"):
        gotoolchain.ensure((1, 26, 0), said.append, str(tmp_path))
    assert "no go on PATH; installing Go" in said[0]

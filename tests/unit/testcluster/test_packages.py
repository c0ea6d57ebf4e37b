import re
from pathlib import Path

import pytest

from testcluster import packages
from testcluster.errors import TestClusterError
from testcluster.packages import Package


def test_missing_packages_are_named_with_the_command_that_helps() -> None:
    wanted = (
        Package("here", "/"),
        Package("gone", "/nowhere/gone"),
        Package("tool", "no-such-tool"),
    )
    assert packages.missing(wanted) == ["gone", "tool"]
    with pytest.raises(TestClusterError, match=re.escape("--no-install-recommends gone tool")):
        packages.require(wanted, "A node")


def test_commands_of_the_system_folders_are_found_whatever_path_says() -> None:
    assert packages.command("sh") is not None
    assert {"/usr/sbin", "/sbin"} <= set(packages.SEARCH_PATH.split(":"))


@pytest.mark.parametrize(
    ("content", "static"),
    [
        (b"\x7fELF" + b"\0" * 100, True),
        (b"\x7fELF" + b"\0" * 100 + b"/lib64/ld-linux-x86-64.so.2\0", False),
        (b"#!/bin/sh\n", False),
    ],
)
def test_static_programs_are_told_from_others(
    tmp_path: Path, content: bytes, *, static: bool
) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    assert packages.is_static(program) is static
    assert not packages.is_static(tmp_path / "missing")

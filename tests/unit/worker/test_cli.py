from pathlib import Path

import pytest

from computepool_worker.cli import POOL_SETTINGS, Arguments, CheckArguments, parse


@pytest.mark.parametrize(
    ("arguments", "means"),
    [
        (["-c", "s.yaml"], Arguments(Path("s.yaml"), None, None)),
        (["--config-file", "s.yaml", "--name", "x"], Arguments(Path("s.yaml"), "x", None)),
        (
            ["-c", "s.yaml", "-n", "x", "--compute-manager-id", "m-1"],
            Arguments(Path("s.yaml"), "x", "m-1"),
        ),
        (["-c", "s.yaml", "-m", "m-1"], Arguments(Path("s.yaml"), None, "m-1")),
    ],
)
def test_the_stock_services_command_line(arguments: list[str], means: Arguments) -> None:
    assert parse(["compute", "synchronous", *arguments]) == means


@pytest.mark.parametrize(
    ("arguments", "means"),
    [
        ([], CheckArguments(POOL_SETTINGS, json=False)),
        (["-c", "s.yaml", "--json"], CheckArguments(Path("s.yaml"), json=True)),
    ],
)
def test_a_check(arguments: list[str], means: CheckArguments) -> None:
    assert parse(["check", *arguments]) == means


@pytest.mark.parametrize(
    "arguments", [[], ["compute"], ["compute", "synchronous"], ["compute", "asynchronous"]]
)
def test_anything_else_is_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert "usage: computepool-worker" in capsys.readouterr().err

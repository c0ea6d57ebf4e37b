"""Arguments of the operator, each with an environment variable beside it."""

import pytest

from computepool_operator.options import Options, parse

DEFAULTS = Options(
    namespaces=(),
    lease_name="computepool-operator",
    lease_namespace="",
    identity="this-host",
    health_port=8080,
    log_format="json",
    debug=False,
)


@pytest.fixture(autouse=True)
def host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "this-host")


def test_the_defaults() -> None:
    assert parse([], {}) == DEFAULTS


@pytest.mark.parametrize(
    ("arguments", "environment", "field", "value"),
    [
        (["--namespace=lab"], {}, "namespaces", ("lab",)),
        (["--namespace", "a", "--namespace", "b"], {}, "namespaces", ("a", "b")),
        ([], {"COMPUTEPOOL_NAMESPACES": "a, b,,"}, "namespaces", ("a", "b")),
        (["--namespace=lab"], {"COMPUTEPOOL_NAMESPACES": "a,b"}, "namespaces", ("lab",)),
        (["--lease-name=mine"], {"COMPUTEPOOL_LEASE_NAME": "x"}, "lease_name", "mine"),
        ([], {"COMPUTEPOOL_LEASE_NAME": "x"}, "lease_name", "x"),
        ([], {"COMPUTEPOOL_LEASE_NAMESPACE": "system"}, "lease_namespace", "system"),
        ([], {"COMPUTEPOOL_IDENTITY": "pod-1"}, "identity", "pod-1"),
        (["--health-port=0"], {"COMPUTEPOOL_HEALTH_PORT": "9"}, "health_port", 0),
        ([], {"COMPUTEPOOL_HEALTH_PORT": "9"}, "health_port", 9),
        ([], {"COMPUTEPOOL_LOG_FORMAT": "text"}, "log_format", "text"),
        (["--debug"], {}, "debug", True),
    ],
)
def test_an_argument_goes_before_the_environment(
    arguments: list[str], environment: dict[str, str], field: str, value: object
) -> None:
    assert getattr(parse(arguments, environment), field) == value


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--log-format=xml"], {}, "--log-format"),
        (["--health-port=http"], {}, "--health-port"),
        ([], {"COMPUTEPOOL_HEALTH_PORT": "http"}, "--health-port"),
        ([], {"COMPUTEPOOL_LOG_FORMAT": "xml"}, "--log-format"),
        (["--unheard-of"], {}, "--unheard-of"),
    ],
)
def test_nonsense_ends_with_a_usage_message(
    arguments: list[str],
    environment: dict[str, str],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(arguments, environment)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_help_names_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    told = capsys.readouterr().out
    for name in (
        "COMPUTEPOOL_NAMESPACES",
        "COMPUTEPOOL_LEASE_NAME",
        "COMPUTEPOOL_LEASE_NAMESPACE",
        "COMPUTEPOOL_IDENTITY",
        "COMPUTEPOOL_HEALTH_PORT",
        "COMPUTEPOOL_LOG_FORMAT",
    ):
        assert name in told

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from computepool_api.scope import Scope
from computepool_worker.patience import Patience
from computepool_worker.settings import NOT_USED, Settings, SettingsError, build, load

LEAST = {
    "api_url": "https://compute.alchemiscale.example.org",
    "identifier": "compute",
    "key": "not-for-your-eyes",
    "name": "worker",
    "shared_basedir": "/scratch/shared",
    "scratch_basedir": "/scratch/scratch",
}
MANAGER = "alchemiscale.a100-" + "0" * 32


def made(**more: Any) -> Settings:
    return made_in({}, **more)


def made_in(environment: Mapping[str, str], /, **more: Any) -> Settings:
    return build({**LEAST, **more}, source="settings.yaml", environment=environment)


def test_the_least_settings_are_enough() -> None:
    settings = made()
    assert settings.shared_basedir == Path("/scratch/shared")
    assert (settings.scopes, settings.scopes_exclude, settings.protocols) == ((), (), ())
    assert (settings.claim_limit, settings.max_tasks, settings.max_time) == (1, None, None)
    assert (settings.n_retries, settings.heartbeat_interval) == (3, 300.0)
    assert settings.client_verify is True


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("api_url", "http://localhost:1842/compute/", "http://localhost:1842/compute/"),
        ("compute_manager_id", MANAGER, MANAGER),
        ("scopes", ["a-b-c", "d-*-*"], (Scope("a", "b", "c"), Scope("d"))),
        ("scopes", [], ()),
        ("scopes_exclude", ["a-b-*"], (Scope("a", "b"),)),
        ("protocols", ["DummyProtocol"], ("DummyProtocol",)),
        ("protocols", [], ()),
        ("claim_limit", 5, 5),
        ("max_tasks", 1, 1),
        ("max_tasks", None, None),
        ("max_time", 3600, 3600.0),
        ("heartbeat_interval", 0.5, 0.5),
        ("n_retries", 0, 0),
        ("keep_scratch", True, True),
        ("loglevel", "warn", "WARNING"),
        ("loglevel", "Debug", "DEBUG"),
        ("logfile", "/var/log/worker", Path("/var/log/worker")),
        ("client_verify", False, False),
        ("client_verify", "/etc/ca.pem", "/etc/ca.pem"),
        ("log_format", "json", "json"),
        ("openmm_platform", "CUDA", "CUDA"),
        ("termination_grace", 0, 0.0),
        ("ephemeral", True, True),
        ("sleep_interval", 5, 5.0),
        ("sleep_interval", 0, 1.0),
        ("deep_sleep_interval", "0", 1.0),
        ("n_retries", "3", 3),
        ("n_retries", 3.0, 3),
        ("n_retries", " +3.0 ", 3),
        ("spool_max_bytes", "1_000", 1000),
        ("heartbeat_interval", "300", 300.0),
        ("heartbeat_interval", "1e3", 1000.0),
        ("termination_grace", "0", 0.0),
        ("client_retry_base_seconds", 1, 1.0),
        ("keep_shared", "true", True),
        ("keep_shared", "YES", True),
        ("keep_shared", "On", True),
        ("keep_shared", "1", True),
        ("keep_shared", 1, True),
        ("keep_shared", "False", False),
        ("keep_shared", "no", False),
        ("keep_shared", "off", False),
        ("keep_shared", "0", False),
        ("client_verify", "False", False),
        ("max_silence", 3600, 3600.0),
        ("spool_dir", "/spool", Path("/spool")),
        ("poison_file", "/etc/poison.json", Path("/etc/poison.json")),
        ("max_failures", 1, 1),
    ],
)
def test_a_valid_value(name: str, value: object, becomes: object) -> None:
    assert getattr(made(**{name: value}), name) == becomes


@pytest.mark.parametrize(
    ("name", "value", "must_be"),
    [
        ("api_url", "compute.example.org", "a URL such as"),
        ("api_url", "ftp://compute.example.org", "a URL such as"),
        ("name", 7, "text"),
        ("name", " ", "text"),
        ("compute_manager_id", "a100", "a compute manager's id"),
        ("scopes", "a-b-c", "a list of scopes"),
        ("scopes", ["*-b-c"], "a list of scopes"),
        ("scopes", [{"org": "a"}], "a list of scopes"),
        ("protocols", ["openfe.protocols.X"], "a list of bare class names"),
        ("claim_limit", 0, "a whole number of at least 1"),
        ("claim_limit", True, "a whole number of at least 1"),
        ("claim_limit", "three", "a whole number of at least 1"),
        ("claim_limit", "3.5", "a whole number of at least 1"),
        ("claim_limit", "1e3", "a whole number of at least 1"),
        ("claim_limit", "0", "a whole number of at least 1"),
        ("claim_limit", float("inf"), "a whole number of at least 1"),
        ("claim_limit", [3], "a whole number of at least 1"),
        ("max_tasks", 1.5, "a whole number of at least 1"),
        ("n_retries", -1, "a whole number of at least 0"),
        ("max_time", 0, "a number of seconds greater than 0"),
        ("max_time", float("inf"), "a number of seconds greater than 0"),
        ("heartbeat_interval", float("nan"), "a number of seconds greater than 0"),
        ("termination_grace", -1, "a number of seconds of at least 0"),
        ("heartbeat_interval", "nan", "a number of seconds greater than 0"),
        ("heartbeat_interval", "soon", "a number of seconds greater than 0"),
        ("sleep_interval", -1, "a number of seconds of at least 0"),
        ("keep_shared", "maybe", "true or false"),
        ("keep_shared", 2, "true or false"),
        ("keep_shared", ["yes"], "true or false"),
        ("loglevel", "LOUD", "one of DEBUG"),
        ("log_format", "xml", "text or json"),
        ("client_verify", 1, "true, false or the path"),
        ("shared_basedir", "", "a path"),
    ],
)
def test_an_invalid_value_is_refused_by_name(name: str, value: object, must_be: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made(**{name: value})
    assert str(caught.value).startswith(f"settings.yaml: {name} must be {must_be}")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@host",
        "https://s3cret@host",
        "https://user:s3cr#t@host",
        "https://user/s3cret@host",
        "user:s3cret@host",
        ["https://user:s3cret@host"],
    ],
)
def test_a_url_with_a_password_is_refused_and_not_shown(url: object) -> None:
    with pytest.raises(SettingsError, match="api_url must be a URL such as") as caught:
        made(api_url=url)
    assert "without user name or password" in str(caught.value)
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_task", "did you mean 'max_tasks'?"),
        ("Scopes", "did you mean 'scopes'?"),
        ("heartbeat-interval", "did you mean 'heartbeat_interval'?"),
        ("sleep_intervall", "did you mean 'sleep_interval'?"),
        ("colour", "there is no setting 'colour': remove it"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(SettingsError, match=r"settings\.yaml") as caught:
        made(**{name: 1})
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["api_url", "shared_basedir", "scratch_basedir"])
def test_what_is_required(name: str) -> None:
    with pytest.raises(SettingsError, match=f"must give {name}"):
        made(**{name: None})


@pytest.mark.parametrize("name", ["identifier", "key"])
def test_credentials_are_required_in_some_form(name: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"must give {name} \(or ALCHEMISCALE_.*credentials_dir"
    ):
        made(**{name: None})
    assert made(**{name: None}, credentials_dir="/etc/credentials").credentials_dir == Path(
        "/etc/credentials"
    )


def test_the_key_is_in_no_repr_and_no_error() -> None:
    assert "not-for-your-eyes" not in repr(made())
    with pytest.raises(SettingsError) as caught:
        made(key=["not-for-your-eyes"])
    assert "not-for-your-eyes" not in str(caught.value)


def test_settings_of_the_stock_service_that_are_not_used_are_named() -> None:
    settings = made(client_use_local_cache=True, client_cache_directory="x", sleep_interval=30)
    assert settings.not_used == ("client_cache_directory", "client_use_local_cache")
    assert set(settings.not_used) <= set(NOT_USED)


@pytest.mark.parametrize(
    ("given", "patience"),
    [
        ({}, Patience(0, 2.0, 60.0)),
        ({"client_max_retries": 3}, Patience(3, 2.0, 60.0)),
        ({"client_max_retries": -1}, Patience(-1, 2.0, 60.0)),
        ({"client_retry_base_seconds": 1.5}, Patience(5, 1.5, 60.0)),
        ({"client_retry_max_seconds": 10}, Patience(5, 2.0, 10.0)),
    ],
)
def test_how_long_a_server_is_waited_for(given: dict[str, object], patience: Patience) -> None:
    assert made(**given).patience == patience


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("client_max_retries", -2, "a whole number of at least -1"),
        ("client_retry_base_seconds", 0.9, "a number of at least 1"),
        ("client_retry_base_seconds", True, "a number of at least 1"),
        ("client_retry_max_seconds", 0, "a number of seconds greater than 0"),
    ],
)
def test_waits_that_would_not_be_any(name: str, value: object, says: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be {says}"):
        made(**{name: value})


def test_every_setting_of_the_stock_service_is_known() -> None:
    stock = {
        "api_url", "identifier", "key", "name", "compute_manager_id", "shared_basedir",
        "scratch_basedir", "keep_shared", "keep_scratch", "n_retries", "sleep_interval",
        "deep_sleep_interval", "heartbeat_interval", "scopes", "scopes_exclude", "protocols",
        "claim_limit", "max_tasks", "max_time", "loglevel", "logfile", "client_cache_directory",
        "client_cache_size_limit", "client_use_local_cache", "client_max_retries",
        "client_retry_base_seconds", "client_retry_max_seconds", "client_verify",
    }  # fmt: skip
    known = set(Settings.__dataclass_fields__) | set(NOT_USED)
    assert stock - known == set()


def test_what_the_command_line_gives_wins(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(LEAST))
    settings = load(file, {"name": "another", "compute_manager_id": None})
    assert settings.name == "another"
    assert settings.compute_manager_id is None


def test_a_relative_path_is_made_absolute() -> None:
    assert made(shared_basedir="shared").shared_basedir == Path.cwd() / "shared"


def test_a_service_made_by_a_manager_is_ephemeral_and_any_other_is_not() -> None:
    assert made(compute_manager_id=MANAGER).ephemeral
    assert not made().ephemeral
    assert not made(compute_manager_id=MANAGER, ephemeral=False).ephemeral
    assert made(max_tasks=1, ephemeral=True).ephemeral


def test_the_name_is_the_hosts_unless_given() -> None:
    assert made(name=None).name == socket.gethostname()


def test_variables_are_replaced_and_numbers_stay_numbers() -> None:
    settings = made_in(
        {"SCRATCH": "/scratch/job-7", "N": "3", "SCOPES": '["a-b-c"]', "JOB": "0123", "NONE": ""},
        shared_basedir="${SCRATCH}/shared",
        name="${JOB}",
        max_tasks="${N}",
        keep_scratch="${KEEP:-true}",
        scopes="${SCOPES}",
        protocols=["${PROTOCOL:-DummyProtocol}"],
        max_time="${NONE}",
        logfile="${NONE:-/var/log/$${worker}}",
    )
    assert settings.shared_basedir == Path("/scratch/job-7/shared")
    assert (settings.name, settings.max_tasks, settings.keep_scratch) == ("0123", 3, True)
    assert settings.scopes == (Scope("a", "b", "c"),)
    assert settings.protocols == ("DummyProtocol",)
    assert settings.max_time is None


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        made_in({}, scratch_basedir="${SLURM_TMPDIR}/scratch")
    assert str(caught.value) == (
        "settings.yaml: scratch_basedir: the environment variable SLURM_TMPDIR is not "
        "set: set it, or write ${SLURM_TMPDIR:-default}"
    )


def test_the_environment_of_the_stock_clients_fills_what_the_file_leaves_out() -> None:
    environment = {
        "ALCHEMISCALE_URL": "https://other.example.org",
        "ALCHEMISCALE_ID": "someone",
        "ALCHEMISCALE_KEY": "a-${key}-of-theirs",
    }
    settings = made_in(environment, api_url=None, identifier=None, key=None)
    assert settings.api_url == "https://other.example.org"
    assert (settings.identifier, settings.key) == ("someone", "a-${key}-of-theirs")
    assert made_in(environment).api_url == LEAST["api_url"]


def test_the_variables_that_a_key_came_from_are_known_to_be_secret() -> None:
    settings = made_in({"PASS": "x", "USER": "y"}, key="${PASS}", identifier="${USER}")
    assert settings.key == "x"
    assert set(settings.secret_variables) == {"ALCHEMISCALE_KEY", "PASS"}


@pytest.mark.parametrize("key", ["pa${ss", "a-${key}", "$${x}", "${HOME:-x}", "$", "*abc", "0123"])
def test_the_environments_credentials_are_taken_as_they_are(key: str) -> None:
    environment = {
        "ALCHEMISCALE_ID": key,
        "ALCHEMISCALE_KEY": key,
        "ALCHEMISCALE_URL": "https://x.example.org/${a",
    }
    settings = made_in(environment, api_url=None, identifier=None, key=None)
    assert (settings.identifier, settings.key) == (key, key)
    assert settings.api_url == "https://x.example.org/${a"
    settings = made_in({"V": key}, identifier="${V}", key="${V}")
    assert (settings.identifier, settings.key) == (key, key)


def test_a_variable_may_hold_what_yaml_would_read() -> None:
    environment = {"KEEP": "yes", "SCOPES": "[a-b-c]", "N": "~"}
    settings = made_in(
        environment, keep_scratch="${KEEP}", scopes="${SCOPES}", max_tasks="${N}", name="${KEEP}"
    )
    assert settings.keep_scratch is True
    assert settings.scopes == (Scope("a", "b", "c"),)
    assert (settings.max_tasks, settings.name) == (None, "yes")

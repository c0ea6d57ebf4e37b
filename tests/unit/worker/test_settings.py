import json
from pathlib import Path
from typing import Any

import pytest

from computepool_api.scope import Scope
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
    return build({**LEAST, **more}, source="settings.yaml")


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
        ("claim_limit", "3", "a whole number of at least 1"),
        ("max_tasks", 1.5, "a whole number of at least 1"),
        ("n_retries", -1, "a whole number of at least 0"),
        ("max_time", 0, "a number of seconds greater than 0"),
        ("max_time", float("inf"), "a number of seconds greater than 0"),
        ("heartbeat_interval", float("nan"), "a number of seconds greater than 0"),
        ("termination_grace", -1, "a number of seconds of at least 0"),
        ("keep_shared", "yes", "true or false"),
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


@pytest.mark.parametrize("name", ["api_url", "name", "shared_basedir", "scratch_basedir"])
def test_what_is_required(name: str) -> None:
    with pytest.raises(SettingsError, match=f"must give {name}"):
        made(**{name: None})


@pytest.mark.parametrize("name", ["identifier", "key"])
def test_credentials_are_required_in_some_form(name: str) -> None:
    with pytest.raises(SettingsError, match=f"must give {name}, or credentials_dir"):
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
    settings = made(sleep_interval=30, client_max_retries=5, spool_dir="/spool")
    assert settings.not_used == ("client_max_retries", "sleep_interval", "spool_dir")
    assert set(settings.not_used) <= set(NOT_USED)


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

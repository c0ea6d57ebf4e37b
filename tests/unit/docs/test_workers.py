"""docs/workers.md and docs/migration.md, held against the worker and the pool."""

import re
from dataclasses import MISSING, fields

import pytest

from computepool_operator.crd.manifest import custom_resource_definition
from computepool_worker import settings
from computepool_worker.child.agreement import TOLERANCES
from computepool_worker.settings import NOT_USED, Settings
from written.manifests import HOSTS, read
from written.pages import page, pools_in

CODE = re.compile(r"`([^`]+)`")
WORKERS = page("docs/workers.md")
MIGRATION = page("docs/migration.md")
ROWS = WORKERS.tables("setting", "default", "meaning")
MOVES = MIGRATION.tables("in the settings file, or the Deployment", "in the pool")
# As devtools/configs/synchronous-compute-settings.yaml of alchemiscale 0.8 has them.
STOCK = [
    "api_url", "identifier", "key", "name", "compute_manager_id", "shared_basedir",
    "scratch_basedir", "keep_shared", "keep_scratch", "n_retries", "sleep_interval",
    "deep_sleep_interval", "heartbeat_interval", "scopes", "scopes_exclude", "protocols",
    "claim_limit", "max_tasks", "max_time", "loglevel", "logfile", "client_verify",
    "client_cache_directory", "client_cache_size_limit", "client_use_local_cache",
    "client_max_retries", "client_retry_base_seconds", "client_retry_max_seconds",
]  # fmt: skip
DERIVED = {"secret_variables", "not_used"}


def test_every_setting_is_told_and_no_other() -> None:
    told = [name for row in ROWS for name in CODE.findall(row["setting"])]
    known = {field.name for field in fields(Settings)} - DERIVED
    assert sorted(told) == sorted(known | set(NOT_USED))
    assert known | set(NOT_USED) == settings._PARSERS.keys() | set(NOT_USED)


def test_the_defaults_are_true() -> None:
    defaults = {field.name: field.default for field in fields(Settings)}
    told = {
        name: default
        for row in ROWS
        if row["default"].startswith("`")
        for name, default in zip(
            CODE.findall(row["setting"]), CODE.findall(row["default"]) * 2, strict=False
        )
    }
    told.pop("logfile")  # stderr
    told.pop("ephemeral")  # as the kind of service is
    assert len(told) > 15
    for name, default in told.items():
        assert defaults[name] is not MISSING
        value = defaults[name]
        shown = str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")
        assert default == shown, name


def test_the_tolerance_is_told() -> None:
    said = " ".join(WORKERS.prose())
    assert f"within {TOLERANCES['mixed']:.0e}".replace("e-04", "e-4") in said


def test_every_stock_setting_has_its_place_in_a_pool() -> None:
    moved = [name for row in MOVES for name in CODE.findall(next(iter(row.values())))]
    assert set(STOCK) <= set(moved)
    assert not set(STOCK) - settings._PARSERS.keys() - set(NOT_USED)


def test_the_fields_of_the_pool_are_there() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    named = [
        path
        for row in MOVES
        for path in CODE.findall(row["in the pool"])
        if path.startswith("spec.")
    ]
    assert len(named) > 12
    for path in named:
        below = schema
        for step in path.split("."):
            assert step in below["properties"], path
            below = below["properties"][step]


def test_the_pool_asks_for_what_the_deployment_has() -> None:
    (pool,) = pools_in(MIGRATION)
    (deployment,) = read((HOSTS / "deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = [one["secret"] for one in pod["volumes"] if "secret" in one]
    reference = pool["spec"]["computeAPI"]["credentialsSecretRef"]
    assert reference["name"] == volume["secretName"]
    assert container["args"][-1].endswith(f"/{reference['settingsKey']}")
    wanted = {**container["resources"]["limits"]}
    assert wanted.pop("nvidia.com/gpu") == pool["spec"]["worker"]["gpu"]["count"]
    assert pool["spec"]["worker"]["resources"]["limits"] == wanted
    assert deployment["metadata"]["name"] in "\n".join(MIGRATION.path.read_text().splitlines())


@pytest.mark.parametrize("name", ["settings.yaml", "slurm-settings.yaml", "check-job.yaml"])
def test_examples_are_named_in_the_pages(name: str) -> None:
    text = WORKERS.path.read_text() + page("docs/runbook.md").path.read_text()
    assert f"deploy/examples/hosts/{name}" in text

"""deploy/examples/hosts: workers without an operator, as far as one machine can try them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.operator.pod_security import violations

from computepool_worker.settings import Settings, build, load
from written.manifests import HOSTS, SETTINGS_FILES, Manifest, read

SCRIPTS = sorted(HOSTS.glob("*.sh"))
MANIFESTS = sorted(set(HOSTS.glob("*.yaml")) - set(SETTINGS_FILES))
WHERE = {
    "COMPUTEPOOL_CREDENTIALS": "/home/me/.config/alchemiscale-compute",
    "COMPUTEPOOL_SCRATCH": "/local/alchemiscale-7",
    "COMPUTEPOOL_SPOOL": "/home/me/alchemiscale-spool",
    "SLURM_JOB_ID": "7",
}


def name(path: Path) -> str:
    return path.name


def program(folder: Path, named: str, *lines: str) -> None:
    path = folder / named
    path.write_text("\n".join(["#!/usr/bin/env bash", *lines, ""]))
    path.chmod(0o755)


def call(script: str, folder: Path, *arguments: str, **environment: str) -> list[str]:
    """Run a script with programs of `folder` on its path; return what the last of them was told."""
    told = folder / "told"
    home = {"HOME": str(folder / "home"), "TOLD": str(told)}
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(
        [HOSTS / script, *arguments],
        env={"PATH": path, "COMPUTEPOOL_SCRATCH": str(folder / "scratch"), **home, **environment},
        check=True,
    )
    return told.read_text().splitlines()


def pod_spec(document: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


def pods(path: Path) -> list[dict[str, Any]]:
    return [pod_spec(one) for one in read(path.read_text()) if "template" in one.get("spec", {})]


def test_all_of_them_are_here() -> None:
    assert [path.name for path in SCRIPTS] == ["conda.sh", "docker.sh", "slurm.sh"]
    assert [path.name for path in SETTINGS_FILES] == ["settings.yaml", "slurm-settings.yaml"]
    assert [path.name for path in MANIFESTS] == ["check-job.yaml", "deployment.yaml"]


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=name)
def test_the_worker_takes_the_settings(path: Path) -> None:
    settings = load(path, {}, WHERE)
    assert settings.openmm_platform == "CUDA"
    assert settings.not_used == ()
    assert not settings.ephemeral
    assert str(settings.scratch_basedir) == "/local/alchemiscale-7/scratch"
    assert load(path, {}, {**WHERE, "OPENMM_PLATFORM": "CPU"}).openmm_platform == "CPU"


def test_a_job_of_slurm_takes_one_task_and_has_time_to_give_it_back() -> None:
    settings = load(HOSTS / "slurm-settings.yaml", {}, {**WHERE, "SLURM_CLUSTER_NAME": "big"})
    assert (settings.name, settings.max_tasks, settings.max_time) == ("big.7", 1, 300.0)
    script = (HOSTS / "slurm.sh").read_text()
    (signal,) = [line for line in script.splitlines() if line.startswith("#SBATCH --signal")]
    assert settings.termination_grace < int(signal.partition("@")[2])


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_are_well_formed_and_can_be_run(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text()


def test_conda_starts_the_service_in_its_environment(tmp_path: Path) -> None:
    hook = 'conda() { echo "$*" > "$TOLD.conda"; }'
    program(tmp_path, "conda", "[ \"$*\" = 'shell.bash hook' ] || exit 9", f"echo '{hook}'")
    program(tmp_path, "computepool-worker", 'printf "%s\\n" "$CUDA_VISIBLE_DEVICES" "$@" > "$TOLD"')
    settings = str(HOSTS / "settings.yaml")
    assert call("conda.sh", tmp_path) == ["0", "compute", "synchronous", "-c", settings]
    assert (tmp_path / "told.conda").read_text() == "activate alchemiscale-worker\n"
    assert call("conda.sh", tmp_path, "check", "--json", CUDA_VISIBLE_DEVICES="1") == [
        "1", "check", "-c", settings, "--json",
    ]  # fmt: skip
    (tmp_path / "told.conda").unlink()
    call("conda.sh", tmp_path, CONDA_DEFAULT_ENV="mine", ENVIRONMENT="mine")
    assert not (tmp_path / "told.conda").exists()


def test_docker_gives_the_container_what_the_settings_name(tmp_path: Path) -> None:
    program(tmp_path, "docker", 'printf "%s\\n" "$@" > "$TOLD"')
    words = call("docker.sh", tmp_path, GPU="3", IMAGE="worker:test")
    assert "--gpus=device=3" in words
    assert words[words.index("worker:test") + 1 :] == [
        "compute", "synchronous", "-c", "/etc/computepool/settings.yaml",
    ]  # fmt: skip
    given = dict(word.removeprefix("--env=").split("=") for word in words if "--env=" in word)
    settings = load(HOSTS / "settings.yaml", {}, given)
    mounted = [word.split(":")[1] for word in words if word.startswith("--volume=")]
    assert str(settings.credentials_dir) in mounted
    assert all(
        path is not None and str(path.parent) in mounted
        for path in (settings.shared_basedir, settings.scratch_basedir, settings.spool_dir)
    )
    assert (tmp_path / "scratch").is_dir()
    check = call("docker.sh", tmp_path, "check", "--json")
    assert check[-4:] == ["check", "-c", "/etc/computepool/settings.yaml", "--json"]


@pytest.mark.parametrize("path", MANIFESTS, ids=name)
def test_the_pods_pass_the_restricted_standard_and_have_no_token(path: Path) -> None:
    (pod,) = pods(path)
    assert violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def mounts(pod: dict[str, Any]) -> dict[str, str]:
    """Return the kind of volume that is mounted at each path."""
    kinds = {volume["name"]: next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]}
    (container,) = pod["containers"]
    return {mount["mountPath"]: kinds[mount["name"]] for mount in container["volumeMounts"]}


def writable(settings: Settings) -> list[Path]:
    every = (settings.shared_basedir, settings.scratch_basedir, settings.state_dir)
    return [path for path in every if path is not None]


def test_the_check_reads_the_settings_that_are_mounted() -> None:
    configuration, job = read((HOSTS / "check-job.yaml").read_text())
    pod = pod_spec(job)
    (container,) = pod["containers"]
    command, option, path = container["args"]
    assert (command, option) == ("check", "-c")
    found = mounts(pod)
    assert found[str(Path(path).parent)] == "configMap"
    (text,) = [configuration["data"][Path(path).name]]
    settings = build(json.loads(json.dumps(read(text)[0])), source=path)
    assert found[str(settings.credentials_dir)] == "secret"
    for directory in writable(settings):
        assert {found.get(str(path)) for path in (directory, *directory.parents)} >= {"emptyDir"}


def test_the_deployment_is_that_of_alchemiscales_documentation() -> None:
    (deployment,) = read((HOSTS / "deployment.yaml").read_text())
    pod = pod_spec(deployment)
    (container,) = pod["containers"]
    assert container["args"] == [
        "compute", "synchronous", "-c", "/mnt/settings/synchronous-compute-settings.yaml",
    ]  # fmt: skip
    found = mounts(pod)
    assert found["/mnt/settings"] == "secret"
    # The image's working directory, where the stock settings' relative paths lead.
    assert found["/scratch"] == "emptyDir"
    assert pod["terminationGracePeriodSeconds"] >= 30

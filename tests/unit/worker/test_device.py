"""The device check, on platforms that every machine has."""

import math
import random
import time
from pathlib import Path

import openmm
import pytest

from computepool_worker.boundary import Prepare
from computepool_worker.child import device
from computepool_worker.child.agreement import Evaluation
from computepool_worker.child.device import check_device, fault_of_absence, sample
from computepool_worker.child.fitness import examine
from computepool_worker.child.unfit import UnfitError


@pytest.mark.parametrize(("name", "precision"), [("CPU", "mixed"), ("Reference", "double")])
def test_a_healthy_platform_is_described(name: str, precision: str) -> None:
    began = time.monotonic()
    facts = check_device(name, min_memory=10**9)
    assert time.monotonic() - began < 10
    assert (facts["platform"], facts["precision"]) == (name, precision)
    assert facts["openmm"] == openmm.Platform.getOpenMMVersion()
    assert facts["device"]
    assert (facts["driver"], facts["memory_free_mib"]) == ("none", "unknown")
    assert 0 <= float(facts["force_error"]) < 1e-5
    assert float(facts["check_seconds"]) >= float(facts["steps_seconds"]) > 0


def test_the_sample_is_the_same_each_time_and_has_every_kind_of_force() -> None:
    random.seed(7)
    (system, positions), (_, again) = sample(), sample()
    assert positions == again
    assert system.getNumParticles() == len(positions) == 500
    assert [type(force).__name__ for force in system.getForces()] == [
        "HarmonicBondForce",
        "HarmonicAngleForce",
        "PeriodicTorsionForce",
        "NonbondedForce",
    ]


def test_a_platform_that_is_not_there() -> None:
    with pytest.raises(UnfitError, match="no platform HIP here, only Reference") as caught:
        check_device("HIP", 0)
    assert caught.value.fault == "image"
    assert "could not be loaded" not in str(caught.value)


PLUGINS = "/opt/conda/lib/plugins"


@pytest.mark.parametrize(
    ("loaded", "failures", "fault"),
    [
        ([], [], "image"),
        ([f"{PLUGINS}/libOpenMMCPU.so"], [], "image"),
        ([f"{PLUGINS}/libOpenMMCUDA.so"], [], "node"),
        ([], ["libOpenMMCUDA.so: libcuda.so.1: cannot open shared object file"], "node"),
        ([], ["libOpenMMCUDA.so: libnvidia-ptxjitcompiler.so.1: version mismatch"], "node"),
        ([], ["libOpenMMCUDA.so: libnvrtc.so.12: cannot open shared object file"], "image"),
        ([], ["libOpenMMOpenCL.so: libcuda.so.1: cannot open shared object file"], "image"),
        ([f"{PLUGINS}/libOpenMMCUDACompiler.so"], [], "image"),
    ],
)
def test_who_is_to_blame_that_a_platform_is_not_there(
    loaded: list[str], failures: list[str], fault: str
) -> None:
    told = [f"Error loading library {PLUGINS}/{failure}" for failure in failures]
    assert fault_of_absence("CUDA", loaded, told) == fault


def spoilt(monkeypatch: pytest.MonkeyPatch, *, call: int, force: float, energy: float) -> None:
    """Let the device's evaluation number `call` be wrong in one component and in its energy."""
    healthy, calls = device._evaluate, iter(range(100))

    def evaluate(context: openmm.Context) -> Evaluation:
        found = healthy(context)
        if context.getPlatform().getName() == "Reference" or next(calls) != call:
            return found
        forces = [list(vector) for vector in found.forces]
        forces[123][1] += force
        return Evaluation(found.energy + energy, forces)

    monkeypatch.setattr(device, "_evaluate", evaluate)


@pytest.mark.parametrize(
    ("call", "force", "energy", "says"),
    [
        (0, 50.0, 0.0, "computes wrongly at first: forces differ"),
        (1, 50.0, 0.0, "computes wrongly after 50 steps: forces differ"),
        (1, 0.0, 5.0, "computes wrongly after 50 steps: energy differ"),
        (1, math.nan, 0.0, "not finite"),
        (0, 0.0, math.inf, "not finite"),
    ],
)
def test_one_wrong_number_is_enough(
    monkeypatch: pytest.MonkeyPatch, call: int, force: float, energy: float, says: str
) -> None:
    spoilt(monkeypatch, call=call, force=force, energy=energy)
    with pytest.raises(UnfitError, match=says) as caught:
        check_device("CPU", 0)
    assert caught.value.fault == "node"
    assert "take the device out of use" in str(caught.value)


def test_steps_that_do_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_STEPS", 0)
    with pytest.raises(UnfitError, match="nothing has moved"):
        check_device("CPU", 0)


def test_a_context_that_cannot_be_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_precision", lambda _: ("mixed", {"Turbo": "on"}))
    with pytest.raises(UnfitError, match=r"cannot create a Context on CPU: .*Turbo.*driver"):
        check_device("CPU", 0)


def test_an_error_while_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    system, positions = sample()
    monkeypatch.setattr(device, "sample", lambda: (system, [(math.nan,) * 3, *positions[1:]]))
    with pytest.raises(UnfitError, match=r"cannot compute on CPU .*dmesg"):
        check_device("CPU", 0)


def test_what_is_demanded_is_looked_at(tmp_path: Path) -> None:
    demanded = Prepare("CPU", device_min_memory=10, scratch=str(tmp_path), scratch_min_free=1)
    ready = examine(demanded)
    assert ready.ok
    assert {"scratch_free_mib", "device", "precision"} <= ready.facts.keys()
    assert examine(Prepare(None)) == examine(Prepare(None, device_min_memory=10**9))
    full = examine(Prepare("CPU", scratch=str(tmp_path), scratch_min_free=10**9))
    assert (full.ok, full.fault) == (False, "node")
    assert "lower scratch_min_free" in full.reason
    absent = examine(Prepare("Abacus", scratch=str(tmp_path)))
    assert (absent.ok, absent.fault) == (False, "image")
    assert "scratch_free_mib" in absent.facts

"""Whether the device is what the pool demands. The only module that imports openmm.

OpenMM's platform has to be there, create a Context, and compute a small system as the Reference
platform does, before and after some steps. A device that has gone bad in any usual way (a driver
that does not fit, memory that is full or flips bits, a GPU that has fallen off its bus) fails here
and not in a Task.
"""

import math
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from computepool_worker.child.agreement import Evaluation, Vector, complaint, difference
from computepool_worker.child.capacity import (
    check_memory,
    device_uuid,
    driver,
    free_memory,
    processor_name,
)
from computepool_worker.child.unfit import Fault, UnfitError

if TYPE_CHECKING:
    import openmm

# 125 molecules of 4 particles in a box of 2.5 nm: the Reference platform needs 10 ms for it.
_SIDE = 5
_SPACING = 0.5
_STEPS = 50
_SEED = 20250

# These libraries come with the driver, that is from the node; all others belong into the image.
_OF_THE_NODE = ("libcuda.", "libnvidia")


@dataclass(frozen=True, slots=True)
class _Trial:
    """A Context, and what it is to be compared with."""

    context: "openmm.Context"
    reference: "openmm.Context"
    name: str
    precision: str


def check_device(name: str, min_memory: int) -> dict[str, str]:
    """Return facts about OpenMM's platform ``name`` and its device, for the log.

    Raises UnfitError if the device is not fit, or has less than ``min_memory`` MiB of free memory,
    and ImportError where there is no OpenMM.
    """
    import openmm

    platform = find_platform(name)
    system, positions = sample()
    began = time.monotonic()
    precision, properties = _precision(platform)
    context = _context(system, platform, properties)
    created = time.monotonic()
    reference = _context(system, openmm.Platform.getPlatformByName("Reference"), {})
    facts = {"openmm": openmm.Platform.getOpenMMVersion(), "platform": name, "precision": precision}
    facts |= _describe(platform, context)
    try:
        facts |= _try(_Trial(context, reference, name, precision), positions)
    except openmm.OpenMMException as error:
        raise UnfitError(
            f"OpenMM cannot compute on {name} ({facts['device']}): {_line(error)}: look for errors "
            "of the device on this node (dmesg, nvidia-smi)"
        ) from None
    index = _index(facts)
    # The Contexts go first: what they take is no shortage.
    del context, reference
    free = free_memory(name, index)
    check_memory(free, min_memory, facts["device"])
    uuid = device_uuid(name, index)
    if uuid is not None:
        facts["device_uuid"] = uuid
    return {
        **facts,
        "memory_free_mib": "unknown" if free is None else str(free),
        "context_seconds": f"{created - began:.2f}",
        "check_seconds": f"{time.monotonic() - began:.2f}",
    }


def find_platform(name: str) -> "openmm.Platform":
    """Return OpenMM's platform ``name``.

    Raises UnfitError if there is no such platform, saying which there are and whether its plugin
    could not be loaded.
    """
    import openmm

    there = [
        openmm.Platform.getPlatform(index).getName()
        for index in range(openmm.Platform.getNumPlatforms())
    ]
    if name in there:
        return openmm.Platform.getPlatformByName(name)
    failures = [failure for failure in openmm.Platform.getPluginLoadFailures() if name in failure]
    fault = fault_of_absence(name, openmm.pluginLoadedLibNames, failures)
    advice = (
        "look for the device's driver on this node, and whether the pod asks for the device"
        if fault == "node"
        else "take an image whose OpenMM has it, or set openmm_platform"
    )
    why = f"; a plugin could not be loaded: {failures[0]}" if failures else ""
    raise UnfitError(
        f"OpenMM has no platform {name} here, only {', '.join(there)}: {advice}{why}", fault
    )


def fault_of_absence(name: str, loaded: Iterable[str], failures: Iterable[str]) -> Fault:
    """Say who is to blame that a platform is not there. Pure.

    A plugin that was loaded and brought no platform has found no driver that it can use. One that
    was not loaded lacks a library, of the driver or of the image. One of which OpenMM does not
    speak is not in the image.
    """
    plugin = re.compile(rf"\blibOpenMM{re.escape(name)}\b")
    if any(plugin.search(path) for path in loaded):
        return "node"
    for failure in failures:
        path, _, why = failure.partition(": ")
        if plugin.search(path):
            return "node" if why.startswith(_OF_THE_NODE) else "image"
    return "image"


def sample() -> "tuple[openmm.System, list[Vector]]":
    """Build the system that is computed: every kind of force that a molecule in a box has.

    The mesh of the Ewald sum is fixed, since platforms choose it differently and would then differ
    by more than by rounding.
    """
    import openmm

    system = openmm.System()
    edge = _SIDE * _SPACING
    system.setDefaultPeriodicBoxVectors((edge, 0, 0), (0, edge, 0), (0, 0, edge))
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    torsions, nonbonded = openmm.PeriodicTorsionForce(), openmm.NonbondedForce()
    generator = random.Random(_SEED)  # noqa: S311
    positions: list[Vector] = []
    for cell in range(_SIDE**3):
        corner = (cell % _SIDE, cell // _SIDE % _SIDE, cell // _SIDE**2)
        first = len(positions)
        for number, charge in enumerate((0.3, -0.3, 0.3, -0.3)):
            system.addParticle(14.0)
            nonbonded.addParticle(charge, 0.25, 0.4)
            shift = (0.1 * number, 0.1 * (number % 2), 0.0)
            positions.append(
                tuple(
                    _SPACING * place + by + generator.uniform(-0.01, 0.01)
                    for place, by in zip(corner, shift, strict=True)
                )
            )
        for one in range(first, first + 3):
            bonds.addBond(one, one + 1, 0.14, 2e5)
        for one in range(first, first + 2):
            angles.addAngle(one, one + 1, one + 2, 1.6, 400.0)
        torsions.addTorsion(first, first + 1, first + 2, first + 3, 3, 0.0, 5.0)
    pairs = [(one, one + 1) for one in range(len(positions)) if one % 4 != 3]
    nonbonded.createExceptionsFromBonds(pairs, 0.5, 0.5)
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(1.0)
    nonbonded.setPMEParameters(3.0, 32, 32, 32)
    for force in (bonds, angles, torsions, nonbonded):
        system.addForce(force)
    return system, positions


def _precision(platform: "openmm.Platform") -> tuple[str, dict[str, str]]:
    """Choose mixed precision, in which the alchemical Protocols run unless told otherwise."""
    if "Precision" in platform.getPropertyNames():
        return "mixed", {"Precision": "mixed"}
    # These two offer no choice: the CPU platform computes pairs in single precision.
    return ("double" if platform.getName() == "Reference" else "mixed"), {}


def _context(
    system: "openmm.System", platform: "openmm.Platform", properties: dict[str, str]
) -> "openmm.Context":
    import openmm

    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    integrator.setRandomNumberSeed(_SEED)
    try:
        return openmm.Context(system, integrator, platform, properties)
    except openmm.OpenMMException as error:
        raise UnfitError(
            f"OpenMM cannot create a Context on {platform.getName()}: {_line(error)}: look whether "
            "the device is free, and whether its driver is new enough for this OpenMM"
        ) from None


def _describe(platform: "openmm.Platform", context: "openmm.Context") -> dict[str, str]:
    """Name the device that OpenMM has chosen, and its driver."""
    name = platform.getName()
    wanted = {"DeviceName": "device", "DeviceIndex": "device_index", "Threads": "threads"}
    there = set(platform.getPropertyNames())
    told = {
        fact: platform.getPropertyValue(context, property_)
        for property_, fact in wanted.items()
        if property_ in there
    }
    return {"device": processor_name(), **told, "driver": driver(name)}


def _index(facts: dict[str, str]) -> int:
    found = re.match(r"\d+", facts.get("device_index", ""))
    return int(found[0]) if found else 0


def _try(trial: _Trial, positions: Sequence[Vector]) -> dict[str, str]:
    """Compare with the Reference, before and after some steps; return what was seen."""
    trial.context.setPositions(positions)
    before = _compare(trial, positions, "at first")
    began = time.monotonic()
    trial.context.setVelocitiesToTemperature(300.0, _SEED)
    trial.context.getIntegrator().step(_STEPS)
    moved = _positions(trial.context)
    seconds = time.monotonic() - began
    if not all(math.isfinite(number) for place in moved for number in place):
        raise UnfitError(f"{trial.name} is wrong after {_STEPS} steps: positions are not finite")
    if all(math.dist(here, there) < 1e-6 for here, there in zip(positions, moved, strict=True)):
        raise UnfitError(f"{trial.name} is wrong after {_STEPS} steps: nothing has moved")
    after = _compare(trial, moved, f"after {_STEPS} steps")
    return {
        "force_error": f"{max(before, after):.1e}",
        "steps_seconds": f"{seconds:.2f}",
    }


def _compare(trial: _Trial, positions: Sequence[Vector], when: str) -> float:
    found = _evaluate(trial.context)
    trial.reference.setPositions(positions)
    expected = _evaluate(trial.reference)
    wrong = complaint(found, expected, trial.precision)
    if wrong is not None:
        raise UnfitError(
            f"{trial.name} computes wrongly {when}: {wrong}: take the device out of use and test it"
        )
    return difference(found, expected).force


def _evaluate(context: "openmm.Context") -> Evaluation:
    import openmm.unit as units

    state = context.getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(units.kilojoule_per_mole)
    forces = state.getForces().value_in_unit(units.kilojoule_per_mole / units.nanometer)
    return Evaluation(float(energy), [tuple(force) for force in forces])


def _positions(context: "openmm.Context") -> list[Vector]:
    import openmm.unit as units

    state = context.getState(getPositions=True)
    return [tuple(place) for place in state.getPositions().value_in_unit(units.nanometer)]


def _line(error: Any) -> str:
    return " ".join(str(error).split())

"""Whether a device computes what it should: its energy and forces against the Reference platform's.

Pure, and without OpenMM. Energies are in kJ/mol, forces in kJ/mol/nm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

Vector: TypeAlias = Sequence[float]

TOLERANCES: Mapping[str, float] = MappingProxyType({"single": 1e-4, "mixed": 1e-4, "double": 1e-6})
"""The relative difference that is allowed, by precision.

In single and in mixed precision the terms of a force have 24 bits, an error of 6e-8 each. A force
is the sum of some hundred terms that partly cancel, so that rounding makes up to 1e-5 of it: OpenCL
in mixed precision was seen to be 8e-6 off, the CPU platform 4e-7. 1e-4 leaves room for devices that
round worse. What is broken shows by far more: a term that is left out or a wrong lane of a vector
unit by parts of one, a flipped bit of an exponent by powers of ten. Double precision has 53 bits,
but GPUs sum forces and spread charges in fixed point: 1e-6.
"""

_ENERGY_PER_PARTICLE = 1.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one platform says about one set of positions."""

    energy: float
    forces: Sequence[Vector]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a platform is from the Reference, both relative.

    ``force``: root mean square of the difference, by that of the forces. ``energy``: by the energy,
    or by 1 kJ/mol per particle where large terms happen to cancel.
    """

    force: float
    energy: float


def is_finite(evaluation: Evaluation) -> bool:
    """Whether energy and forces are numbers."""
    return math.isfinite(evaluation.energy) and all(
        math.isfinite(component) for force in evaluation.forces for component in force
    )


def difference(found: Evaluation, reference: Evaluation) -> Difference:
    """Compare two evaluations of the same positions. Raises ValueError if their sizes differ."""
    apart = math.sqrt(
        sum(
            math.dist(force, expected) ** 2
            for force, expected in zip(found.forces, reference.forces, strict=True)
        )
    )
    size = math.sqrt(sum(component**2 for force in reference.forces for component in force))
    scale = max(abs(reference.energy), _ENERGY_PER_PARTICLE * len(reference.forces))
    return Difference(
        force=apart / size if size else math.inf,
        energy=abs(found.energy - reference.energy) / scale,
    )


def complaint(found: Evaluation, reference: Evaluation, precision: str) -> str | None:
    """Say in what ``found`` is wrong, or return None if it agrees with ``reference``."""
    if not is_finite(found):
        return "energy or forces are not finite"
    tolerance = TOLERANCES[precision]
    apart = difference(found, reference)
    for what, by in (("forces", apart.force), ("energy", apart.energy)):
        # Written so that NaN is a complaint as well.
        if not by <= tolerance:
            return (
                f"{what} differ from the Reference platform's by {by:.1e}, and {tolerance:.0e} is "
                f"allowed in {precision} precision"
            )
    return None

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_worker.child.agreement import (
    TOLERANCES,
    Evaluation,
    complaint,
    difference,
    is_finite,
)

REFERENCE = Evaluation(-1000.0, [(1.0, 2.0, 2.0), (-4.0, 0.0, 3.0)] * 50)
COMPONENTS = st.floats(-1e6, 1e6)
FORCES = st.lists(st.tuples(COMPONENTS, COMPONENTS, COMPONENTS), min_size=1, max_size=20)


def moved(by: float, energy: float = 0.0) -> Evaluation:
    """Return the reference with every force longer by a part, and another energy."""
    forces = [tuple(component * (1 + by) for component in force) for force in REFERENCE.forces]
    return Evaluation(REFERENCE.energy + energy, forces)


@pytest.mark.parametrize(
    ("found", "precision", "word"),
    [
        (moved(0.0), "double", None),
        (moved(5e-7), "double", None),
        (moved(5e-6), "double", "forces"),
        (moved(5e-5), "mixed", None),
        (moved(5e-5), "single", None),
        (moved(2e-4), "mixed", "forces"),
        (moved(0.0, energy=0.09), "mixed", None),
        (moved(0.0, energy=0.11), "mixed", "energy"),
        (moved(0.0, energy=0.11), "double", "energy"),
        (moved(1.0, energy=math.nan), "mixed", "finite"),
        (moved(math.inf), "mixed", "finite"),
    ],
)
def test_what_is_wrong(found: Evaluation, precision: str, word: str | None) -> None:
    said = complaint(found, REFERENCE, precision)
    assert (said is None) if word is None else (said is not None and word in said)


def test_a_complaint_says_by_how_much() -> None:
    assert complaint(moved(0.5), REFERENCE, "single") == (
        "forces differ from the Reference platform's by 5.0e-01, and 1e-04 is allowed in single "
        "precision"
    )


def test_an_energy_that_cancels_is_compared_per_particle() -> None:
    cancelled = Evaluation(1e-6, REFERENCE.forces)
    assert difference(Evaluation(1.0, REFERENCE.forces), cancelled).energy == pytest.approx(0.01)


def test_different_numbers_of_particles_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="argument"):
        difference(Evaluation(0.0, []), REFERENCE)


@given(FORCES, st.floats(-1e6, 1e6), st.sampled_from(sorted(TOLERANCES)))
def test_nothing_that_is_finite_and_has_forces_disagrees_with_itself(
    forces: list[tuple[float, float, float]], energy: float, precision: str
) -> None:
    same = Evaluation(energy, forces)
    assert is_finite(same)
    if any(abs(component) > 1e-100 for force in forces for component in force):
        assert complaint(same, same, precision) is None


@given(FORCES, st.integers(0, 59), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_one_number_that_is_none_is_found(
    forces: list[tuple[float, float, float]], place: int, bad: float
) -> None:
    spoilt = [list(force) for force in forces]
    spoilt[place % len(spoilt)][place % 3] = bad
    assert not is_finite(Evaluation(0.0, spoilt))
    assert complaint(Evaluation(0.0, spoilt), Evaluation(0.0, forces), "single") is not None

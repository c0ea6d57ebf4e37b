import copy
import pickle
import re
import tomllib
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import computepool_api
from computepool_api.ids import (
    ComputeManagerID,
    ComputeServiceID,
    to_alchemiscale_name,
    to_kubernetes_name,
)
from simulator.identifiers import ComputeID

HEX = "109c880dd13e41b08a3541db399ae394"
LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
KUBERNETES_NAMES = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ALCHEMISCALE_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.:]{0,80}", fullmatch=True)
NEAR_IDS = st.one_of(
    st.text(max_size=60),
    st.builds(
        "{}-{}".format, st.text(max_size=8), st.text("0123456789abcdefABCDEF-{}", max_size=38)
    ),
    st.builds("{}-{}".format, ALCHEMISCALE_NAMES, st.uuids().map(lambda u: u.hex)),
    st.builds("{}-{}".format, ALCHEMISCALE_NAMES, st.uuids().map(str)),
)


@given(ALCHEMISCALE_NAMES, st.uuids())
def test_an_id_has_its_parts(name: str, number: uuid.UUID) -> None:
    made = ComputeServiceID.new(name, number)
    assert (made.name, made.uuid) == (name, number.hex)
    assert ComputeServiceID.parse(str(made)) == made == f"{name}-{number.hex}"


@given(NEAR_IDS)
def test_what_is_an_id_here_is_one_to_the_server(text: str) -> None:
    try:
        made = ComputeManagerID.parse(text)
    except ValueError:
        return
    server = ComputeID.parse(text, "ComputeManagerID")
    assert (server.name, server.uuid) == (made.name, made.uuid)
    assert re.fullmatch("[0-9a-f]{32}", made.uuid)


@pytest.mark.parametrize(
    "text",
    [
        f"my-mgr-{HEX}",
        f"1mgr-{HEX}",
        f"_mgr-{HEX}",
        f"mgré-{HEX}",
        f"m gr-{HEX}",
        f"m+gr-{HEX}",
        f"m/gr-{HEX}",
        f"mgr\n-{HEX}",
        f"mgr-{HEX}\n",
        f"-{HEX}",
        "mgr",
        "mgr-",
        "mgr-zzz",
        f"mgr-{HEX[:-1]}",
        f"mgr-{HEX.upper()}",
        f"mgr-{{{HEX}}}",
        f"mgr-urn:uuid:{HEX}",
        "mgr-1924bc13-19d1-447a-ab06-a98820acbee2",
        "",
    ],
)
def test_ids_that_are_refused_or_compared_as_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="is no ComputeManagerID"):
        ComputeManagerID.parse(text)


def test_an_id_is_a_string_that_survives_copying() -> None:
    made = ComputeServiceID.parse(f"job-{HEX}")
    assert repr(made) == f"ComputeServiceID('job-{HEX}')"
    assert f"{made}" == f"job-{HEX}"
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert isinstance(again, ComputeServiceID)


@given(KUBERNETES_NAMES)
def test_the_mapping_of_kubernetes_names_is_reversible(name: str) -> None:
    mapped = to_alchemiscale_name(name)
    assert to_kubernetes_name(mapped) == name
    assert ComputeServiceID.new(mapped, uuid.UUID(HEX)).name == mapped


@given(KUBERNETES_NAMES, KUBERNETES_NAMES)
def test_the_mapping_keeps_different_names_apart(one: str, other: str) -> None:
    assert (to_alchemiscale_name(one) == to_alchemiscale_name(other)) == (one == other)


@given(st.one_of(st.text(max_size=20), ALCHEMISCALE_NAMES))
def test_only_images_of_the_mapping_are_mapped_back(name: str) -> None:
    try:
        back = to_kubernetes_name(name)
    except ValueError:
        return
    assert to_alchemiscale_name(back) == name


@pytest.mark.parametrize(
    ("kubernetes", "alchemiscale"),
    [
        ("alchemiscale.a100", "alchemiscale.a100"),
        ("a100-x7f2k", "a100_x7f2k"),
        ("4090s.pool-1", "N4090s.pool_1"),
        ("n4", "n4"),
    ],
)
def test_mapped_names(kubernetes: str, alchemiscale: str) -> None:
    assert to_alchemiscale_name(kubernetes) == alchemiscale
    assert to_kubernetes_name(alchemiscale) == kubernetes


@pytest.mark.parametrize(
    "name", ["", "A100", "a_b", "-a", "a-", "a..b", ".a", "a.", "é", "a\n", "a:b"]
)
def test_what_is_no_kubernetes_name(name: str) -> None:
    with pytest.raises(ValueError, match="is no Kubernetes name"):
        to_alchemiscale_name(name)


@pytest.mark.parametrize(
    "name", ["", "Na", "N", "NN4", "4090", "a-b", "_a", "a_", "A", "a:b", "N4N"]
)
def test_names_of_other_managers_are_not_mapped_back(name: str) -> None:
    with pytest.raises(ValueError, match="not the alchemiscale form"):
        to_kubernetes_name(name)


def test_the_version_is_that_of_the_distribution() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == computepool_api.__version__

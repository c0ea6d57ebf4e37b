import uuid

import pytest

from computepool_worker.identity import service_id, service_name

UID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a100_x7k2p", "a100_x7k2p"),
        ("alchemiscale.a100:1", "alchemiscale.a100:1"),
        ("gpu-node-17.example.org", "gpu_node_17.example.org"),
        ("17-gpu", "N17_gpu"),
        ("_x", "N_x"),
        ("ünïcode name", "N_n_code_name"),
    ],
)
def test_every_name_becomes_one_that_the_server_takes(text: str, name: str) -> None:
    assert service_name(text) == name
    assert service_id(text, {}).name == name


def test_in_a_pod_the_id_is_exact() -> None:
    identifier = service_id("job_1", {"COMPUTEPOOL_POD_UID": UID})
    assert identifier == f"job_1-{UID.replace('-', '')}"


def test_elsewhere_it_is_new_each_time() -> None:
    made = [uuid.UUID(UID), uuid.uuid4()]
    assert service_id("x", {}, lambda: made[0]) == f"x-{made[0].hex}"
    assert service_id("x", {}) != service_id("x", {})


def test_a_pod_uid_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"COMPUTEPOOL_POD_UID must hold .* not 'nonsense'"):
        service_id("x", {"COMPUTEPOOL_POD_UID": "nonsense"})

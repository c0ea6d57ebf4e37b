from ipaddress import IPv4Network

import pytest

from testcluster import network
from testcluster.errors import TestClusterError
from testcluster.network import Network

ROUTES = """\
default via 192.0.2.1 dev eth0
10.0.0.0/8 via 192.0.2.9 dev eth0
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
2: eth0    inet6 fd00::2/64 scope global
"""


def test_the_first_free_range_is_chosen() -> None:
    assert network.choose(ROUTES) == IPv4Network("10.213.0.0/24")


def test_a_range_of_another_cluster_is_left_alone() -> None:
    other = "10.213.0.0/30 dev cp-1-h\n10.213.0.128/25 via 10.213.0.2 dev cp-1-h\n"
    assert network.choose(ROUTES + other) == IPv4Network("10.213.1.0/24")


def test_no_free_range_is_said() -> None:
    taken = "\n".join(f"10.213.{number}.1/30" for number in range(256))
    with pytest.raises(TestClusterError, match="no free network"):
        network.choose(taken)


def test_addresses_and_names_of_a_cluster() -> None:
    made = Network("a1b2c3", IPv4Network("10.213.7.0/24"))
    assert (made.host_address, made.node_address) == ("10.213.7.1", "10.213.7.2")
    assert made.pods == IPv4Network("10.213.7.128/25")
    assert not IPv4Network("10.213.7.0/30").overlaps(made.pods)
    for name in (made.host_link, made.node_link):
        assert len(name) <= 15  # IFNAMSIZ
        assert "a1b2c3" in name

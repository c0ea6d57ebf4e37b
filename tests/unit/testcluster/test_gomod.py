import pytest

from testcluster import binaries, gomod

GO_MOD = """\
module computepool.test/cluster

go 1.26.0

tool (
\tgo.etcd.io/etcd/server/v3
\tk8s.io/kubernetes/cmd/kube-apiserver
)

require (
\tk8s.io/klog/v2 v2.140.0 // indirect
\tk8s.io/kubernetes v1.36.3
)

replace (
\tk8s.io/api => k8s.io/api v0.36.3
)
"""


def test_tools_and_the_names_they_are_installed_under() -> None:
    packages = gomod.tools(GO_MOD)
    assert packages == ("go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver")
    assert [gomod.binary_name(package) for package in packages] == ["etcd", "kube-apiserver"]


def test_versions() -> None:
    assert gomod.go_version(GO_MOD) == (1, 26, 0)
    assert gomod.kubernetes_version(GO_MOD) == "v1.36.3"


def test_the_linker_stamps_the_version() -> None:
    flags = gomod.linker_flags("v1.36.3")
    for stamp in ("gitVersion=v1.36.3", "gitMajor=1", "gitMinor=36"):
        assert f"-X k8s.io/component-base/version.{stamp}" in flags


@pytest.mark.parametrize("read", [gomod.tools, gomod.go_version, gomod.kubernetes_version])
def test_a_go_mod_without_what_is_asked_for_is_refused(read: object) -> None:
    with pytest.raises(ValueError, match=r"go\.mod"):
        read("module empty\n")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.26.8", (1, 26, 8)), ("1.27rc1", (1, 27)), ("1.19", (1, 19))],
)
def test_version_tuple(text: str, version: tuple[int, ...]) -> None:
    assert gomod.version_tuple(text) == version


def test_a_version_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="devel"):
        gomod.version_tuple("devel")


def test_the_real_go_mod_names_every_program_the_cluster_starts() -> None:
    text = (binaries.GO_FOLDER / "go.mod").read_text()
    assert {gomod.binary_name(package) for package in gomod.tools(text)} == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    }


def test_the_cache_key_tells_builds_apart() -> None:
    given = (GO_MOD, "sum", "1.26.8", ("-trimpath",), "x86_64")
    key = binaries.cache_key(*given)
    assert key.startswith("v1.36.3-")
    assert key == binaries.cache_key(*given)
    for position, other in enumerate((f"{GO_MOD}\n", "sums", "1.26.9", ("-race",), "aarch64")):
        changed = (*given[:position], other, *given[position + 1 :])
        assert binaries.cache_key(*changed) != key  # type: ignore[arg-type]

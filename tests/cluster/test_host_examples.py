"""deploy/examples/hosts on a real API server that enforces the restricted standard."""

import pytest

from testcluster.cluster import Cluster
from testcluster.errors import TestClusterError
from written.manifests import HOSTS, read

pytestmark = pytest.mark.cluster

RESTRICTED = [
    "pod-security.kubernetes.io/enforce=restricted",
    "pod-security.kubernetes.io/warn=restricted",
]


@pytest.mark.parametrize("name", ["deployment.yaml", "check-job.yaml"])
def test_they_are_admitted_without_a_warning(
    control_plane: Cluster, namespace: str, name: str
) -> None:
    control_plane.kubectl("label", "namespace", namespace, *RESTRICTED)
    here = f"--namespace={namespace}"
    path = str(HOSTS / name)
    strict = ["--dry-run=server", "--validate=strict", "--warnings-as-errors"]
    told = control_plane.kubectl("apply", here, "-f", path, *strict)
    assert len(told.splitlines()) == len(read((HOSTS / name).read_text()))
    text = (HOSTS / name).read_text().replace("type: RuntimeDefault", "type: Unconfined")
    with pytest.raises(TestClusterError, match="seccompProfile"):
        control_plane.kubectl("apply", here, "-f", "-", *strict, input=text)

import base64
import json
from pathlib import Path

import pytest

from testcluster import kubeconfig, pki
from testcluster.commands import run
from testcluster.filesystems import can_overlay

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - {root} /dev/root rw
23 22 0:20 / /proc rw - proc proc rw
24 22 254:1 / /data rw - ext4 /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("root", "path", "possible"),
    [
        ("ext4", "/tmp/x", True),
        ("overlay", "/tmp/x", False),
        ("overlay", "/data/x", True),
        ("overlay", "/database", False),
    ],
)
def test_an_overlay_is_not_put_on_an_overlay(root: str, path: str, *, possible: bool) -> None:
    assert can_overlay(Path(path), MOUNTS.format(root=root)) is possible


def test_a_kubeconfig_needs_no_other_file(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("PEM")
    path = kubeconfig.write(tmp_path / "config", "https://127.0.0.1:1", authority, "me", "secret")
    read = json.loads(path.read_text())
    context = read["contexts"][0]["context"]
    assert read["current-context"] == read["contexts"][0]["name"]
    assert context == {"cluster": read["clusters"][0]["name"], "user": "me"}
    embedded = read["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(embedded) == b"PEM"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "IP:127.0.0.1"), ("::1", "IP:::1"), ("kubernetes.default.svc", "DNS:")],
)
def test_alternative_names(host: str, name: str) -> None:
    assert pki.alternative_name(host).startswith(name)


def test_certificates_carry_who_and_where_and_verify(tmp_path: Path) -> None:
    authority = pki.new_authority(tmp_path)
    pair = authority.issue("x", user="me", groups=["us", "them"], hosts=["127.0.0.1", "localhost"])
    run(["openssl", "verify", "-CAfile", authority.pair.certificate, pair.certificate])
    text = run(["openssl", "x509", "-noout", "-text", "-in", pair.certificate])
    assert "O = us, O = them, CN = me" in text
    assert "IP Address:127.0.0.1, DNS:localhost" in text
    assert "CA:FALSE" in text
    assert pair.key.stat().st_mode & 0o777 == 0o600
    assert "EC PRIVATE KEY" in pki.new_signing_key(tmp_path / "sa.key").read_text()

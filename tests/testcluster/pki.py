"""Keys and certificates of one cluster, made by the openssl command line (3.0 or later)."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testcluster.commands import run

DAYS = "30"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in ``folder``."""

    folder: Path

    @property
    def pair(self) -> Pair:
        """The authority's own certificate and key."""
        return Pair(self.folder / "ca.crt", self.folder / "ca.key")

    def issue(
        self, name: str, *, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> Pair:
        """Issue a certificate for client and server use.

        ``user`` and ``groups`` are what Kubernetes reads from CN and O of a client certificate;
        ``hosts`` are DNS names and IP addresses it serves under.
        """
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        extensions = ["extendedKeyUsage=serverAuth,clientAuth", "basicConstraints=CA:FALSE"]
        if hosts:
            extensions.append("subjectAltName=" + ",".join(map(alternative_name, hosts)))
        own = self.pair
        _request(pair, subject, extensions, ["-CA", str(own.certificate), "-CAkey", str(own.key)])
        return pair


def new_authority(folder: Path) -> Authority:
    """Make a certificate authority in ``folder``."""
    authority = Authority(folder)
    extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
    _request(authority.pair, "/CN=computepool-test-ca", extensions, [])
    return authority


def new_signing_key(path: Path) -> Path:
    """Make a private key at ``path``, for service account tokens."""
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    path.chmod(0o600)
    return path


def alternative_name(host: str) -> str:
    """Return ``host`` as openssl writes a subject alternative name."""
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def _request(pair: Pair, subject: str, extensions: Sequence[str], signer: Sequence[str]) -> None:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    files = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    added = [word for extension in extensions for word in ("-addext", extension)]
    # An empty configuration, so that the host's openssl.cnf cannot add extensions of its own.
    request = ["openssl", "req", "-x509", "-config", "/dev/null", "-days", DAYS, "-subj", subject]
    run([*request, *new_key, *files, *added, *signer])
    pair.key.chmod(0o600)

"""kubeconfig files, self-contained: they can be copied and used elsewhere."""

import base64
import json
from pathlib import Path


def document(server: str, authority: bytes, user: str, token: str) -> str:
    """Return a kubeconfig as JSON (which every YAML reader takes) with one context."""
    cluster = {
        "server": server,
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    name = "computepool-test"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        },
        indent=1,
    )


def write(path: Path, server: str, authority: Path, user: str, token: str) -> Path:
    """Write a kubeconfig that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(document(server, authority.read_bytes(), user, token))
    return path

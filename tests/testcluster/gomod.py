"""What go.mod says: the tools to build, the Go it asks for, the Kubernetes it names. Pure."""

import re


def tools(go_mod: str) -> tuple[str, ...]:
    """Return the package paths of the ``tool`` directives, in their order."""
    block = re.search(r"^tool \(\n(.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    if block is None:
        raise ValueError("go.mod has no tool ( ... ) block")
    return tuple(line.strip() for line in block[1].splitlines() if line.strip())


def binary_name(package: str) -> str:
    """Return the name a tool is installed under: the last path element, but ``etcd`` for etcd."""
    return "etcd" if package.startswith("go.etcd.io/etcd/server") else package.rsplit("/", 1)[-1]


def go_version(go_mod: str) -> tuple[int, ...]:
    """Return the least Go version that go.mod accepts, as (1, 26, 0)."""
    line = re.search(r"^go (\d+(?:\.\d+)+)$", go_mod, re.MULTILINE)
    if line is None:
        raise ValueError("go.mod has no go directive")
    return version_tuple(line[1])


def kubernetes_version(go_mod: str) -> str:
    """Return the version of ``k8s.io/kubernetes``, as ``v1.36.3``."""
    line = re.search(r"^\s*k8s\.io/kubernetes (v\d+\.\d+\.\d+)\b", go_mod, re.MULTILINE)
    if line is None:
        raise ValueError("go.mod does not require k8s.io/kubernetes")
    return line[1]


def linker_flags(kubernetes: str) -> str:
    """Return the -ldflags that stamp the version; unstamped, the server calls itself v0.0.0."""
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    stamp = "-X k8s.io/component-base/version."
    return f"-s -w {stamp}gitVersion={kubernetes} {stamp}gitMajor={major} {stamp}gitMinor={minor}"


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``1.26.8`` and ``1.26rc1`` give (1, 26, ...)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise ValueError(f"no version number in {text!r}")
    return tuple(int(part) for part in match[0].split("."))

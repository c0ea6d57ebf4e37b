"""Which proxy leads to a server, by the variables that curl and others heed. Pure.

HTTPS_PROXY or HTTP_PROXY, by the URL's scheme, otherwise ALL_PROXY; NO_PROXY lists the exceptions,
separated by commas. Each variable may be written in lower case, and then comes first. (httpx reads
them too, but ends at an entry of NO_PROXY that it does not understand, and shows passwords.)

An entry of NO_PROXY is `*`, a name, which stands for the names below it too, or an IP address; a
port may follow. Networks such as `fd00::/8` are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from computepool_api.secrecy import Secret

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProxySetting:
    """The URL of a proxy, which may hold a password, and the variable that names it."""

    variable: str
    url: Secret

    def refused(self) -> ValueError:
        """Say that the URL is of no use, without showing it."""
        return ValueError(
            f"{self.variable} cannot be used: it must be like http://proxy.example.org:3128, with "
            "what is special in a password percent-encoded"
        )


def proxy_for(url: str, environment: Mapping[str, str]) -> ProxySetting | None:
    """Choose the proxy for a base URL; None where the server is asked directly.

    Raises ValueError, which names the variable and does not show its value.
    """
    scheme, host, port = _target(url)
    variable, value = _read(f"{scheme.upper()}_PROXY", environment)
    if not value:
        variable, value = _read("ALL_PROXY", environment)
    if not value:
        return None
    _, exceptions = _read("NO_PROXY", environment)
    if any(_covers(entry.strip(), host, port) for entry in exceptions.split(",")):
        return None
    setting = ProxySetting(variable, Secret(value if "://" in value else f"http://{value}"))
    _check(setting)
    return setting


def _read(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    # An empty one in lower case hides the other, as in Python's own urllib.
    variable = next((one for one in (name.lower(), name) if one in environment), name)
    return variable, environment.get(variable, "").strip()


def _target(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]


def _check(setting: ProxySetting) -> None:
    try:
        parts = urlsplit(setting.url.reveal())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise setting.refused() from None
    if parts.scheme.startswith("socks"):
        raise ValueError(
            f"{setting.variable} cannot be used: SOCKS proxies are not supported, only HTTP proxies"
        )
    # A password with / ? or # in it ends the host's part early.
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in _PORTS or not host or port == 0 or rest:
        raise setting.refused()


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY covers a server; what is no name or address covers none."""
    if entry == "*":
        return True
    name, wanted_port = _split(entry)
    if wanted_port not in (None, port):
        return False
    address = _address(host)
    if address is not None:
        return _address(name) == address
    name = name.lower().lstrip("*.").rstrip(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _split(entry: str) -> tuple[str, int | None]:
    name, _, digits = entry.rpartition(":")
    if name and digits.isdecimal() and _address(entry) is None:
        return name, int(digits)
    return entry, None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None

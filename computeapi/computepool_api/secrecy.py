"""Values that must not be shown."""

from __future__ import annotations

from urllib.parse import urlencode

from computepool_api.credentials import Credentials


class Secret:
    """A string that no repr, log line or traceback shows; `reveal` gives it to the wire."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(...)"

    def reveal(self) -> str:
        """Give the value, to be used within an expression and never kept in a variable."""
        return self._value

    def removed_from(self, text: str) -> str:
        """Blot it out of a text that came from outside."""
        return text.replace(self._value, "***") if self._value else text


def login_form(credentials: Credentials) -> Secret:
    """Compose the form that `/token` reads. It reads no JSON."""
    return Secret(
        urlencode(
            {
                "grant_type": "password",
                "username": credentials.identifier,
                "password": credentials.key,
            }
        )
    )

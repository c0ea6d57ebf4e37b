"""``${VAR}`` in a settings file: the environment's values, without an ``envsubst`` beforehand.

It happens after the file was parsed, so that no value can break the file's form or add to it.
"""

import json
import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class MissingVariableError(ValueError):
    """The environment lacks a variable that has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")
        self.name = name


class Substituted(str):
    """Text that was written with references; ``names`` are those of the variables."""

    __slots__ = ("names",)

    names: tuple[str, ...]

    def __new__(cls, text: str, names: tuple[str, ...]) -> "Substituted":
        """Make the text, and note where it comes from."""
        made = super().__new__(cls, text)
        made.names = names
        return made

    def plain(self) -> object:
        """Return what the text would have been without quotes: a number, true, a list, or itself.

        Empty text is None, as an empty value in YAML is.
        """
        if not self:
            return None
        try:
            return json.loads(self)
        except ValueError:
            return str(self)


def substitute(value: object, environment: Mapping[str, str]) -> object:
    """Replace ``${VAR}`` and ``${VAR:-default}`` in a text, and in the texts of a list.

    The default also stands in for an empty variable, as in the shell. ``$${`` is a ``${`` that
    stays. Raises MissingVariableError.
    """
    if isinstance(value, list):
        return [substitute(item, environment) for item in value]
    if not isinstance(value, str):
        return value
    names: list[str] = []

    def replace(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match[0][1:]
        names.append(name)
        found = environment.get(name)
        if default is not None:
            return found or str(default)
        if found is None:
            raise MissingVariableError(name)
        return found

    text = _REFERENCE.sub(replace, value)
    return Substituted(text, tuple(names)) if names else text

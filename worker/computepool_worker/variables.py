"""``${VAR}`` in a settings file: the environment's values, without an ``envsubst`` beforehand.

It happens after the file was parsed, so that no value can break the file's form or add to it.
"""

import json
import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

_NULLS = ("~", "null", "Null", "NULL")


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

        Empty text is None, as an empty value in YAML is. What YAML would read as a comment, an
        alias, a mapping or other text is text as it stands.
        """
        if not self or self in _NULLS:
            return None
        try:
            return json.loads(self)
        except ValueError:
            found = _yaml(self)
        return found if isinstance(found, bool | int | float | list) else str(self)


def _yaml(text: str) -> object:
    """Read YAML; None if it is none, or cannot be read here."""
    try:
        import yaml
    except ImportError:
        # Then the settings file is JSON, whose words and lists are JSON's.
        return None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        # ValueError: a date that is in no calendar.
        return None


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

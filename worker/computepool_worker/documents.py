"""Files of names and values, as people write them: JSON or YAML, flat or nested.

The stock service of alchemiscale before 0.8 nests its settings under ``init`` and ``start``, since
0.8 the file is flat. Both are read into one flat dictionary. The contents may be secret, so no
error of this module repeats any of them.
"""

import json
from pathlib import Path
from types import ModuleType

_WRAPPERS = frozenset({"init", "start"})
# What is text whatever it looks like: a key may well be all digits.
_TEXTS = ("identifier", "key")


class DocumentError(ValueError):
    """A file cannot be read as a mapping of names to values; says where and what is wrong."""


def read_mapping(path: Path) -> dict[str, object]:
    """Read the file at ``path`` into one flat dictionary.

    ``identifier`` and ``key`` are texts, with or without quotes. Raises DocumentError if the file
    cannot be read, is neither JSON nor YAML, is not a mapping, or gives a name twice (in ``init``
    and in ``start``).
    """
    text = _read(path)
    values = flatten(_parse(text, path), path)
    if any(not isinstance(values.get(name), str | None) for name in _TEXTS):
        values |= _credentials(text, path)
    return values


def read_credentials(path: Path) -> dict[str, str]:
    """Read ``identifier`` and ``key`` as they are written, each where it is given.

    They stand under ``init`` where there is one, and else at the top; the operator reads the
    settings file in a Secret by the same rules. Raises DocumentError.
    """
    return _credentials(_read(path), path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from None


def _credentials(text: str, path: Path) -> dict[str, str]:
    yaml = _yaml(path)
    try:
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        raise DocumentError(f"{path} is not valid YAML") from None
    if isinstance(found, dict) and isinstance(found.get("init"), dict):
        found = found["init"]
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in _TEXTS if isinstance(found.get(name), str)}


def flatten(document: object, source: Path) -> dict[str, object]:
    """Lift the members of ``init`` and ``start`` to the top, as settings since 0.8 have them."""
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise DocumentError(f"{source} must hold names with values, such as 'name: value'")
    if not document or not _WRAPPERS.issuperset(document):
        return dict(document)
    flat: dict[str, object] = {}
    for wrapper, members in document.items():
        if members is None:
            continue
        if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
            raise DocumentError(f"{source}: '{wrapper}' must hold names with values")
        twice = sorted(flat.keys() & members.keys())
        if twice:
            raise DocumentError(f"{source} gives {', '.join(twice)} under both init and start")
        flat.update(members)
    return flat


def _parse(text: str, path: Path) -> object:
    # A file that begins like a JSON object is one: a pool's worker never has to import yaml.
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise DocumentError(
                f"{path} is not valid JSON: {error.msg} at line {error.lineno}, "
                f"column {error.colno}"
            ) from None
    yaml = _yaml(path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Its own text quotes the offending line, which may be the key's.
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DocumentError(f"{path} is not valid YAML{place}") from None


def _yaml(path: Path) -> ModuleType:
    try:
        import yaml
    except ImportError:
        raise DocumentError(
            f"{path} is not JSON, and reading YAML needs the package pyyaml: install it, or write "
            "the file as JSON"
        ) from None
    return yaml

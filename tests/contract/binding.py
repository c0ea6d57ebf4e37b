"""Which live key stands for which recorded one.

Keys that the server makes differ from run to run: the recorded ones are bound to live ones when a
preparation makes them or an answer shows them. All other ids the client chose, and they are used
as recorded.
"""

import re
from typing import Any

_MADE_BY_SERVER = re.compile(
    r"(?<![A-Za-z])(Task|TaskHub|AlchemicalNetwork|ProtocolDAGResultRef)-([0-9a-f]{32})"
)


class MismatchError(AssertionError):
    """The live answer is not the recorded one."""


class Binding:
    """A growing map from recorded keys to live ones."""

    def __init__(self) -> None:
        self._live: dict[str, str] = {}

    def bind(self, recorded: str, live: str) -> None:
        """Let a live key stand for a recorded one (scoped, or just prefix and digits)."""
        self._live[_stem(recorded)] = _stem(live)

    def knows(self, recorded: str) -> bool:
        """Whether a recorded key has a live one."""
        return _stem(recorded) in self._live

    def live(self, recorded: str) -> str:
        """A text with all bound keys replaced."""
        return _MADE_BY_SERVER.sub(lambda m: self._live.get(m.group(), m.group()), recorded)

    def live_value(self, recorded: Any) -> Any:
        """A JSON value with all bound keys replaced."""
        if isinstance(recorded, str):
            return self.live(recorded)
        if isinstance(recorded, list):
            return [self.live_value(item) for item in recorded]
        if isinstance(recorded, dict):
            return {self.live(k): self.live_value(v) for k, v in recorded.items()}
        return recorded

    def match(self, recorded: Any, live: Any, where: str = "answer") -> None:
        """Compare a recorded JSON value with a live one, binding keys that are new."""
        if isinstance(recorded, str) and isinstance(live, str):
            self._match_text(recorded, live, where)
        elif isinstance(recorded, list) and isinstance(live, list) and len(recorded) == len(live):
            for number, (one, other) in enumerate(zip(recorded, live, strict=True)):
                self.match(one, other, f"{where}[{number}]")
        elif isinstance(recorded, dict) and isinstance(live, dict) and len(recorded) == len(live):
            for (key, value), (live_key, live_value) in _paired(recorded, live):
                self._match_text(key, live_key, where)
                self.match(value, live_value, f"{where}.{key}")
        elif type(recorded) is not type(live) or recorded != live:
            raise MismatchError(f"{where}: recorded {recorded!r}, now {live!r}")

    def _match_text(self, recorded: str, live: str, where: str) -> None:
        pattern, position = "", 0
        new: list[str] = []
        for found in _MADE_BY_SERVER.finditer(recorded):
            pattern += re.escape(recorded[position : found.start()])
            position = found.end()
            known = self._live.get(found.group())
            if known is None and found.group() in new:
                known = rf"(?P=key{new.index(found.group())})"
            elif known is None:
                known = rf"(?P<key{len(new)}>{found.group(1)}-[0-9a-f]{{32}})"
                new.append(found.group())
            pattern += known
        matched = re.fullmatch(pattern + re.escape(recorded[position:]), live, re.DOTALL)
        if matched is None:
            raise MismatchError(f"{where}: recorded {self.live(recorded)!r}, now {live!r}")
        for number, key in enumerate(new):
            self._live[key] = matched.group(f"key{number}")


def _stem(key: str) -> str:
    return "-".join(key.split("-")[:2])


def _paired(
    recorded: dict[str, Any], live: dict[str, Any]
) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Pair the entries by key where the keys are equal, else by position."""
    if recorded.keys() == live.keys():
        return [((key, value), (key, live[key])) for key, value in recorded.items()]
    return list(zip(recorded.items(), live.items(), strict=True))

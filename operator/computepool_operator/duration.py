"""Durations as Kubernetes APIs write them: `30s`, `1h30m`.

The form is that of the Gateway API (GEP-2257): up to four whole numbers of at most five digits,
each with a unit `h`, `m`, `s` or `ms`. It is a subset of Go's, which CEL parses, so the rules of
the CRD and this module agree on what a text means.
"""

import re
from datetime import timedelta
from typing import Final

DURATION_PATTERN: Final = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"

_WHOLE: Final = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_PART: Final = re.compile(r"([0-9]+)(h|ms|m|s)")
_UNITS: Final = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `1h30m` or `500ms`.

    Raises ValueError when the text has another form.
    """
    if not _WHOLE.fullmatch(text):
        msg = (
            f"{text!r} is not a duration: write whole numbers with units h, m, s or ms, as in 1h30m"
        )
        raise ValueError(msg)
    return sum(
        (int(number) * _UNITS[unit] for number, unit in _PART.findall(text)), start=timedelta()
    )


def format_duration(duration: timedelta) -> str:
    """Write a duration in its shortest usual form; what is below a millisecond is dropped.

    Raises ValueError for a negative duration and for one of 100,000 hours (11 years) or more,
    which the form cannot express.
    """
    milliseconds = duration // _MILLISECOND
    hours, milliseconds = divmod(milliseconds, 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    if not 0 <= hours <= 99_999:
        msg = f"{duration!r} is outside 0s to 99999h, so it cannot be written as a duration"
        raise ValueError(msg)
    amounts = ((hours, "h"), (minutes, "m"), (seconds, "s"), (milliseconds, "ms"))
    return "".join(f"{amount}{unit}" for amount, unit in amounts if amount) or "0s"

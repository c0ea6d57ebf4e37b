"""Amounts of memory as Kubernetes writes them, as a worker's demands need it: `512Mi`, `4Gi`."""

import re
from typing import Final

AMOUNT_PATTERN: Final = r"^(0|[1-9][0-9]{0,5}(Mi|Gi))$"

_WHOLE: Final = re.compile(r"0|([1-9][0-9]{0,5})(Mi|Gi)")
_MEBIBYTES: Final = {"Mi": 1, "Gi": 1024}


class Mebibytes(int):
    """An amount of memory or space, in MiB."""


def parse_amount(text: str) -> Mebibytes:
    """Read an amount such as `512Mi` or `4Gi`.

    Raises ValueError when the text has another form.
    """
    match = _WHOLE.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not an amount: write a whole number of Mi or Gi, as in 512Mi, or 0"
        raise ValueError(msg)
    number, unit = match.groups()
    return Mebibytes(int(number) * _MEBIBYTES[unit] if number else 0)


def format_amount(mebibytes: int) -> str:
    """Write an amount in MiB in its shortest form."""
    if not mebibytes:
        return "0"
    whole, rest = divmod(mebibytes, 1024)
    return f"{mebibytes}Mi" if rest else f"{whole}Gi"

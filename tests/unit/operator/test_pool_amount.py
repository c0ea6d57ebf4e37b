"""Amounts of memory in the spec: what is read, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_operator.amount import format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("0", 0), ("1Mi", 1), ("512Mi", 512), ("4Gi", 4096), ("1024Mi", 1024)]
)
def test_parse(text: str, mebibytes: int) -> None:
    assert parse_amount(text) == mebibytes


@pytest.mark.parametrize(
    "text", ["", "4", "4G", "4gi", "0.5Gi", "-1Gi", "04Gi", "0Gi", "4 Gi", "1Ti"]
)
def test_what_is_no_amount_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="whole number of Mi or Gi"):
        parse_amount(text)


@given(st.integers(0, 999_999))
def test_what_is_written_is_read(mebibytes: int) -> None:
    assert parse_amount(format_amount(mebibytes)) == mebibytes

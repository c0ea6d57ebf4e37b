"""A whole month in virtual time: half a minute of ours."""

import pytest

from month.report import report
from month.simulation import Month


@pytest.mark.timeout(600)
def test_a_month_of_trouble() -> None:
    summary = Month(seed=2026, days=30).run()
    print(report(summary, 0.0))
    assert summary.tasks["complete"] > 0.9 * summary.tasks.total()
    assert summary.account.wasted < 0.01 * summary.account.used
    assert summary.account.overhead < 0.02 * summary.account.used
    assert summary.makespan < 1.15 * summary.ideal

import pytest

from bench.__main__ import table
from bench.marks import Figures, Seen, execution, figures, medians
from bench.running import Service

SEEN = Seen(
    started=100.0,
    registered=100.5,
    executions=[(103.0, 113.0), (114.0, 124.0), (126.0, 136.0)],
    pushed=[113.5, 124.5, 136.25],
    peak_memory=50 * 2**20,
    whole_memory=500 * 2**20,
)


def test_the_figures_of_a_run() -> None:
    assert figures(SEEN) == Figures(
        start_to_registered=0.5,
        registered_to_executing=2.5,
        start_to_executing=3.0,
        overhead=pytest.approx((1.0 + 1.75) / 2),  # type: ignore[arg-type]
        parent_memory=50.0,
        whole_memory=500.0,
    )


@pytest.mark.parametrize("pushed", [[], [1.0], [1.0, 2.0]])
def test_too_few_tasks_are_no_run(pushed: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two Tasks"):
        figures(Seen(0.0, 0.0, [(0.0, 1.0)], pushed, 0, 0))


def test_medians_are_of_each_figure() -> None:
    runs = [Figures(1, 6, 2, 4, 5, 9), Figures(3, 4, 1, 4, 7, 7), Figures(2, 5, 3, 4, 6, 8)]
    assert medians(runs) == Figures(2, 5, 2, 4, 6, 8)


def test_the_times_of_a_result() -> None:
    def unit(begin: str, end: str) -> dict[str, dict[str, str]]:
        return {
            name: {"__class__": "datetime", "isotime": f"2026-03-01T{at}"}
            for name, at in (("start_time", begin), ("end_time", end))
        }

    first = unit("12:00:05+00:00", "13:00:09+01:00")
    nested = {"outputs": [unit("12:00:07+00:00", "12:00:08+00:00")]}
    document = [["ProtocolUnitResult-1", first], ["ProtocolUnitResult-2", nested]]
    begin, end = execution(document)
    assert end - begin == 4.0


def test_the_table_has_a_ratio_where_there_are_two() -> None:
    one, two = Figures(1, 2, 3, 4, 5, 6), Figures(2, 2, 2, 0, 2, 2)
    alone = table([Service("worker", [], {})], [one])
    assert "ratio" not in alone[0]
    both = table([Service("worker", [], {}), Service("stock", [], {})], [one, two])
    assert both[0].split() == ["worker", "stock", "ratio"]
    assert both[1].split()[-3:] == ["1.000", "2.000", "0.500"]
    assert both[4].split()[-1] == "-"

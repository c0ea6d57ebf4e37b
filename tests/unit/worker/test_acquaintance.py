"""What an answer of nobody's means before and after the server has answered."""

from computepool_api.errors import InvalidRequest, Misdirected, Unavailable
from computepool_worker.acquaintance import Acquaintance

NOT_FOUND = Misdirected("POST /claim", status=404, detail="no such path")
REFUSED = InvalidRequest("POST /claim", status=422, detail="no")


def test_a_url_that_has_never_worked_is_wrong() -> None:
    assert Acquaintance().meaning(NOT_FOUND) is NOT_FOUND


def test_one_that_has_worked_will_work_again() -> None:
    acquaintance = Acquaintance()
    acquaintance.made = True
    away = acquaintance.meaning(NOT_FOUND)
    assert isinstance(away, Unavailable)
    assert (away.endpoint, away.status) == ("POST /claim", 404)
    assert "no such path; as this URL has worked" in away.detail
    assert acquaintance.meaning(REFUSED) is REFUSED

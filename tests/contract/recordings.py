"""The recorded cases."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
ABSENT = object()


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded exchange; `body` is ABSENT where none was sent."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    form: dict[str, str] | None
    status: int | None
    answer_headers: dict[str, str]
    answer: Any
    after: Any
    record: dict[str, Any] = field(repr=False)

    @property
    def is_refused_unseen(self) -> bool:
        """Whether the server refuses it before it looks at any state."""
        by_validation = self.status == 422 and isinstance(self.answer["detail"], list)
        unauthenticated = self.status == 401 and self.answer["detail"] == "Not authenticated"
        return by_validation or unauthenticated or self.status in {404, 405}


@cache
def cases() -> dict[str, Case]:
    """All recorded cases by name, in the order of recording."""
    with (DATA / "recordings.jsonl").open() as lines:
        records = [json.loads(line) for line in lines]
    return {record["case"]: _case(record) for record in records}


def _case(record: dict[str, Any]) -> Case:
    return Case(
        name=record["case"],
        method=record.get("method", ""),
        path=record.get("path", ""),
        headers=record.get("request_headers", {}),
        body=record.get("request_body", ABSENT),
        form=record.get("request_form"),
        status=record.get("status"),
        answer_headers=record.get("response_headers", {}),
        answer=record.get("response_body"),
        after=record.get("after", ABSENT),
        record=record,
    )


def example(name: str) -> Any:
    """One of the two full examples."""
    return json.loads((DATA / name).read_text())

"""The local copy of a collection, against a server that lists, watches and misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from unit.operator.api_server import PATH, Body, Collection, connected, serving, status_body

from computepool_operator import reflector
from computepool_operator.kubeapi import KubeAPI
from computepool_operator.names import POISON_ANNOTATION, SETTINGS_ANNOTATION
from computepool_operator.reflector import STALE_SECONDS, Reflector

SELECTOR = "managed-by=test"


@dataclass
class Mirror:
    """A server, a copy of it, and what the copy has told."""

    server: Collection
    api: KubeAPI
    now: float = 1000.0
    changes: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.copy = Reflector(
            self.api,
            PATH,
            selector=SELECTOR,
            group_label="pool",
            on_change=self.changes.append,
            on_gone=lambda thing: self.gone.append(thing["metadata"]["uid"]),
            monotonic=lambda: self.now,
        )

    async def start(self) -> None:
        self.tasks.append(asyncio.create_task(self.copy.run()))
        await asyncio.wait_for(self.copy.synced.wait(), 30)

    def uids(self, pool: str = "a100") -> set[str]:
        return {thing["metadata"]["uid"] for thing in self.copy.group(pool)}

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(6000):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come about within 30 s")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_RETRY", 0.02)


@pytest.fixture
async def mirror() -> AsyncIterator[Mirror]:
    server = Collection()
    async with serving(server.app()) as url, connected(url) as api:
        found = Mirror(server, api)
        yield found
        for task in found.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class TestContent:
    async def test_what_exists_is_listed_once(self, mirror: Mirror) -> None:
        await mirror.server.set("a")
        await mirror.server.set("b", pool="h100")
        await mirror.start()
        assert (mirror.uids(), mirror.uids("h100")) == ({"a"}, {"b"})
        assert set(mirror.changes) == {"a100", "h100"}

    async def test_only_what_matches_the_selector_is_asked_for(self, mirror: Mirror) -> None:
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        assert mirror.server.lists[0]["labelSelector"] == SELECTOR
        assert mirror.server.watches[0]["labelSelector"] == SELECTOR

    async def test_long_lists_come_in_pages(self, mirror: Mirror) -> None:
        mirror.server.page = 2
        for uid in "abcde":
            await mirror.server.set(uid)
        await mirror.start()
        assert mirror.uids() == set("abcde")
        assert len(mirror.server.lists) == 3

    async def test_the_watch_goes_on_from_the_list(self, mirror: Mirror) -> None:
        await mirror.server.set("a")
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        assert mirror.server.watches[0]["resourceVersion"] == str(mirror.server.version)

    async def test_what_is_added_changed_and_deleted_is_followed(self, mirror: Mirror) -> None:
        await mirror.start()
        await mirror.server.set("a", status={"phase": "Pending"})
        await mirror.until(lambda: mirror.uids() == {"a"})
        await mirror.server.set("a", status={"phase": "Running"})
        await mirror.until(lambda: mirror.copy.group("a100")[0]["status"] == {"phase": "Running"})
        await mirror.server.delete("a")
        await mirror.until(lambda: mirror.uids() == set())
        assert mirror.changes == ["a100"] * 3
        assert mirror.gone == ["a"]

    async def test_nothing_is_listed_again_while_the_watch_lasts(self, mirror: Mirror) -> None:
        await mirror.start()
        for uid in "abc":
            await mirror.server.set(uid)
        await mirror.until(lambda: mirror.uids() == set("abc"))
        assert (len(mirror.server.lists), len(mirror.server.watches)) == (1, 1)

    async def test_managed_fields_are_not_kept(self, mirror: Mirror) -> None:
        await mirror.server.set("a")
        await mirror.start()
        await mirror.server.set("b")
        await mirror.until(lambda: mirror.uids() == {"a", "b"})
        for thing in mirror.copy.group("a100"):
            assert "managedFields" not in thing["metadata"]

    async def test_the_list_of_poison_tasks_is_not_kept_but_the_settings_are(
        self, mirror: Mirror
    ) -> None:
        notes = {POISON_ANNOTATION: "[]", SETTINGS_ANNOTATION: "{}"}
        metadata: Body = {"uid": "a", "resourceVersion": "1", "labels": {"pool": "a100"}}
        template = {"metadata": {"annotations": dict(notes)}}
        mirror.copy.put(
            {"metadata": {**metadata, "annotations": notes}, "spec": {"template": template}}
        )
        (kept,) = mirror.copy.group("a100")
        assert kept["metadata"]["annotations"] == {SETTINGS_ANNOTATION: "{}"}
        assert template["metadata"]["annotations"] == {SETTINGS_ANNOTATION: "{}"}

    async def test_a_group_that_nobody_is_in_is_empty(self, mirror: Mirror) -> None:
        await mirror.start()
        assert mirror.copy.group("unheard-of") == []


class TestHealing:
    async def test_an_old_version_is_listed_anew(self, mirror: Mirror) -> None:
        await mirror.server.set("a")
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        await mirror.server.delete("a", told=False)
        await mirror.server.set("b")
        await mirror.server.forget()
        await mirror.until(lambda: mirror.uids() == {"b"})
        assert "a" in mirror.gone

    async def test_a_version_that_is_refused_by_status_as_well(self, mirror: Mirror) -> None:
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        mirror.server.refuse = (410, status_body(410, "Expired", "too old"))
        await mirror.server.cut()
        await mirror.until(lambda: len(mirror.server.lists) > 1)
        mirror.server.refuse = None
        await mirror.server.set("a")
        await mirror.until(lambda: mirror.uids() == {"a"})

    async def test_a_broken_watch_goes_on_where_it_was(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector, "SILENCE_SECONDS", 0.1)
        await mirror.start()
        await mirror.server.set("a")
        await mirror.until(lambda: len(mirror.server.watches) > 1)
        await mirror.server.set("b")
        await mirror.until(lambda: mirror.uids() == {"a", "b"})
        assert len(mirror.server.lists) == 1
        assert int(mirror.server.watches[1]["resourceVersion"]) >= 101

    async def test_bookmarks_move_it_on(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reflector, "SILENCE_SECONDS", 0.1)
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        await mirror.server.bookmark()
        await mirror.until(lambda: len(mirror.server.watches) > 1)
        assert mirror.server.watches[1]["resourceVersion"] == str(mirror.server.version)
        assert (mirror.changes, mirror.uids()) == ([], set())

    async def test_a_watch_that_ends_by_itself_is_followed_by_a_list(self, mirror: Mirror) -> None:
        await mirror.server.set("a")
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        await mirror.server.delete("a", told=False)
        await mirror.server.cut()
        await mirror.until(lambda: mirror.uids() == set())
        assert mirror.gone == ["a"]

    async def test_a_refused_list_is_tried_again_ever_more_slowly(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(reflector, "FIRST_RETRY", 0.001)
        mirror.server.refuse = (403, status_body(403, "Forbidden", "jobs is forbidden"))
        mirror.tasks.append(asyncio.create_task(mirror.copy.run()))
        await mirror.until(lambda: len(mirror.server.lists) >= 5)
        assert not mirror.copy.synced.is_set()
        retries = [vars(record)["retry_seconds"] for record in caplog.records]
        assert retries[:4] == [0.001, 0.002, 0.004, 0.008]
        assert "jobs is forbidden" in vars(caplog.records[0])["error"]

    async def test_watches_that_end_at_once_do_not_become_a_storm(self, mirror: Mirror) -> None:
        mirror.server.watch_ends_at_once = True
        await mirror.start()
        await asyncio.sleep(0.3)
        assert len(mirror.server.lists) <= 6


class TestFreshness:
    async def test_not_before_the_first_list(self, mirror: Mirror) -> None:
        assert not mirror.copy.fresh
        await mirror.start()
        assert mirror.copy.fresh

    async def test_not_when_nothing_was_heard_for_long(self, mirror: Mirror) -> None:
        await mirror.start()
        mirror.now += STALE_SECONDS
        assert not mirror.copy.fresh

    async def test_again_with_the_next_word(self, mirror: Mirror) -> None:
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        mirror.now += STALE_SECONDS
        await mirror.server.bookmark()
        await mirror.until(lambda: mirror.copy.fresh)


class TestPutting:
    """What a write has answered with is there before the watch brings it."""

    async def test_it_is_there_at_once_and_only_once(self, mirror: Mirror) -> None:
        await mirror.start()
        mirror.copy.put(mirror.server.make("a"))
        assert mirror.uids() == {"a"}
        await mirror.server.set("a", status={})
        await mirror.until(lambda: "status" in mirror.copy.group("a100")[0])
        assert len(mirror.copy.group("a100")) == 1

    async def test_it_does_not_undo_what_the_watch_has_brought(self, mirror: Mirror) -> None:
        await mirror.start()
        old: Body = mirror.server.make("a", status={"phase": "Pending"})
        await mirror.server.set("a", status={"phase": "Running"})
        await mirror.until(lambda: mirror.uids() == {"a"})
        mirror.copy.put(old)
        assert mirror.copy.group("a100")[0]["status"] == {"phase": "Running"}

    async def test_a_list_that_was_made_before_does_not_lose_it(self, mirror: Mirror) -> None:
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        new = mirror.server.make("new")
        mirror.server.version -= 1
        mirror.copy.put(new)
        await mirror.server.cut()
        await mirror.until(lambda: len(mirror.server.watches) > 1)
        assert mirror.uids() == {"new"}
        assert mirror.gone == []

    async def test_a_list_made_later_that_lacks_it_means_that_it_is_gone(
        self, mirror: Mirror
    ) -> None:
        await mirror.start()
        await mirror.until(lambda: bool(mirror.server.watches))
        mirror.copy.put(mirror.server.make("new"))
        await mirror.server.set("other")
        await mirror.server.cut()
        await mirror.until(lambda: mirror.uids() == {"other"})
        assert "new" in mirror.gone

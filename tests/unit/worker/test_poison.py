from pathlib import Path

import pytest

from computepool_worker.poison import PoisonListError, poison_stories


@pytest.mark.parametrize("text", ["", "[]"])
def test_an_empty_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "poison.json").write_text(text)
    assert poison_stories(tmp_path / "poison.json") == {}


def test_no_list() -> None:
    assert poison_stories(None) == {}
    assert poison_stories(Path("/no/such/file")) == {}


def test_stories(tmp_path: Path) -> None:
    (tmp_path / "poison.json").write_text('[{"task": "Task-1", "story": "it died", "more": 1}]')
    assert poison_stories(tmp_path / "poison.json") == {"Task-1": "it died"}


def test_a_story_is_never_empty(tmp_path: Path) -> None:
    (tmp_path / "poison.json").write_text('[{"task": "Task-1", "story": " "}]')
    assert poison_stories(tmp_path / "poison.json")["Task-1"].strip()


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"task": "Task-1"}]', "[", '[{"story": ""}]'])
def test_anything_else_is_not_guessed_at(tmp_path: Path, text: str) -> None:
    (tmp_path / "poison.json").write_text(text)
    with pytest.raises(PoisonListError, match=r"poison\.json"):
        poison_stories(tmp_path / "poison.json")


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PoisonListError, match="cannot be read"):
        poison_stories(tmp_path)

import subprocess
import sys
from pathlib import Path

import pytest

from computepool_worker.documents import DocumentError, read_mapping

SECRET = "do-not-repeat-me"


def write(directory: Path, text: str) -> Path:
    path = directory / "file"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ('{"name": "x"}', {"name": "x"}),
        ('\n  {"name": null}', {"name": None}),
        ("name: x\nscopes: [a-b-c]\n", {"name": "x", "scopes": ["a-b-c"]}),
        ("init:\n  name: x\nstart:\n  max_tasks: 2\n", {"name": "x", "max_tasks": 2}),
        ("init:\n  name: x\nstart:\n", {"name": "x"}),
        ("init:\n  name: x\n", {"name": "x"}),
        ('{"init": {"name": "x"}, "start": {"max_time": 5}}', {"name": "x", "max_time": 5}),
        # Beside other names, init is a name like any other, for the settings to refuse.
        ("init: {name: x}\nname: y\n", {"init": {"name": "x"}, "name": "y"}),
        ("{}", {}),
    ],
)
def test_both_notations_and_both_forms(tmp_path: Path, text: str, means: object) -> None:
    assert read_mapping(write(tmp_path, text)) == means


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold names with values"),
        ("- a\n- b\n", "must hold names with values"),
        ("1: x\n", "must hold names with values"),
        ("init: 7\n", "'init' must hold names with values"),
        ("init: {name: x}\nstart: {name: y}\n", "gives name under both init and start"),
        (f'{{"key": {SECRET}}}', "is not valid JSON: Expecting value at line 1, column 9"),
        (f"key: '{SECRET}\nname: x", "is not valid YAML at line 2, column 8"),
        (f"key: {SECRET}: {SECRET}", "is not valid YAML at line 1"),
        (f"key: !!python/object:{SECRET} x", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DocumentError) as caught:
        read_mapping(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="nothing cannot be read: No such file"):
        read_mapping(tmp_path / "nothing")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DocumentError, match="is not UTF-8 text"):
        read_mapping(path)


def test_json_needs_no_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, '{"name": "x"}')
    program = (
        "import sys; from pathlib import Path; from computepool_worker.documents import "
        f"read_mapping; read_mapping(Path({str(path)!r})); sys.exit('yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

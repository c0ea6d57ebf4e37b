"""The child's science with the real gufe, wherever it can be imported."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from computepool_worker.boundary import Begun, Execute, Fail, Prepare
from computepool_worker.child.science import (
    GufeScience,
    encode_result,
    read_result,
    read_transformation,
)

gufe = pytest.importorskip(
    "gufe", reason="gufe >= 1.7 cannot be imported here: it comes from conda-forge, not from PyPI"
)
zstandard = pytest.importorskip("zstandard")

from gufe.tokenization import JSON_HANDLER, GufeTokenizable  # noqa: E402
from unit.worker.transformations import (  # noqa: E402
    BrokenProtocol,
    DiskFullProtocol,
    DummyProtocol,
    OutOfMemoryProtocol,
    UncreatableProtocol,
    as_chain,
    as_text,
    transformation,
)

if TYPE_CHECKING:
    from computepool_worker.boundary import Done

TASK = "Task-0123456789abcdef0123456789abcdef-a-b-c"
DATA = Path(__file__).resolve().parents[2] / "contract" / "data"


@pytest.fixture
def units() -> "list[Begun]":
    """What the child has told of the units that it began."""
    return []


@pytest.fixture
def execute(tmp_path: Path, units: "list[Begun]") -> Any:
    """Execute the body of a fetch; give what the child says, and the file it has written."""
    for name in ("shared", "scratch"):
        (tmp_path / name).mkdir()

    def run(body: Any, n_retries: int = 0) -> "tuple[Done, str]":
        (tmp_path / "transformation.json").write_text(json.dumps(body))
        request = Execute(
            task=TASK,
            transformation=str(tmp_path / "transformation.json"),
            result=str(tmp_path / "result.json"),
            shared=str(tmp_path / "shared"),
            scratch=str(tmp_path / "scratch"),
            n_retries=n_retries,
            keep_shared=False,
            keep_scratch=False,
        )
        done = GufeScience().execute(request, units.append)
        return done, (tmp_path / "result.json").read_text(encoding="utf-8")

    return run


@pytest.fixture
def fail(tmp_path: Path) -> Any:
    """Fail the body of a fetch with a story."""

    def run(body: Any, traceback: str) -> "tuple[Done, str]":
        (tmp_path / "transformation.json").write_text(json.dumps(body))
        request = Fail(
            TASK,
            str(tmp_path / "transformation.json"),
            str(tmp_path / "result.json"),
            "ProcessDied",
            traceback,
        )
        return GufeScience().fail(request), (tmp_path / "result.json").read_text(encoding="utf-8")

    return run


def as_server_reads(value: str) -> Any:
    """Undo gufe's JSON, then zstd, then the keyed chain, as the server does with a push."""
    body = json.loads(f'{{"protocoldagresult": {value}}}', cls=JSON_HANDLER.decoder)
    data = zstandard.ZstdDecompressor().decompress(body["protocoldagresult"])
    return GufeTokenizable.from_keyed_chain(json.loads(data, cls=JSON_HANDLER.decoder))


def test_it_says_what_it_found() -> None:
    ready = GufeScience().prepare(Prepare(openmm_platform=None))
    assert ready.ok
    assert ready.facts["gufe"] == gufe.__version__


def test_the_demanded_platform_must_exist() -> None:
    pytest.importorskip("openmm")
    assert GufeScience().prepare(Prepare(openmm_platform="Reference")).ok
    ready = GufeScience().prepare(Prepare(openmm_platform="Abacus"))
    assert not ready.ok
    assert "OpenMM has no platform Abacus here, only Reference" in ready.reason


@pytest.mark.parametrize("write", [as_chain, as_text])
def test_a_transformation_is_read_in_both_forms(write: Any) -> None:
    original = transformation()
    read, extends = read_transformation(json.dumps([write(original), None]))
    assert read == original
    assert extends is None


def test_the_recorded_answer_of_a_server_is_read() -> None:
    read, extends = read_transformation((DATA / "transformation_gufe.json").read_text())
    assert type(read.protocol) is DummyProtocol
    assert extends is None


def test_the_recorded_result_of_the_stock_service_is_read() -> None:
    request = json.loads((DATA / "results_request.json").read_text(), cls=JSON_HANDLER.decoder)
    result = read_result(request["protocoldagresult"].decode("latin-1"))
    assert result.ok()


@pytest.mark.parametrize("body", ["{}", "[]", "[1, null]", '[[], "x", 3]'])
def test_anything_else_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="not a Transformation"):
        read_transformation(body)


@pytest.mark.parametrize("write", [as_chain, as_text])
def test_a_result_is_what_the_server_reads(execute: Any, write: Any, tmp_path: Path) -> None:
    original = transformation()
    done, written = execute([write(original), None])
    assert (done.ok, done.units, done.failures) == (True, 5, 0)
    result = as_server_reads(written)
    assert result.ok()
    assert result.name == TASK
    assert result.transformation_key == original.key
    assert original.gather([result]).data["key_results"]
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == []


def test_the_result_is_what_the_stock_client_sends_in_half_the_bytes(execute: Any) -> None:
    _, written = execute([as_chain(transformation()), None])
    chain = as_server_reads(written).to_keyed_chain()
    data = json.dumps(chain, cls=JSON_HANDLER.encoder).encode("utf-8")
    stock = zstandard.ZstdCompressor().compress(data)
    escaped = json.dumps(stock, cls=JSON_HANDLER.encoder)
    assert json.loads(written) == json.loads(escaped)
    assert len(written.encode()) < 0.6 * len(escaped)


def test_a_broken_protocol_has_a_failed_result_with_a_traceback(execute: Any) -> None:
    done, written = execute([as_chain(transformation(BrokenProtocol)), None], n_retries=2)
    assert not done.ok
    assert done.failures == 3
    result = as_server_reads(written)
    assert not result.ok()
    assert "I have failed my mission" in result.protocol_unit_failures[0].traceback


@pytest.mark.parametrize("compressed", [True, False])
def test_an_extended_result_is_given_to_the_protocol(execute: Any, compressed: bool) -> None:
    chain = as_chain(transformation())
    parent = as_server_reads(execute([chain, None])[1])
    if compressed:
        stored = json.loads(encode_result(parent), cls=JSON_HANDLER.decoder).decode("latin-1")
    else:
        # What old stores hold: plain JSON of one dictionary.
        stored = json.dumps(parent.to_dict(), cls=JSON_HANDLER.encoder)
    _, written = execute([chain, stored])
    assert as_server_reads(written).extends_key == parent.key


def test_each_unit_says_that_it_begins(execute: Any, units: "list[Begun]") -> None:
    original = transformation()
    done, _ = execute([as_chain(original), None])
    assert [unit.unit for unit in units] == [1, 2, 3, 4, 5]
    assert {(told.transformation, told.protocol) for told in (*units, done)} == {
        (str(original.key), "DummyProtocol")
    }
    assert {(unit.task, unit.units) for unit in units} == {(TASK, 5)}
    assert units[0].name == "the beginning"


def test_each_attempt_says_so(execute: Any, units: "list[Begun]") -> None:
    execute([as_chain(transformation(BrokenProtocol)), None], n_retries=2)
    assert [unit.unit for unit in units][-3:] == [units[-1].unit] * 3


def test_a_task_is_failed_with_the_units_of_its_protocol(fail: Any) -> None:
    original = transformation()
    done, written = fail([as_chain(original), None], "it died\nof SIGSEGV")
    assert (done.ok, done.units, done.failures) == (False, 5, 1)
    result = as_server_reads(written)
    assert not result.ok()
    assert result.transformation_key == original.key
    (failure,) = result.protocol_unit_failures
    assert failure.traceback == "it died\nof SIGSEGV"
    assert list(failure.exception) == ["ProcessDied", ["of SIGSEGV"]]
    assert result.result_to_unit(failure) in result.protocol_units


def test_a_protocol_that_makes_no_units_has_a_failed_result(execute: Any) -> None:
    original = transformation(UncreatableProtocol)
    done, written = execute([as_chain(original), None])
    assert (done.ok, done.units, done.failures) == (False, 1, 1)
    result = as_server_reads(written)
    assert not result.ok()
    assert result.transformation_key == original.key
    (failure,) = result.protocol_unit_failures
    assert "no units from me" in failure.traceback
    # The server imports it, so it must come with the Protocol.
    assert type(result.protocol_units[0]).__module__ == UncreatableProtocol.__module__


def test_such_a_task_can_be_failed_for_another_reason(fail: Any) -> None:
    _, written = fail([as_chain(transformation(UncreatableProtocol)), None], "it died")
    (failure,) = as_server_reads(written).protocol_unit_failures
    assert failure.traceback.startswith("it died\nIts units could not be made either")


def test_a_made_up_failure_knows_what_it_extends(execute: Any, fail: Any) -> None:
    chain = as_chain(transformation())
    parent = execute([chain, None])[1]
    stored = json.loads(parent, cls=JSON_HANDLER.decoder).decode("latin-1")
    result = as_server_reads(fail([chain, stored], "it died")[1])
    assert result.extends_key == as_server_reads(parent).key


@pytest.mark.parametrize(
    ("protocol", "error"), [(DiskFullProtocol, OSError), (OutOfMemoryProtocol, MemoryError)]
)
def test_want_of_disk_or_memory_is_no_news_of_the_task(
    execute: Any, protocol: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        execute([as_chain(transformation(protocol)), None])

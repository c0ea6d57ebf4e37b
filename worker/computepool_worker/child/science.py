"""Everything that needs gufe: from the server's JSON to an executed ProtocolDAG and its result.

The only module that imports gufe, and it does so when asked to prepare: the imports take seconds.
"""

import datetime as dt
import errno
import functools
import inspect
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computepool_worker.boundary import Begun, Done, Execute, Fail, Prepare, Ready
from computepool_worker.child.fitness import examine

if TYPE_CHECKING:
    from gufe import Transformation
    from gufe.protocols import Protocol, ProtocolDAG, ProtocolDAGResult, ProtocolUnit

log = logging.getLogger(__name__)


class GufeScience:
    """Executes Transformations with gufe."""

    def prepare(self, request: Prepare) -> Ready:
        """Import gufe, and check what is demanded of the device and of scratch space.

        Raises ImportError if gufe is not there, or OpenMM if it is needed.
        """
        began = time.monotonic()
        import gufe

        took = {"gufe": str(gufe.__version__), "import_seconds": f"{time.monotonic() - began:.1f}"}
        ready = examine(request)
        return replace(ready, facts={**took, **ready.facts})

    def execute(self, request: Execute, tell: Callable[[Begun], None]) -> Done:
        """Execute the Task as the stock service does, except that failures are never raised.

        A Protocol that cannot even make its units has a failed result as well. Raises OSError or
        MemoryError where a unit failed for want of disk or memory: that is no news of the Task.
        """
        from gufe.protocols.protocoldag import execute_DAG

        began = time.monotonic()
        transformation, extends = _fetched(request.transformation)
        try:
            dag = transformation.create(extends=extends, name=request.task)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.exception("the Protocol cannot make the units of %s", request.task)
            told = "".join(traceback.format_exception(error))
            result = failed_result(
                transformation, extends, None, request.task, type(error).__name__, told
            )
        else:
            _report_units(dag, transformation, request.task, tell)
            result = execute_DAG(
                dag,
                shared_basedir=Path(request.shared),
                scratch_basedir=Path(request.scratch),
                keep_shared=request.keep_shared,
                keep_scratch=request.keep_scratch,
                raise_error=False,
                n_retries=request.n_retries,
            )
            if not result.ok():
                raise_if_of_the_host(result)
        return _deliver(result, transformation, request, began)

    def fail(self, request: Fail) -> Done:
        """Write a failed result of the Protocol's own units; what makes them may fail as well."""
        began = time.monotonic()
        transformation, extends = _fetched(request.transformation)
        dag, told = None, request.traceback
        try:
            dag = transformation.create(extends=extends, name=request.task)
        except Exception as error:
            log.exception("the Protocol cannot make the units of %s", request.task)
            told += f"\nIts units could not be made either: {type(error).__name__}: {error}\n"
        result = failed_result(transformation, extends, dag, request.task, request.exception, told)
        return _deliver(result, transformation, request, began)


def _fetched(path: str) -> "tuple[Transformation, ProtocolDAGResult | None]":
    return read_transformation(Path(path).read_text(encoding="utf-8"))


def _deliver(
    result: "ProtocolDAGResult",
    transformation: "Transformation",
    request: Execute | Fail,
    began: float,
) -> Done:
    _write(Path(request.result), encode_result(result))
    return Done(
        task=request.task,
        ok=result.ok(),
        units=len(result.protocol_units),
        failures=len(result.protocol_unit_failures),
        seconds=time.monotonic() - began,
        transformation=str(transformation.key),
        protocol=type(transformation.protocol).__name__,
    )


def _report_units(
    dag: "ProtocolDAG",
    transformation: "Transformation",
    task: str,
    tell: Callable[[Begun], None],
) -> None:
    """Let every unit say that it begins, at each attempt."""
    units = dag.protocol_units
    key, protocol = str(transformation.key), type(transformation.protocol).__name__
    for number, unit in enumerate(units, 1):
        begun = Begun(task, number, len(units), str(unit.name), key, protocol)
        unit.execute = _telling(unit.execute, functools.partial(tell, begun))


def _telling(execute: Callable[..., Any], tell: Callable[[], None]) -> Callable[..., Any]:
    def executed(*arguments: Any, **named: Any) -> Any:
        tell()
        return execute(*arguments, **named)

    return executed


# As gufe writes exceptions down: the class's name, and the arguments, of which errno is the first.
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


def raise_if_of_the_host(result: "ProtocolDAGResult") -> None:
    """Raise OSError or MemoryError if the last failure was for want of disk or memory."""
    name, arguments = result.protocol_unit_failures[-1].exception
    if name == "MemoryError":
        raise MemoryError(*arguments)
    if name == "OSError" and arguments and arguments[0] in _OUT_OF_SPACE:
        raise OSError(*arguments)


def failed_result(
    transformation: "Transformation",
    extends: "ProtocolDAGResult | None",
    dag: "ProtocolDAG | None",
    task: str,
    exception: str,
    told: str,
) -> "ProtocolDAGResult":
    """Make the result of a Task whose first unit failed with this exception and traceback.

    Without a ProtocolDAG it has one unit, made up, of a class that comes with the Protocol: the
    server has to import it. Raises ValueError if there is none.
    """
    from gufe.protocols import ProtocolDAGResult, ProtocolUnitFailure

    units = [made_up_unit(transformation.protocol)] if dag is None else dag.protocol_units
    first, now = units[0], dt.datetime.now(dt.UTC).replace(tzinfo=None)
    failure = ProtocolUnitFailure(
        name=first.name,
        source_key=first.key,
        inputs={},
        outputs={},
        exception=(exception, (told.strip().splitlines()[-1],)),
        traceback=told,
        start_time=now,
        end_time=now,
    )
    return ProtocolDAGResult(
        name=task,
        protocol_units=units,
        protocol_unit_results=[failure],
        transformation_key=transformation.key,
        extends_key=None if extends is None else extends.key,
    )


def made_up_unit(protocol: "Protocol") -> "ProtocolUnit":
    """Make a unit without inputs of the Protocol's own package. Raises ValueError."""
    from gufe.protocols import ProtocolUnit

    module = type(protocol).__module__
    package = module.partition(".")[0]
    found = [
        kind
        for kind in _subclasses(ProtocolUnit)
        if kind.__module__.partition(".")[0] == package and not inspect.isabstract(kind)
    ]
    if not found:
        raise ValueError(f"the Protocol's package {package} has no ProtocolUnit to fail with")
    # One of the same module if there is one.
    kind = min(found, key=lambda kind: (kind.__module__ != module, kind.__qualname__))
    unit: ProtocolUnit = kind(name="made up: the Protocol has made no units")
    return unit


def _subclasses(kind: type) -> Iterator[type]:
    below: list[type] = kind.__subclasses__()
    for one in below:
        yield one
        yield from _subclasses(one)


def read_transformation(body: str) -> "tuple[Transformation, ProtocolDAGResult | None]":
    """Read the answer of ``/tasks/{task}/transformation/gufe``.

    Servers before 0.8 send the Transformation as a JSON string of one nested dictionary, later ones
    as a keyed chain; the shape tells. Raises ValueError for anything else.
    """
    from gufe.tokenization import JSON_HANDLER, GufeTokenizable

    match json.loads(body, cls=JSON_HANDLER.decoder):
        case [str(text), previous]:
            transformation = GufeTokenizable.from_dict(json.loads(text, cls=JSON_HANDLER.decoder))
        case [list(chain), previous]:
            transformation = GufeTokenizable.from_keyed_chain(chain)
        case _:
            raise ValueError("the server's answer is not a Transformation and an earlier result")
    return transformation, None if previous is None else read_result(previous)


def read_result(text: str) -> "ProtocolDAGResult":
    """Read a stored result, bytes written as latin-1 text.

    The bytes are zstd of the JSON of a keyed chain, or in old stores the JSON of one dictionary.
    """
    import zstandard
    from gufe.tokenization import JSON_HANDLER, GufeTokenizable

    stored = text.encode("latin-1")
    try:
        chain = zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError:
        return GufeTokenizable.from_dict(json.loads(stored, cls=JSON_HANDLER.decoder))
    return GufeTokenizable.from_keyed_chain(json.loads(chain, cls=JSON_HANDLER.decoder))


def encode_result(result: "ProtocolDAGResult") -> str:
    """Return the JSON value of ``protocoldagresult`` in the request that pushes ``result``.

    The server wants zstd of the JSON of the keyed chain, in a frame that declares its size, and
    then gufe's own JSON of those bytes, which since gufe 1.2 compresses them once more. In UTF-8,
    which the server reads as well, it is half as large as with the escapes of ASCII.
    """
    import zstandard
    from gufe.tokenization import JSON_HANDLER

    chain: list[Any] = result.to_keyed_chain()
    plain = json.dumps(chain, cls=JSON_HANDLER.encoder).encode()
    packed = zstandard.ZstdCompressor().compress(plain)
    return json.dumps(packed, cls=JSON_HANDLER.encoder, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    """Write a whole file or none: the name appears when the content is on the disk."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)

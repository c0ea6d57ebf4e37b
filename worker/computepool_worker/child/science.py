"""Everything that needs gufe: from the server's JSON to an executed ProtocolDAG and its result.

The only module that imports gufe, and it does so when asked to prepare: the imports take seconds.
"""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computepool_worker.boundary import Done, Execute, Prepare, Ready
from computepool_worker.child.device import find_platform

if TYPE_CHECKING:
    from gufe import Transformation
    from gufe.protocols import ProtocolDAGResult


class GufeScience:
    """Executes Transformations with gufe."""

    def prepare(self, request: Prepare) -> Ready:
        """Import gufe, and find the OpenMM platform that is demanded, if one is."""
        began = time.monotonic()
        import gufe

        facts = {"gufe": str(gufe.__version__)}
        if request.openmm_platform is not None:
            try:
                facts |= find_platform(request.openmm_platform)
            except RuntimeError as error:
                return Ready(ok=False, reason=str(error), facts=facts)
        facts["import_seconds"] = f"{time.monotonic() - began:.1f}"
        return Ready(ok=True, facts=facts)

    def execute(self, request: Execute) -> Done:
        """Execute the Task as the stock service does, except that failures are never raised."""
        from gufe.protocols.protocoldag import execute_DAG

        began = time.monotonic()
        body = Path(request.transformation).read_text(encoding="utf-8")
        transformation, extends = read_transformation(body)
        dag = transformation.create(extends=extends, name=request.task)
        result = execute_DAG(
            dag,
            shared_basedir=Path(request.shared),
            scratch_basedir=Path(request.scratch),
            keep_shared=request.keep_shared,
            keep_scratch=request.keep_scratch,
            raise_error=False,
            n_retries=request.n_retries,
        )
        _write(Path(request.result), encode_result(result))
        return Done(
            task=request.task,
            ok=result.ok(),
            units=len(result.protocol_units),
            failures=len(result.protocol_unit_failures),
            seconds=time.monotonic() - began,
        )


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
    then gufe's own JSON of those bytes, which since gufe 1.2 compresses them once more.
    """
    import zstandard
    from gufe.tokenization import JSON_HANDLER

    chain: list[Any] = result.to_keyed_chain()
    plain = json.dumps(chain, cls=JSON_HANDLER.encoder).encode()
    return json.dumps(zstandard.ZstdCompressor().compress(plain), cls=JSON_HANDLER.encoder)


def _write(path: Path, text: str) -> None:
    """Write a whole file or none: the name appears when the content is on the disk."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)

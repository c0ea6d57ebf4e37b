"""Transformations of gufe's own test Protocols. Only importable where gufe is."""

import ctypes
import json
import time
from typing import Any

from gufe import ChemicalSystem, SolventComponent, Transformation
from gufe.protocols import ProtocolDAGResult, ProtocolUnit
from gufe.tests.test_protocol import BrokenProtocol, DummyProtocol, DummyProtocolResult
from gufe.tokenization import JSON_HANDLER


class ReasonableUnit(ProtocolUnit):
    """A unit that a failure can be made up with."""

    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        return {}


class DiskFullUnit(ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        raise OSError(28, "No space left on device")


class OutOfMemoryUnit(ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        raise MemoryError


class SegfaultingUnit(ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        ctypes.string_at(0)
        return {}


class HangingUnit(ProtocolUnit):
    @staticmethod
    def _execute(ctx: Any, **inputs: Any) -> dict[str, Any]:
        time.sleep(3600)
        return {}


class UncreatableProtocol(DummyProtocol):
    """A Protocol that cannot make its units."""

    result_cls = DummyProtocolResult

    def _create(self, *arguments: Any, **named: Any) -> list[ProtocolUnit]:
        raise RuntimeError("no units from me")


class DiskFullProtocol(DummyProtocol):
    result_cls = DummyProtocolResult

    def _create(self, *arguments: Any, **named: Any) -> list[ProtocolUnit]:
        return [DiskFullUnit()]


class SegfaultingProtocol(DummyProtocol):
    result_cls = DummyProtocolResult

    def _create(self, *arguments: Any, **named: Any) -> list[ProtocolUnit]:
        return [SegfaultingUnit()]


class HangingProtocol(DummyProtocol):
    result_cls = DummyProtocolResult

    def _create(self, *arguments: Any, **named: Any) -> list[ProtocolUnit]:
        return [HangingUnit()]


class OutOfMemoryProtocol(DummyProtocol):
    result_cls = DummyProtocolResult

    def _create(self, *arguments: Any, **named: Any) -> list[ProtocolUnit]:
        return [OutOfMemoryUnit()]


def transformation(protocol: type[DummyProtocol] = DummyProtocol, repeats: int = 3) -> Any:
    settings = protocol.default_settings()
    settings.n_repeats = repeats
    return Transformation(
        stateA=ChemicalSystem({"solvent": SolventComponent()}),
        stateB=ChemicalSystem({"solvent": SolventComponent(smiles="CO")}),
        protocol=protocol(settings),
        mapping=None,
        name=f"{protocol.__name__} x {repeats}",
    )


def as_chain(item: Any) -> list[Any]:
    """Write it as servers since 0.8 do."""
    chain: list[Any] = json.loads(json.dumps(item.to_keyed_chain(), cls=JSON_HANDLER.encoder))
    return chain


def as_text(item: Any) -> str:
    """Write it as servers before 0.8 do: the JSON of one nested dictionary."""
    return json.dumps(item.to_dict(), cls=JSON_HANDLER.encoder)


__all__ = [
    "BrokenProtocol",
    "DiskFullProtocol",
    "DummyProtocol",
    "HangingProtocol",
    "OutOfMemoryProtocol",
    "ProtocolDAGResult",
    "SegfaultingProtocol",
    "UncreatableProtocol",
    "as_chain",
    "as_text",
    "transformation",
]

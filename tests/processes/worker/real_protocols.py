"""A Protocol that simulates with OpenMM, in units that share files. Importable where gufe is.

`SharingProtocol` has one unit that prepares, several that simulate from what it left in its shared
folder, and one that gathers. A Task that extends another goes on from its positions.
"""

import json
from pathlib import Path
from typing import Any

from gufe import ChemicalSystem
from gufe.protocols import Context, ProtocolDAGResult, ProtocolUnit
from gufe.tests.test_protocol import DummyProtocol, DummyProtocolResult


class PreparingUnit(ProtocolUnit):
    """Writes the system and where it begins to the shared folder."""

    @staticmethod
    def _execute(ctx: Context, *, begin: list[Any] | None, **_: Any) -> dict[str, Any]:
        import openmm

        from computepool_worker.child.device import sample

        system, positions = sample()
        (ctx.shared / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
        (ctx.shared / "positions.json").write_text(json.dumps(begin or positions))
        (ctx.scratch / "notes").write_text("of no use to anybody else")
        return {"folder": str(ctx.shared), "extends": begin is not None}


class SimulatingUnit(ProtocolUnit):
    """Reads them and simulates."""

    @staticmethod
    def _execute(
        ctx: Context, *, preparing: Any, platform: str, repeat: int, **_: Any
    ) -> dict[str, Any]:
        import openmm
        import openmm.unit as units

        folder = Path(preparing.outputs["folder"])
        system = openmm.XmlSerializer.deserialize((folder / "system.xml").read_text())
        integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
        integrator.setRandomNumberSeed(repeat + 1)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
        context.setPositions(json.loads((folder / "positions.json").read_text()))
        context.setVelocitiesToTemperature(300.0, repeat + 1)
        integrator.step(20)
        state = context.getState(getEnergy=True, getPositions=True)
        final = state.getPositions().value_in_unit(units.nanometer)
        (ctx.shared / "trajectory").write_text(json.dumps([list(place) for place in final]))
        return {
            "energy": state.getPotentialEnergy().value_in_unit(units.kilojoule_per_mole),
            "trajectory": str(ctx.shared / "trajectory"),
            "platform": context.getPlatform().getName(),
        }


class GatheringUnit(ProtocolUnit):
    """Reads what the simulations have left."""

    @staticmethod
    def _execute(_: Context, *, preparing: Any, simulating: list[Any], **__: Any) -> dict[str, Any]:
        trajectories = [Path(one.outputs["trajectory"]).read_text() for one in simulating]
        return {
            "energies": [one.outputs["energy"] for one in simulating],
            "platforms": sorted({one.outputs["platform"] for one in simulating}),
            "positions": json.loads(trajectories[0]),
            "extends": preparing.outputs["extends"],
        }


class SharingProtocol(DummyProtocol):
    """Simulates as often as its settings' `n_repeats` say, on OpenMM's CPU platform."""

    result_cls = DummyProtocolResult
    platform = "CPU"

    def _create(
        self,
        stateA: ChemicalSystem,  # noqa: N803 - gufe's name
        stateB: ChemicalSystem,  # noqa: N803
        mapping: Any = None,
        extends: ProtocolDAGResult | None = None,
    ) -> list[ProtocolUnit]:
        begin = None
        if extends is not None:
            begin = extends.protocol_unit_results[-1].outputs["positions"]
        preparing = PreparingUnit(name="preparing", begin=begin)
        simulating = [
            SimulatingUnit(
                name=f"repeat {repeat}", preparing=preparing, platform=self.platform, repeat=repeat
            )
            for repeat in range(self.settings.n_repeats)
        ]
        gathering = GatheringUnit(name="gathering", preparing=preparing, simulating=simulating)
        return [preparing, *simulating, gathering]


class ReferenceProtocol(SharingProtocol):
    """The same on the Reference platform."""

    result_cls = DummyProtocolResult
    platform = "Reference"

"""Whether the device is what the pool demands. The only module that imports openmm."""


def find_platform(name: str) -> dict[str, str]:
    """Return facts about OpenMM's platform ``name`` for the log.

    Raises RuntimeError if this installation of OpenMM has no such platform, saying which it has and
    which of its plugins could not be loaded.
    """
    import openmm

    there = [
        openmm.Platform.getPlatform(index).getName()
        for index in range(openmm.Platform.getNumPlatforms())
    ]
    if name not in there:
        failures = "; ".join(openmm.Platform.getPluginLoadFailures())
        why = f"; plugins that could not be loaded: {failures}" if failures else ""
        raise RuntimeError(
            f"OpenMM has no platform {name} here, only {', '.join(there)}: look for the device's "
            f"driver on this node, or set openmm_platform{why}"
        )
    return {"openmm": openmm.Platform.getOpenMMVersion(), "platform": name}

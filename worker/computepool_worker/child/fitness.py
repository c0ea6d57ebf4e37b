"""Whether Tasks may be executed here: scratch space first, since that is quick, then the device."""

from pathlib import Path

from computepool_worker.boundary import Prepare, Ready
from computepool_worker.child.capacity import check_scratch
from computepool_worker.child.device import check_device
from computepool_worker.child.unfit import UnfitError


def examine(request: Prepare) -> Ready:
    """Check what ``request`` demands. Raises ImportError if OpenMM is demanded and not there."""
    facts: dict[str, str] = {}
    try:
        if request.scratch:
            free = check_scratch(Path(request.scratch), request.scratch_min_free)
            facts["scratch_free_mib"] = str(free)
        if request.openmm_platform is not None:
            facts |= check_device(request.openmm_platform, request.device_min_memory)
    except UnfitError as error:
        return Ready(ok=False, reason=str(error), facts=facts, fault=error.fault)
    return Ready(ok=True, facts=facts)

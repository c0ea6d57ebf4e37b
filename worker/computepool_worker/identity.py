"""The id under which a worker registers."""

import re
import uuid
from collections.abc import Callable, Mapping

from computepool_api.ids import ComputeServiceID

POD_UID_VARIABLE = "COMPUTEPOOL_POD_UID"


def service_id(
    name: str,
    environment: Mapping[str, str],
    make_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
) -> ComputeServiceID:
    """Return the id of this worker's service: its name and, in a pod, the pod's UID.

    The UID makes the id exact, so that the operator can tell which pod a registered service was.
    Outside Kubernetes the id has a random UUID. Raises ValueError if the variable holds no UUID.
    """
    pod_uid = environment.get(POD_UID_VARIABLE)
    if pod_uid is None:
        identifier = make_uuid()
    else:
        try:
            identifier = uuid.UUID(pod_uid)
        except ValueError:
            raise ValueError(
                f"the environment variable {POD_UID_VARIABLE} must hold the pod's UID, "
                f"not {pod_uid!r}: take it from metadata.uid by the downward API"
            ) from None
    return ComputeServiceID.new(service_name(name), identifier)


def service_name(text: str) -> str:
    """Turn a host's or a Job's name into one that the server takes.

    The server takes ``[A-Za-z][A-Za-z0-9_.:]*``; every other character becomes an underscore, and a
    name that begins with none of the letters gets the prefix N.
    """
    mapped = re.sub(r"[^A-Za-z0-9_.:]", "_", text)
    return mapped if re.match(r"[A-Za-z]", mapped) else f"N{mapped}"

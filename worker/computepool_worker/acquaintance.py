"""What a 404 says: before the server has ever answered, and after."""

from computepool_api.errors import ComputeAPIError, Misdirected, Unavailable


class Acquaintance:
    """Whether this URL is known to lead to the server; shared by all lives of a service.

    ``made`` is true once this process has registered there.
    """

    def __init__(self) -> None:
        self.made = False

    def meaning(self, error: ComputeAPIError) -> ComputeAPIError:
        """Return what the error means by now.

        An ingress controller answers 404 for some seconds while its Ingress is made anew (so the
        stock client repeats after it). From a URL that has never worked it says that it is wrong.
        """
        if not self.made or not isinstance(error, Misdirected):
            return error
        detail = f"{error.detail or 'refused'}; as this URL has worked, a proxy may be in change"
        return Unavailable(error.endpoint, status=error.status, detail=detail)

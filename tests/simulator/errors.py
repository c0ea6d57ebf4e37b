"""How an operation of the simulated server can end other than well."""


class RefusedError(Exception):
    """An answer of the application with a `detail`: a status and a text.

    A `challenge` adds `WWW-Authenticate`, as the server does with every 401 and one kind of 400.
    """

    def __init__(self, status: int, detail: str, *, challenge: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.challenge = challenge or status == 401


class BrokenError(Exception):
    """Where the real server trips over its own exception: 500, and the connection is closed.

    The text is for whoever debugs a test; it never goes over the wire.
    """

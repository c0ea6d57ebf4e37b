"""The one error of this package."""


class TestClusterError(Exception):
    """Something in the test cluster failed; the text says what, where, and what to do."""

    __test__ = False  # pytest would take the name for a test class

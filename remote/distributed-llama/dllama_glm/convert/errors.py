"""Why a conversion that had begun could not go on."""


class OutputError(Exception):
    """The output cannot be written; the message says what, where and what to do."""


class Busy(OutputError):
    """Another process writes the same output."""


class BadValue(Exception):
    """A value of the checkpoint that the output cannot hold; the message places it."""


class HubError(Exception):
    """The hub did not give what was asked for; the message says what, where and what to do."""

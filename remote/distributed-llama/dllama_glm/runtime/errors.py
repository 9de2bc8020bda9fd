"""What goes wrong by the user's or the surroundings' doing: told in one line, without a traceback."""


class DllamaError(Exception):
    """Something that the user can act on; the text says what, where and what to do."""

    exit_code = 1


class UsageError(DllamaError):
    """An option or a value that cannot be meant."""

    exit_code = 2

"""Whether an error is the disk's: full, read-only, not ours. It is the user's to mend, and no bug."""

from __future__ import annotations

import errno

NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
SQLITE = ("disk is full", "readonly database", "unable to open database file", "disk I/O error")


def trouble(error: BaseException) -> str:
    """What is wrong with the disk, and where, as far as the error or its cause says so; "": it is another one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in NUMBERS:
            return f"{found.filename}: {found.strerror}" if found.filename else str(found.strerror)
        if type(found).__module__ == "sqlite3" and any(words in str(found) for words in SQLITE):
            return f"the ledger: {found}"
        found = found.__cause__ or found.__context__
    return ""

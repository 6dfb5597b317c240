"""Names of files, which may hold anything, on one line of an error."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return `text` fit for one line of UTF-8: control characters and undecodable bytes as backslash escapes."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text
    )

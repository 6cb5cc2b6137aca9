"""Text that may stand in the header of a mail."""

import re
import unicodedata

_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*",
)
#: Control characters, line and paragraph separators, and halves of characters, which no encoding can write.
_UNFIT = frozenset({"Cc", "Zl", "Zp", "Cs"})


def is_address(text: str) -> bool:
    """Tell whether the text is exactly one plain ASCII address.

    Lists, display names, comments and line breaks are refused: each of them could smuggle a second recipient or a
    header into a mail.
    """
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None


def is_one_line(text: str) -> bool:
    """Tell whether the text is one line without control characters, so that nothing can follow it as a header."""
    return not any(unicodedata.category(character) in _UNFIT for character in text)

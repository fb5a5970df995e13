"""What goes wrong with a user's files and options, told in a sentence instead of a traceback."""

import errno

from bundle.folders import BundleError

# The errors that are about what the user gave. Any other is a bug, whose traceback is wanted.
EXPECTED = (BundleError, ValueError, OSError, FloatingPointError)
MENDS = {
    errno.EACCES: "give this user the right to it, or name another place",
    errno.EDQUOT: "free some space, or name a place on another disk",
    errno.EFBIG: "name a place without that limit",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "its symbolic links lead to each other; name what they should lead to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.ENOTDIR: "a part of the path is a file, not a folder; name another place",
    errno.EPERM: "give this user the right to it, or name another place",
    errno.EROFS: "name a place that can be written to",
}


def sentence(error: Exception) -> str:
    """What came, how to mend it, and what was noted of it on its way."""
    return shown("; ".join([_told(error), *getattr(error, "__notes__", ())]))


def shown(text: str) -> str:
    """The text on one line, with escapes for what a terminal would obey, since names come from anybody's files."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _told(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    place = "" if error.filename is None else f": {error.filename!r}"
    mend = MENDS.get(error.errno)
    return f"{error.strerror}{place}" + ("" if mend is None else f"; {mend}")

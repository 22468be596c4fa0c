"""What the commands print.  Methods and paths in it were written by clients, names and reasons by
applications, so nothing reaches the terminal that is not printable ASCII."""

from __future__ import annotations

import os
import sys

from fastfork import log


class OutputError(Exception):
    """Standard output cannot be written; the text is the reason."""


def printable(value: object) -> str:
    """One line of printable ASCII; "-" for None."""
    if value is None:
        return "-"
    return log.escape(str(value)).encode("ascii", "backslashreplace").decode()


def show(text: str) -> None:
    """Print `text`, which is printable, on standard output.  If nobody reads it that is no error:
    they have seen enough.  OutputError if it cannot be written for another reason."""
    if sys.stdout is not None:  # it was closed from the beginning
        _show(text.encode("ascii"))


def show_document(text: str) -> None:
    """The same for a document that is meant to be stored: in UTF-8, as TOML and JSON are, whatever
    the terminal's encoding is.  OutputError."""
    if sys.stdout is not None:
        _show(text.encode())


def _show(data: bytes) -> None:
    assert sys.stdout is not None
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in the buffer is written at the exit, where nobody could catch this.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputError(error.strerror) from None


def say(line: str) -> None:
    """Print one line.  OutputError."""
    show(printable(line) + "\n")


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    log.write(f"fastfork: {printable(sentence)}\n")

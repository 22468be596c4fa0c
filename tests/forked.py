"""Run a piece of a test in a process of its own, for what cannot be undone in this one."""

import fcntl
import os
import traceback

HIGH = 200  # descriptors from 3 on are for the test


def in_child(act):
    """Call `act` in a forked child; the text of what it returns.  An exception there fails here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = fcntl.fcntl(writer, fcntl.F_DUPFD, HIGH)
        try:
            text = f"+{act()}"
        except BaseException:
            text = f"-{traceback.format_exc()}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    os.waitpid(pid, 0)
    assert text.startswith("+"), text
    return text[1:]

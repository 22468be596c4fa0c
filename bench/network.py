"""A network of its own for a run, whose TCP does not depend on the machine's settings."""

import contextlib
import ctypes
import fcntl
import socket
import struct
from pathlib import Path

CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
ALLOWED = CONGESTION.with_name("tcp_allowed_congestion_control")
USUAL = "cubic"  # Linux's default

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_libc = ctypes.CDLL(None)


def own():
    """Move this process, and what it starts, into a network with nothing but a loopback device,
    where the congestion control is cubic.  Who may not do that stays; results say what they had.

    BBR, which some hosts have, paces what it sends by a bandwidth that it has measured.  On
    loopback it measures the mood of the machine: the same transfer costs a server twice as much
    in one second as in the next.
    """
    if congestion() == USUAL:
        return
    with contextlib.suppress(OSError), allowed():
        if _libc.unshare(_CLONE_NEWNET) < 0:  # os.unshare: from 3.12 on
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            name = struct.pack("16sH14x", b"lo", 0)
            flags, = struct.unpack("16xH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, name))
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
        CONGESTION.write_text(USUAL)


@contextlib.contextmanager
def allowed():
    """Within, new networks may have it: only what the host allows everybody is allowed to them."""
    with ALLOWED.open("r+") as file:  # the host's, wherever this process goes meanwhile
        before = file.read().strip()
        _write(file, f"{before} {USUAL}")
        try:
            yield
        finally:
            _write(file, before)


def _write(file, text):
    file.seek(0)
    file.write(text)
    file.flush()


def congestion():
    """The congestion control of this network's TCP."""
    return CONGESTION.read_text().strip()

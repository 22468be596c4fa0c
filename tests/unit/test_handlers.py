"""Processes that the application forks."""

import os

from forked import in_child

from fastfork.handlers import Strangers


class Belonging:
    """Closes a descriptor, as what is not an object does: again and again."""

    def __init__(self):
        self.fd = os.open(os.devnull, os.O_RDONLY)

    def close(self):
        os.close(self.fd)


def test_what_is_ours_is_closed_in_them_once():
    """A process that such a one forks has something else under that number."""

    def act():
        ours = Belonging()
        Strangers([ours])

        def child():
            again = os.open(os.devnull, os.O_RDONLY)
            assert again == ours.fd
            return in_child(lambda: os.fstat(again) and "open")

        return in_child(child)

    assert in_child(act) == "open"

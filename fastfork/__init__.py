"""fastfork: a Cython-accelerated pre-fork WSGI server."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastfork._core import (
        BodyError,
        ClientGone,
        RequestTimeout,
        sleep,
        wait_readable,
        wait_writable,
    )

__all__ = [
    "BodyError",
    "ClientGone",
    "RequestTimeout",
    "sleep",
    "wait_readable",
    "wait_writable",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What applications may want of the core, without loading it into every `import fastfork`."""
    if name in __all__:
        from fastfork import _core

        return getattr(_core, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

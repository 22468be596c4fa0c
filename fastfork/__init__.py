"""fastfork: a Cython-accelerated pre-fork WSGI server."""

__version__ = "0.1.0"

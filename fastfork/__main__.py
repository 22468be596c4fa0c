"""`python -m fastfork`."""

import sys

from fastfork.cli import main

if __name__ == "__main__":
    sys.exit(main())

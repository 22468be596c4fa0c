"""Start a server that has no command line for what a contender needs.

    python launch.py bjoern|fastwsgi MODULE:APP HOST PORT WORKERS

bjoern has no workers of its own; its documentation forks after listen(), so that is done
here.  fastwsgi's own command cannot set the number of workers.
"""

import os
import signal
import sys
from importlib import import_module


def bjoern(app, host, port, workers):
    import bjoern as server

    server.listen(app, host, port)
    children = []
    for _ in range(workers - 1):
        pid = os.fork()
        if pid == 0:
            children.clear()
            break
        children.append(pid)
    try:
        server.run()
    finally:
        for pid in children:
            os.kill(pid, signal.SIGTERM)


def fastwsgi(app, host, port, workers):
    import fastwsgi as server

    server.run(app, host, port, loglevel=server.LL_ERROR, workers=workers)


def main():
    kind, target, host, port, workers = sys.argv[1:]
    module, _, attribute = target.partition(":")
    sys.path.insert(0, os.getcwd())
    app = getattr(import_module(module), attribute)
    {"bjoern": bjoern, "fastwsgi": fastwsgi}[kind](app, host, int(port), int(workers))


if __name__ == "__main__":
    main()

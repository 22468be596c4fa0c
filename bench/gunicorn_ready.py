"""gunicorn's configuration in supervised.py: a worker says that it is about to serve."""

import os


def post_worker_init(worker):
    os.write(2, b"Worker %d is ready.\n" % worker.pid)

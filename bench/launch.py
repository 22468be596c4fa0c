"""Start a server that has no command line for what a contender needs.

    python launch.py bjoern|fastwsgi|cheroot|gevent|nginx MODULE:APP HOST PORT WORKERS [LOG]

LOG is the access log's file, for those who have one; without it there is none.  nginx serves the
file that the environment variable BENCH_FILE names, in place of the application.
"""

import os
import pwd
import signal
import sys
import tempfile
from importlib import import_module
from pathlib import Path

BACKLOG = 4096  # what Linux allows by default: a thousand connections may be opened at once


def bjoern(app, host, port, workers):
    """It has no workers of its own; its documentation forks after listen()."""
    import bjoern as server

    server.listen(app, host, port, listen_backlog=BACKLOG)
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
    """Its own command cannot set the number of workers."""
    import fastwsgi as server

    server.server.backlog = BACKLOG
    server.server.tcp_nodelay = 1  # off by default: answers in several pieces would wait
    server.run(app, host, port, loglevel=server.LL_ERROR, workers=workers)


def cheroot(app, host, port, workers):
    """Its own command cannot let more than ten connections be kept."""
    from cheroot.wsgi import Server

    server = Server((host, port), app, numthreads=10, request_queue_size=BACKLOG,
                    timeout=75)  # 10 s by default: idle connections would not live
    server.keep_alive_conn_limit = 16384
    server.start()


def gevent(app, host, port, workers, log=None):
    """It has no command of its own."""
    from gevent.pywsgi import WSGIServer
    from gevent.socket import IPPROTO_TCP, TCP_NODELAY

    # Each line is in the file when its request has been answered, as with the others.
    file = open(log, "a", buffering=1) if log else None  # noqa: SIM115 (as long as the server)
    server = WSGIServer((host, port), app, backlog=BACKLOG, log=file)
    server.init_socket()
    # It sends head and body one by one: the body would wait until the client acknowledges the head.
    server.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # its connections inherit that
    server.serve_forever()


NGINX = """\
daemon off;
{user}
worker_processes {workers};
pid "{folder}/pid";
error_log stderr error;
events {{ worker_connections 16384; }}  # 512 by default
http {{
    client_body_temp_path "{folder}/body";  # (these five are made, even if nobody uses them)
    proxy_temp_path "{folder}/proxy";
    fastcgi_temp_path "{folder}/fastcgi";
    uwsgi_temp_path "{folder}/uwsgi";
    scgi_temp_path "{folder}/scgi";
    access_log {log};
    sendfile on;
    tcp_nopush on;  # the head and the file's first bytes in one packet
    keepalive_requests 1000000000;  # 1000 by default
    server {{
        listen {host}:{port} backlog={backlog};
        root "{root}";
        location / {{ try_files "/{name}" =404; }}
    }}
}}
"""


def nginx(host, port, workers, log=None):
    """Becomes nginx, with a configuration in a temporary directory (TMPDIR's owner removes it)."""
    folder = tempfile.mkdtemp(prefix="nginx")
    path = Path(os.environ["BENCH_FILE"])
    # By default its workers are somebody who may not be allowed to read the file.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.getuid() == 0 else ""
    configuration = Path(folder, "nginx.conf")
    configuration.write_text(NGINX.format(
        user=user, workers=workers, folder=folder, log=f'"{log}"' if log else "off", host=host,
        port=port, backlog=BACKLOG, root=path.parent, name=path.name))
    os.execvp("nginx", ["nginx", "-e", "stderr", "-c", str(configuration)])


def main():
    kind, target, host, port, workers, *log = sys.argv[1:]
    if kind == "nginx":
        nginx(host, int(port), int(workers), *log)
    module, _, attribute = target.partition(":")
    sys.path.insert(0, os.getcwd())
    app = getattr(import_module(module), attribute)
    kinds = {"bjoern": bjoern, "fastwsgi": fastwsgi, "cheroot": cheroot, "gevent": gevent}
    kinds[kind](app, host, int(port), int(workers), *log)


if __name__ == "__main__":
    main()

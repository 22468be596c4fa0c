"""What site.ini is made of."""

import json
import os


def tells(global_conf, **local_conf):
    """An application that tells what it was told."""

    def application(environ, start_response):
        names = "SCRIPT_NAME", "PATH_INFO", "paste_parts.marks"
        told = {name: environ.get(name) for name in names}
        told |= {"local": local_conf, "global": global_conf, "OWN": os.environ.get("OWN")}
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    return application


def flask(global_conf):
    from flask_site import app

    return app


def marks(global_conf, mark):
    """A filter that leaves its mark in the environ."""

    def wrap(inner):
        def outer(environ, start_response):
            environ["paste_parts.marks"] = [*environ.get("paste_parts.marks", []), mark]
            return inner(environ, start_response)

        return outer

    return wrap


def breaks(global_conf):
    raise RuntimeError(f"no database at {global_conf['database']}")

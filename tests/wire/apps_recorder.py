"""An application that remembers what it was called with.  /executed tells it, and forgets it;
/pause does nothing."""

import json

executed = []


def app(environ, start_response):
    path = environ["PATH_INFO"]
    answer = path.encode("latin-1")
    if path == "/executed":
        answer = json.dumps(executed).encode()
        executed.clear()
    elif path != "/pause":
        texts = {key: value for key, value in environ.items() if isinstance(value, str)}
        body = environ["wsgi.input"].read().decode("latin-1")
        executed.append([texts, body])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]

"""Requests, responses, routes and middleware: the little that the four services need of WSGI.

An `Application` answers a `Request` with a `Response`; the class makes a WSGI application of
that.  A `Middleware` is one that asks another.  Both are made by PasteDeploy, which passes the
variables of api-paste.ini.
"""

import json
import re
from http import HTTPStatus
from urllib.parse import parse_qsl

from nova_like.faults import BadRequest, MethodNotAllowed, NotFound


class Request:
    """What the application sees of an environ."""

    def __init__(self, environ):
        self.environ = environ
        self.method = environ["REQUEST_METHOD"]
        self.path = environ.get("PATH_INFO", "")

    def header(self, name):
        """The value of a header field; "" if there is none."""
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"), "")

    @property
    def query_string(self):
        return self.environ.get("QUERY_STRING", "")

    def body(self):
        return self.environ["wsgi.input"].read()

    def json(self, name):
        """The object under `name` in the JSON body, as in {"server": {...}}."""
        try:
            found = json.loads(self.body())[name]
        except (ValueError, LookupError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise BadRequest(f"The body must be a JSON object with an object {name!r} in it.")
        return found

    def parameters(self):
        """Those of the query, by name; the last one of a name counts."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    def ask(self, application):
        """The response of another WSGI application."""
        begun = []

        def start_response(status, headers, exc_info=None):
            begun[:] = [status, headers]
            return chunks.append

        chunks = []
        found = application(self.environ, start_response)
        try:
            chunks.extend(found)
        finally:
            if hasattr(found, "close"):
                found.close()
        return Response(b"".join(chunks), *begun)


class Response:
    def __init__(self, body=b"", status="200 OK", headers=()):
        self.body = body
        self.status = status
        self.headers = list(headers)

    def __call__(self, environ, start_response):
        start_response(self.status, self.headers)
        return [self.body]


def reply(body, kind, code=200, headers=()):
    """A response with this body (bytes or text) of this media type."""
    body = body.encode() if isinstance(body, str) else body
    status = HTTPStatus(code)
    fields = [("Content-Length", str(len(body))), *headers]
    if body:
        fields.insert(0, ("Content-Type", kind))
    return Response(body, f"{status.value} {status.phrase}", fields)


def json_reply(value, code=200):
    return reply(json.dumps(value) + "\n", "application/json", code)


def text_reply(text, code=200):
    return reply(text, "text/plain; charset=utf-8", code)


def xml_reply(text, code=200):
    return reply(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', "text/xml", code)


def nothing():
    """204: it is done, and there is nothing to say."""
    return Response(status="204 No Content")


class Application:
    """A WSGI application that needs only `respond`."""

    @classmethod
    def factory(cls, global_conf, **local_conf):
        """Called by PasteDeploy (paste.app_factory): the section's variables, over [DEFAULT]'s."""
        return cls({**global_conf, **local_conf})

    def __call__(self, environ, start_response):
        return self.respond(Request(environ))(environ, start_response)

    def respond(self, request):
        raise NotImplementedError


class Middleware(Application):
    """A filter: it may answer by itself, or ask the application behind it."""

    def __init__(self, application, conf):
        self.application = application

    @classmethod
    def factory(cls, global_conf, **local_conf):
        """Called by PasteDeploy (paste.filter_factory): a function that wraps an application."""
        return lambda application: cls(application, {**global_conf, **local_conf})


class Routes:
    """Which function answers which method and path.

    A path is a template such as "/servers/{server}/metadata"; what stands for the words in
    braces, none of it with a slash, is passed by name.
    """

    def __init__(self, *table):
        self.table = [(method, self._pattern(path), answer) for method, path, answer in table]

    @staticmethod
    def _pattern(template):
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + "/?")

    def respond(self, request):
        """The response of the route's function; NotFound, MethodNotAllowed."""
        allowed = []
        for method, pattern, answer in self.table:
            if match := pattern.fullmatch(request.path):
                if method == request.method or (method, request.method) == ("GET", "HEAD"):
                    return answer(request, **match.groupdict())
                allowed.append(method)
        if allowed:
            raise MethodNotAllowed(allowed)
        raise NotFound("There is nothing at this path.")


class PathMap:
    """Applications by path prefix; the longest wins, and moves from PATH_INFO to SCRIPT_NAME."""

    def __init__(self, applications):
        self.applications = sorted(applications.items(), key=lambda item: -len(item[0]))

    @classmethod
    def factory(cls, loader, global_conf, **local_conf):
        """Called by PasteDeploy (paste.composite_factory): `/v2: name` and so on."""
        return cls({path.rstrip("/"): loader.get_app(name, global_conf=global_conf)
                    for path, name in local_conf.items()})

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        for prefix, application in self.applications:
            if path == prefix or path.startswith(prefix + "/"):
                inner = {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
                         "PATH_INFO": path[len(prefix):]}
                return application(inner, start_response)
        return text_reply("There is nothing at this path.\n", 404)(environ, start_response)

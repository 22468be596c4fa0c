"""The filters of the pipelines in api-paste.ini, outermost first."""

import base64
import hashlib
import hmac
import os
import sys
import traceback
import uuid
from urllib.parse import quote
from xml.sax.saxutils import escape

from nova_like import wsgi
from nova_like.faults import Fault, Unauthorized

REQUEST_ID = "nova_like.request_id"
CONTEXT = "nova_like.project"


class RequestId(wsgi.Middleware):
    """Gives every request an id, and the response that id and who answered."""

    def respond(self, request):
        request.environ[REQUEST_ID] = f"req-{uuid.uuid4()}"
        response = request.ask(self.application)
        response.headers += [("X-Openstack-Request-Id", request.environ[REQUEST_ID]),
                             ("X-Worker", str(os.getpid()))]
        return response


class FaultWrapper(wsgi.Middleware):
    """Makes responses of faults, in the service's own form, and 500 of any other exception."""

    def __init__(self, application, conf):
        super().__init__(application, conf)
        self.form = {"json": as_json, "xml": as_xml, "text": as_text}[conf["form"]]

    def respond(self, request):
        try:
            return request.ask(self.application)
        except Fault as fault:
            return self.answer(request, fault)
        except Exception:
            request_id = request.environ[REQUEST_ID]
            print(f"{request_id} failed:\n{traceback.format_exc()}", file=sys.stderr, end="")
            return self.answer(request, Fault(f"The log has more about {request_id}."))

    def answer(self, request, fault):
        response = self.form(fault, request.environ[REQUEST_ID])
        response.headers += fault.headers
        return response


def as_json(fault, request_id):
    return wsgi.json_reply({fault.name: {"code": fault.code, "message": str(fault)}}, fault.code)


def as_xml(fault, request_id):
    return wsgi.xml_reply(
        f"<Response><Errors><Error><Code>{fault.ec2_name}</Code>"
        f"<Message>{escape(str(fault))}</Message></Error></Errors>"
        f"<RequestID>{request_id}</RequestID></Response>", fault.code)


def as_text(fault, request_id):
    return wsgi.text_reply(f"{fault}\n", fault.code)


def pairs(text):
    """{"a": "1", "b": "2"} from "a=1 b=2"."""
    return dict(pair.split("=", 1) for pair in text.split())


class TokenAuth(wsgi.Middleware):
    """Whose token it is: a stand-in for Keystone, with its tokens in api-paste.ini."""

    def __init__(self, application, conf):
        super().__init__(application, conf)
        self.projects = pairs(conf["tokens"])

    def respond(self, request):
        project = self.projects.get(request.header("X-Auth-Token"))
        if project is None:
            raise Unauthorized("X-Auth-Token must be a token of this deployment.")
        request.environ[CONTEXT] = project
        return request.ask(self.application)


class Ec2Auth(wsgi.Middleware):
    """Whose access key it is, and whether its owner has signed the request."""

    def __init__(self, application, conf):
        super().__init__(application, conf)
        self.projects = pairs(conf["projects"])
        self.secrets = pairs(conf["secrets"])

    def respond(self, request):
        query = request.parameters()
        given = query.pop("Signature", "")
        key = query.get("AWSAccessKeyId", "")
        if key not in self.secrets:
            raise Unauthorized("AWSAccessKeyId must be an access key of this deployment.")
        path = request.environ["SCRIPT_NAME"] + request.path
        wanted = signature(self.secrets[key], request.method, request.header("Host"), path, query)
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise Unauthorized("Signature is not that of this request with this key's secret.")
        request.environ[CONTEXT] = self.projects[key]
        return request.ask(self.application)


def signature(secret, method, host, path, query):
    """EC2's signature, version 2: HMAC-SHA256 over the request in its canonical form."""
    pieces = (f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
    text = "\n".join([method, host.lower(), path, "&".join(pieces)])
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256)).decode()

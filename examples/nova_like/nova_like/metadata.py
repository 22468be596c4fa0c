"""metadata: what an instance can ask about itself.

Instances reach it through a proxy that knows them by their addresses.  The proxy says which
instance asks, and signs that with a secret that it shares with this service.
"""

import hashlib
import hmac

from nova_like import wsgi
from nova_like.cloud import Cloud
from nova_like.faults import NotFound, Unauthorized


def signature(secret, identity):
    return hmac.digest(secret.encode(), identity.encode(), hashlib.sha256).hex()


class Metadata(wsgi.Application):
    def __init__(self, conf):
        self.cloud = Cloud(conf)
        self.secret = conf["proxy_secret"]
        self.routes = wsgi.Routes(
            ("GET", "/meta-data", self.names),
            ("GET", "/meta-data/{name}", self.value),
            ("GET", "/meta_data.json", self.document),
        )

    def respond(self, request):
        return self.routes.respond(request)

    def names(self, request):
        return wsgi.text_reply("\n".join(self._facts(request)))

    def value(self, request, name):
        facts = self._facts(request)
        if name not in facts:
            raise NotFound(f"There is no metadata {name!r}.")
        return wsgi.text_reply(facts[name])

    def document(self, request):
        row, metadata = self._instance(request)
        return wsgi.json_reply({"uuid": row["uuid"], "name": row["name"], "meta": metadata})

    def _facts(self, request):
        row, _ = self._instance(request)
        return {"hostname": row["name"], "instance-id": f"i-{row['id']:08x}",
                "local-ipv4": row["address"] or ""}

    def _instance(self, request):
        identity = request.header("X-Instance-ID")
        signed = request.header("X-Instance-ID-Signature")
        if not hmac.compare_digest(signed.encode(), signature(self.secret, identity).encode()):
            raise Unauthorized("X-Instance-ID-Signature is not the proxy's.")
        return self.cloud.of_itself(identity)

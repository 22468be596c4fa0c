"""osapi_compute: instances, which its API calls servers, and the volumes attached to them."""

from nova_like import wsgi
from nova_like.cloud import Cloud
from nova_like.filters import CONTEXT


class Compute(wsgi.Application):
    def __init__(self, conf):
        self.cloud = Cloud(conf)
        self.routes = wsgi.Routes(
            ("GET", "/limits", self.limits),
            ("GET", "/servers", self.servers),
            ("POST", "/servers", self.boot),
            ("GET", "/servers/{server}", self.server),
            ("DELETE", "/servers/{server}", self.terminate),
            ("GET", "/servers/{server}/metadata", self.metadata),
            ("POST", "/servers/{server}/metadata", self.describe),
            ("GET", "/servers/{server}/os-volume_attachments", self.attachments),
            ("POST", "/servers/{server}/os-volume_attachments", self.attach),
            ("DELETE", "/servers/{server}/os-volume_attachments/{volume}", self.detach),
        )

    def respond(self, request):
        return self.routes.respond(request)

    def limits(self, request):
        limits = self.cloud.limits(request.environ[CONTEXT])
        return wsgi.json_reply({"limits": {"absolute": limits}})

    def servers(self, request):
        rows = self.cloud.instances(request.environ[CONTEXT])
        return wsgi.json_reply({"servers": [self._view(row) for row in rows]})

    def boot(self, request):
        wanted = request.json("server")
        row = self.cloud.boot(
            request.environ[CONTEXT], wanted.get("name"), wanted.get("metadata"))
        return wsgi.json_reply({"server": self._view(row)}, 202)

    def server(self, request, server):
        row = self.cloud.instance(request.environ[CONTEXT], server)
        return wsgi.json_reply({"server": self._view(row)})

    def terminate(self, request, server):
        self.cloud.terminate(request.environ[CONTEXT], server)
        return wsgi.nothing()

    def metadata(self, request, server):
        metadata = self.cloud.description(request.environ[CONTEXT], server)
        return wsgi.json_reply({"metadata": metadata})

    def describe(self, request, server):
        metadata = self.cloud.describe(
            request.environ[CONTEXT], server, request.json("metadata"))
        return wsgi.json_reply({"metadata": metadata})

    def attachments(self, request, server):
        rows = self.cloud.attached(request.environ[CONTEXT], server)
        return wsgi.json_reply({"volumeAttachments": [self._attachment(row) for row in rows]})

    def attach(self, request, server):
        wanted = request.json("volumeAttachment")
        row = self.cloud.attach(request.environ[CONTEXT], server, wanted.get("volumeId"),
                                wanted.get("device", "/dev/vdb"))
        return wsgi.json_reply({"volumeAttachment": self._attachment(row)})

    def detach(self, request, server, volume):
        self.cloud.detach(request.environ[CONTEXT], server, volume)
        return wsgi.nothing()

    def _view(self, row):
        return {"id": row["uuid"], "name": row["name"], "status": row["status"],
                "accessIPv4": row["address"], "created": row["created"]}

    def _attachment(self, row):
        return {"id": row["uuid"], "volumeId": row["uuid"], "serverId": row["server"],
                "device": row["device"]}

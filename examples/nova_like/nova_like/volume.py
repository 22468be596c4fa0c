"""osapi_volume: volumes, before Cinder took them over."""

from nova_like import wsgi
from nova_like.cloud import Cloud
from nova_like.filters import CONTEXT


class Volume(wsgi.Application):
    def __init__(self, conf):
        self.cloud = Cloud(conf)
        self.routes = wsgi.Routes(
            ("GET", "/volumes", self.volumes),
            ("POST", "/volumes", self.create),
            ("GET", "/volumes/{volume}", self.volume),
            ("DELETE", "/volumes/{volume}", self.delete),
        )

    def respond(self, request):
        return self.routes.respond(request)

    def volumes(self, request):
        rows = self.cloud.volumes(request.environ[CONTEXT])
        return wsgi.json_reply({"volumes": [self._view(row) for row in rows]})

    def create(self, request):
        wanted = request.json("volume")
        row = self.cloud.create_volume(
            request.environ[CONTEXT], wanted.get("name"), wanted.get("size"))
        return wsgi.json_reply({"volume": self._view(row)}, 202)

    def volume(self, request, volume):
        row = self.cloud.volume(request.environ[CONTEXT], volume)
        return wsgi.json_reply({"volume": self._view(row)})

    def delete(self, request, volume):
        self.cloud.delete_volume(request.environ[CONTEXT], volume)
        return wsgi.nothing()

    def _view(self, row):
        attached = [{"server_id": row["server"], "device": row["device"]}] if row["server"] else []
        return {"id": row["uuid"], "name": row["name"], "size": row["size"],
                "status": "in-use" if attached else "available", "attachments": attached}

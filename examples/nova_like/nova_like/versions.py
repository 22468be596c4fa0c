"""What stands at "/" of a service: the versions of its API."""

from nova_like import wsgi


class Versions(wsgi.Application):
    def __init__(self, conf):
        self.versions = conf["versions"].split()
        self.form = conf.get("form", "json")

    def respond(self, request):
        if request.path not in ("", "/"):
            return wsgi.text_reply("There is nothing at this path.\n", 404)
        if self.form == "text":
            return wsgi.text_reply("".join(f"{version}\n" for version in self.versions))
        return wsgi.json_reply({"versions": [
            {"id": version, "status": "CURRENT", "links": [{"rel": "self", "href": f"/{version}/"}]}
            for version in self.versions]})

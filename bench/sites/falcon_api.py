"""The API under Falcon."""

import falcon

from sites.document import PATH, detail


class Servers:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_JSON
        response.text = detail(
            request.get_param_as_int("limit", default=50),
            request.get_param("status", default="ACTIVE"),
            request.get_header("Accept-Language"),
            request.get_header("X-Request-Id"),
            request.get_header("User-Agent"))


app = falcon.App()
app.add_route(PATH, Servers())

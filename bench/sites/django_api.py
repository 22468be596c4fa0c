"""The API under Django, as it is deployed: DEBUG off, the hosts named, of the middleware that a
new project has what does not need sessions or a database."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from sites.document import PATH, detail

settings.configure(
    ALLOWED_HOSTS=["compute.example.com", "localhost", "127.0.0.1"],
    DEBUG=False,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
)


def servers(request):
    document = detail(
        int(request.GET.get("limit", 50)),
        request.GET.get("status", "ACTIVE"),
        request.headers.get("Accept-Language"),
        request.headers.get("X-Request-Id"),
        request.headers.get("User-Agent"))
    return HttpResponse(document, content_type="application/json")


urlpatterns = [path(PATH.lstrip("/"), servers)]
app = get_wsgi_application()

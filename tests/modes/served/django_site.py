"""The pages in Django."""

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from work import ECHOES, STREAMS, TEXTS, UPLOADS

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django": {"handlers": ["stderr"], "propagate": False}},
    },
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
)
django.setup()


def text(page):
    return lambda request: HttpResponse(
        page(lambda: request.GET, request.environ), content_type="text/plain")


def stream(page):
    return lambda request: StreamingHttpResponse(
        page(lambda: request.GET, request.environ), content_type="application/octet-stream")


def upload(page):
    return csrf_exempt(lambda request: HttpResponse(
        page(lambda: request.GET, request.environ, request.read)))


def echo(page):
    return csrf_exempt(lambda request: StreamingHttpResponse(
        page(lambda: request.GET, request.environ, request.read),
        content_type="application/octet-stream"))


KINDS = (text, TEXTS), (stream, STREAMS), (upload, UPLOADS), (echo, ECHOES)
urlpatterns = [path(uri[1:], view(page)) for view, pages in KINDS for uri, page in pages.items()]
app = WSGIHandler()

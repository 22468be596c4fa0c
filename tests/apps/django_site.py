"""A Django project in one file, with the same pages as `flask_site` and `falcon_site`."""

import hashlib
import os
from pathlib import Path

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.static import serve

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEBUG=False,
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django": {"handlers": ["stderr"], "propagate": False}},
    },
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()


def digest(source):
    """Size and checksum of everything that can be read from `source`."""
    size, checksum = 0, hashlib.sha256()
    while chunk := source.read(65536):
        size += len(chunk)
        checksum.update(chunk)
    return {"size": size, "sha256": checksum.hexdigest()}


def hello(request):
    return HttpResponse("hello from django\n", content_type="text/plain")


def form(request):
    if request.method == "GET":
        return HttpResponse(f"<input name=csrfmiddlewaretoken value={get_token(request)}>")
    return JsonResponse({k: v for k, v in request.POST.lists() if k != "csrfmiddlewaretoken"})


@csrf_exempt
def files(request):
    file = request.FILES["file"]
    return JsonResponse(
        {**digest(file), "filename": file.name, "note": request.POST["note"]}
    )


@csrf_exempt
def raw(request):
    answer = digest(request)
    for name in "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input_terminated":
        answer[name] = request.META.get(name)
    return JsonResponse(answer)


def stream(request):
    blob = Path(os.environ["BLOB"])

    def chunks():
        with blob.open("rb") as file:
            yield from iter(lambda: file.read(100_000), b"")

    return StreamingHttpResponse(chunks(), content_type="application/octet-stream")


def file(request):
    return FileResponse(open(os.environ["BLOB"], "rb"), as_attachment=True)


def cookies(request):
    response = HttpResponse("three cookies\n")
    response.set_cookie("first", "1")
    response.set_cookie("second", "two words", httponly=True)
    response.set_cookie("third", "3", max_age=60, samesite="Lax")
    return response


def echo_cookies(request):
    return JsonResponse(request.COOKIES)


@csrf_exempt
def leave(request):
    return redirect("/landed?from=leave")


def landed(request):
    return HttpResponse(f"{request.method} {request.get_full_path()}\n")


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"], "pid": os.getpid()})


def boom(request):
    raise RuntimeError("boom goes the view")


urlpatterns = [
    path("", hello),
    path("form", form),
    path("files", files),
    path("raw", raw),
    path("stream", stream),
    path("file", file),
    path("static/<path:path>", serve, {"document_root": Path(__file__).parent / "static"}),
    path("cookies", cookies),
    path("echo-cookies", echo_cookies),
    path("leave", leave),
    path("landed", landed),
    path("count", count),
    path("boom", boom),
]

application = WSGIHandler()

"""The example's applications, without a server: what they refuse, and what they share."""

import importlib.util
import io
import json
import os
import sys

import pytest
from harness import ROOT

HERE = ROOT / "examples/nova_like"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def load(tmp_path):
    """`load("osapi_compute", quota_instances=1)` is that application of the paste file."""
    from paste.deploy import loadapp

    def application(name, **conf):
        conf = {"state_path": str(tmp_path), "hypervisor_boot_time": "0", **conf}
        return loadapp(f"config:{HERE}/api-paste.ini", name=name, global_conf=conf)

    return application


def ask(application, method, path, body=b"", **environ):
    """Status code, header fields by name, body."""
    path, _, query = path.partition("?")
    begun = []
    environ = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path,
               "QUERY_STRING": query, "HTTP_HOST": "api.example", "wsgi.input": io.BytesIO(body),
               "HTTP_X_AUTH_TOKEN": "demo-token", **environ}
    chunks = application(environ, lambda status, headers: begun.extend([status, dict(headers)]))
    status, headers = begun
    return int(status[:3]), headers, b"".join(chunks)


def post(application, path, value):
    status, _, body = ask(application, "POST", path, json.dumps(value).encode())
    return status, json.loads(body)


def boot(application, name="one", **more):
    return post(application, "/v2/servers", {"server": {"name": name, **more}})


# -- paths, filters, faults --------------------------------------------------------------------
def test_versions_need_no_token(load):
    status, headers, body = ask(load("osapi_compute"), "GET", "/", HTTP_X_AUTH_TOKEN="")
    assert (status, json.loads(body)["versions"][0]["id"]) == (200, "v2")
    assert headers["X-Worker"] == str(os.getpid())
    assert headers["X-Openstack-Request-Id"].startswith("req-")


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/servers/a/b"])
def test_nothing_there(load, path):
    assert ask(load("osapi_compute"), "GET", path)[0] == 404


def test_prefix_ends_where_a_segment_does(load):
    statuses = [ask(load("osapi_compute"), "GET", path, HTTP_X_AUTH_TOKEN="")[0]
                for path in ("/v2", "/v2/", "/v2x")]
    assert statuses == [401, 401, 404]  # who would answer asks for no token


def test_wrong_method(load):
    status, headers, _ = ask(load("osapi_compute"), "PUT", "/v2/servers")
    assert (status, headers["Allow"]) == (405, "GET, POST")


def test_no_token(load):
    status, headers, body = ask(load("osapi_volume"), "GET", "/v2/volumes", HTTP_X_AUTH_TOKEN="x")
    assert (status, list(json.loads(body))) == (401, ["unauthorized"])
    assert "WWW-Authenticate" in headers


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"server": 1}', b"\xff"])
def test_body_that_is_none(load, body):
    assert ask(load("osapi_compute"), "POST", "/v2/servers", body)[0] == 400


@pytest.mark.parametrize("server", [
    {}, {"name": ""}, {"name": 1}, {"name": "a\nb"}, {"name": "\ud800"}, {"name": "x" * 256},
    {"name": "a", "metadata": 1}, {"name": "a", "metadata": {"k": 1}},
    {"name": "a", "metadata": {"k": "\ud800"}},
])  # fmt: skip
def test_server_that_cannot_be(load, server):
    compute = load("osapi_compute")
    status, answer = post(compute, "/v2/servers", {"server": server})
    assert (status, list(answer)) == (400, ["badRequest"])
    assert json.loads(ask(compute, "GET", "/v2/servers")[2])["servers"] == []


@pytest.mark.parametrize("size", [0, -1, 1.5, "1", True, None])
def test_size_that_cannot_be(load, size):
    volume = {"name": "a", "size": size}
    assert post(load("osapi_volume"), "/v2/volumes", {"volume": volume})[0] == 400


def test_application_that_fails(load, monkeypatch, capsys):
    compute = load("osapi_compute")
    from nova_like import cloud

    monkeypatch.setattr(cloud.Cloud, "instances", lambda *_: 1 / 0)
    status, headers, body = ask(compute, "GET", "/v2/servers")
    assert status == 500
    assert headers["X-Openstack-Request-Id"] in json.loads(body)["computeFault"]["message"]
    assert "ZeroDivisionError" in capsys.readouterr().err


# -- quotas, and what is shared ----------------------------------------------------------------
def test_quota_of_gigabytes(load):
    volume = load("osapi_volume", quota_gigabytes="10")
    assert post(volume, "/v2/volumes", {"volume": {"name": "a", "size": 10}})[0] == 202
    status, answer = post(volume, "/v2/volumes", {"volume": {"name": "b", "size": 1}})
    assert (status, answer["forbidden"]["code"]) == (403, 403)


def test_quota_holds_for_many_processes(load):
    """They all make the database, and boot at the same time."""
    reading, writing = os.pipe()
    go, gone = os.pipe()
    children = []
    for _ in range(6):
        if (pid := os.fork()) == 0:
            try:
                os.close(gone)
                os.read(go, 1)  # until the parent has them all
                compute = load("osapi_compute", quota_instances="7")
                os.write(writing, b"".join(b"%d " % boot(compute)[0] for _ in range(3)))
            finally:
                os._exit(0)
        children.append(pid)
    os.close(gone)
    os.close(writing)
    for pid in children:
        assert os.waitpid(pid, 0) == (pid, 0)
    with open(reading) as answers:
        statuses = answers.read().split()
    os.close(go)
    assert sorted(statuses) == ["202"] * 7 + ["403"] * 11
    limits = json.loads(ask(load("osapi_compute"), "GET", "/v2/limits")[2])["limits"]["absolute"]
    assert limits["totalInstancesUsed"] == 7


def test_boot_that_is_ended_leaves_an_error(load, monkeypatch):
    compute = load("osapi_compute")
    from nova_like import cloud

    class Ended(BaseException):
        """As fastfork.RequestTimeout."""

    def boot_in_vain(*_):
        raise Ended

    monkeypatch.setattr(cloud.Hypervisor, "boot", boot_in_vain)
    with pytest.raises(Ended):
        boot(compute)
    monkeypatch.undo()
    (server,) = json.loads(ask(compute, "GET", "/v2/servers")[2])["servers"]
    assert server["status"] == "ERROR"


# -- ec2 and metadata --------------------------------------------------------------------------
@pytest.fixture
def client():
    spec = importlib.util.spec_from_file_location("nova_like_client", HERE / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signed_query(client, secret="demo-secret", **parameters):
    text = client.canonical({"AWSAccessKeyId": "demo-key", **parameters})
    signature = client.signed(secret, f"GET\napi.example\n/services/Cloud\n{text}")
    return f"/services/Cloud?{text}&{client.canonical({'Signature': signature})}"


def test_ec2_shows_what_compute_has(load, client):
    boot(load("osapi_compute"), "a <b> & c")
    status, headers, body = ask(
        load("ec2"), "GET", signed_query(client, Action="DescribeInstances", Name="a b/~é&="))
    assert (status, headers["Content-Type"]) == (200, "text/xml")
    found = client.elements(body.decode())
    assert found["privateDnsName"] == ["a <b> & c"]
    assert found["privateIpAddress"] == ["10.0.0.1"]
    assert found["instanceId"] == ["i-00000001"]


@pytest.mark.parametrize("change", [
    lambda query: query.replace("DescribeInstances", "DescribeVolumes"),
    lambda query: query.replace("Signature=", "Signature=A"),
    lambda query: query.replace("demo-key", "other-key"),
    lambda query: query.partition("?")[0],
])  # fmt: skip
def test_ec2_refuses_what_is_not_signed(load, client, change):
    query = change(signed_query(client, Action="DescribeInstances"))
    status, _, body = ask(load("ec2"), "GET", query)
    assert (status, client.elements(body.decode())["Code"]) == (401, ["AuthFailure"])


def test_ec2_refuses_other_actions(load, client):
    status, _, body = ask(load("ec2"), "GET", signed_query(client, Action="Dance"))
    assert (status, client.elements(body.decode())["Code"]) == (400, ["InvalidParameterValue"])


def test_metadata_is_for_the_instance_alone(load):
    metadata = load("metadata")
    _, answer = boot(load("osapi_compute"), metadata={"role": "web"})
    identity = answer["server"]["id"]
    from nova_like.metadata import signature

    itself = {"HTTP_X_INSTANCE_ID": identity,
              "HTTP_X_INSTANCE_ID_SIGNATURE": signature("shared-with-the-proxy", identity)}
    document = ask(metadata, "GET", "/openstack/latest/meta_data.json", **itself)[2]
    assert json.loads(document) == {"uuid": identity, "name": "one", "meta": {"role": "web"}}
    assert ask(metadata, "GET", "/latest/meta-data/nothing", **itself)[0] == 404
    itself["HTTP_X_INSTANCE_ID"] = "another"
    assert ask(metadata, "GET", "/latest/meta-data/hostname", **itself)[0] == 401


def test_client_says_what_is_wrong(client, capsys):
    with pytest.raises(client.Wrong, match="should be 1, not 2"):
        client.same("it", 2, 1)
    with pytest.raises(client.Wrong, match="is not XML"):
        client.elements("<a>")
    with pytest.raises(client.Wrong, match="is not JSON"):
        _ = client.Answer(200, "<a>").json
    assert client.main([f"--{name}=http://127.0.0.1:1" for name in client.PORTS]) == 1
    assert "compute does not answer GET /" in capsys.readouterr().err

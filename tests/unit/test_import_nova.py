import argparse
import os

import pytest

from fastfork import deployment, import_nova, tomlfile


class Imported:
    """What came of an import: `status`, `text` and `document` of the file, `said` on standard
    error (without what begins every line), `deployment`, which serves what the file says."""

    def __init__(self, status, path, err):
        self.status = status
        self.text = path.read_text() if path.exists() else ""
        self.document = tomlfile.read(str(path)) if path.exists() else {}
        self.said = [line.removeprefix("fastfork: ") for line in err.splitlines()]
        assert all(line.startswith("fastfork: ") for line in err.splitlines())
        if path.exists():
            self.deployment = deployment.load({}, file=str(path), environ={}, here=False)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run("text of nova.conf", ...)` with an api-paste.ini beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api-paste.ini").touch()

    def run(*texts):
        for number, text in enumerate(texts, 1):
            (tmp_path / f"{number}.conf").write_text(text)
        output = tmp_path / "fastfork.toml"
        names = [f"{number}.conf" for number in range(1, len(texts) + 1)]
        status = import_nova.run(argparse.Namespace(file=names, output=str(output)))
        return Imported(status, output, capfd.readouterr().err)

    return run


@pytest.fixture
def convert(run):
    """Options of [DEFAULT], with one API."""
    return lambda options="", more="": run(
        f"[DEFAULT]\nenabled_apis = metadata\n{options}\n{more}\n")


def test_a_deployment(run):
    made = run("""\
# Nova
[DEFAULT]
enabled_apis = ec2, osapi_compute,
    metadata, osapi_volume
my_ip = 10.0.0.5
osapi_compute_listen = $my_ip
osapi_compute_listen_port = 18774
osapi_compute_workers = 16
metadata_workers = 4
api_paste_config = api-paste.ini
graceful_shutdown_timeout = 20
backlog = 4096
[wsgi]
client_socket_timeout = 300
max_header_line = 32768
default_pool_size = 50
tcp_keepidle = 30
""")
    assert (made.status, made.said) == (0, ["1.conf: 1 other option of the application itself: it "
                                            "goes on reading them from its own file."])  # fmt: skip
    assert made.document == {
        "defaults": {
            "graceful_timeout": "20s", "keep_alive": "300s", "body_timeout": "300s",
            "write_timeout": "300s", "max_head": "80KiB", "greenlets": 50, "backlog": 4096,
            "tcp_keepidle": "30s", "access_log": "-", "access_log_format": "combined",
        },
        "services": {
            "ec2": {
                "app": "paste:api-paste.ini#ec2", "bind": "0.0.0.0:8773", "workers": "auto"},
            "osapi_compute": {
                "app": "paste:api-paste.ini#osapi_compute", "bind": "10.0.0.5:18774",
                "workers": 16},
            "metadata": {
                "app": "paste:api-paste.ini#metadata", "bind": "0.0.0.0:8775", "workers": 4},
            "osapi_volume": {
                "app": "paste:api-paste.ini#osapi_volume", "bind": "0.0.0.0:8776",
                "workers": "auto"},
        },
    }  # fmt: skip
    served = {service.name: service.settings for service in made.deployment.services}
    assert list(served) == ["ec2", "osapi_compute", "metadata", "osapi_volume"]
    assert served["metadata"].workers == 4
    assert served["metadata"].max_head == 81920
    assert served["ec2"].graceful_timeout == 20
    assert "workers = 16  # osapi_compute_workers\n" in made.text
    assert 'tcp_keepidle = "30s"  # [wsgi] tcp_keepidle\n' in made.text
    assert 'workers = "auto"  # ec2_workers, Nova\'s default\n' in made.text


@pytest.mark.parametrize("text", ["", "# nothing\n", "[DEFAULT]\n", "[database]\n", "[wsgi]\n"])
def test_what_nova_does_by_default(run, text):
    made = run(text)
    assert (made.status, made.said) == (
        0, ["1.conf: enabled_apis is not set: osapi_compute, metadata by Nova's default."])
    assert made.document["defaults"] == {
        "graceful_timeout": "60s", "keep_alive": "900s", "body_timeout": "900s",
        "write_timeout": "900s", "max_head": "64KiB", "greenlets": 1000, "backlog": 128,
        "tcp_keepidle": "600s", "access_log": "-", "access_log_format": "combined",
    }  # fmt: skip
    assert {name: table["bind"] for name, table in made.document["services"].items()} == {
        "osapi_compute": "0.0.0.0:8774", "metadata": "0.0.0.0:8775"}  # fmt: skip


def test_apis_of_older_releases(run):
    made = run("[DEFAULT]\nec2_workers = 2\nosapi_volume_listen_port = 1\nx_listen = y\n")
    assert list(made.document["services"]) == ["osapi_compute", "metadata", "ec2", "osapi_volume"]
    assert made.said == [
        "1.conf: x_listen is not carried over: 'x' is not one of enabled_apis.",
        "1.conf: enabled_apis is not set: osapi_compute, metadata by Nova's default, ec2 because "
        "there are options of it, osapi_volume because there are options of it.",
    ]


def test_the_later_file_holds(run):
    made = run(
        "[DEFAULT]\nenabled_apis = ec2\nbacklog = 1\nec2_workers = 3\n[wsgi]\nkeep_alive = true\n",
        "[DEFAULT]\nenabled_apis = metadata\nwsgi_keep_alive = false\nbacklog = 2\n",
    )
    assert list(made.document["services"]) == ["metadata"]
    assert made.document["defaults"]["backlog"] == 2
    assert made.document["defaults"]["keep_alive_requests"] == 1
    assert made.said == [
        "1.conf, 2.conf: ec2_workers is not carried over: 'ec2' is not one of enabled_apis."]


# -- one option --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("wsgi_keep_alive = True", {"keep_alive": "900s"}),
        ("wsgi_keep_alive = OFF", {"keep_alive": "900s", "keep_alive_requests": 1}),
        ("client_socket_timeout = 0",
         {"keep_alive": "604800s", "body_timeout": "604800s", "write_timeout": "604800s"}),
        ("graceful_shutdown_timeout = 0", {"graceful_timeout": "604800s"}),
        ("max_header_line = 8192", {"max_head": "56KiB"}),
        ("wsgi_default_pool_size = 7", {"greenlets": 7}),
        ("tcp_keepidle = +7 ", {"tcp_keepidle": "7s"}),
        ("tcp_keepidle =", {"tcp_keepidle": "600s"}),
        ("backlog = 77\nbacklog = $tcp_keepidle", {"backlog": 600}),
    ],
)  # fmt: skip
def test_defaults(convert, options, expected):
    made = convert(options)
    assert (made.status, made.said) == (0, [])
    assert expected.items() <= made.document["defaults"].items()
    assert ("keep_alive_requests" in made.document["defaults"]) == (
        "keep_alive_requests" in expected)
    assert ("for ever" in made.text) == ("604800s" in made.text)


def test_how_many_handlers_a_worker_has(convert):
    """What is like eventlet is for whoever imports to choose: it takes more than a setting."""
    made = convert("wsgi_default_pool_size = 7")
    (service,) = made.deployment.services
    assert (service.settings.greenlets, service.settings.green, service.settings.threads) == (
        7, "off", 1)  # fmt: skip
    comment = made.text.partition("\ngreenlets = 7  #")[0]
    for choice in ("more workers", "threads", 'green = "gevent"', "fastfork[gevent]"):
        assert choice in comment


@pytest.mark.parametrize(
    ("value", "level"),
    [("True", "debug"), ("1", "debug"), ("yes", "debug"), ("off", None), ("no", None)],
)
def test_debug(convert, value, level):
    made = convert(f"debug = {value}")
    assert made.document.get("server", {}).get("log_level") == level


@pytest.mark.parametrize(
    ("listen", "bind"),
    [
        ("10.1.2.3", "10.1.2.3:8775"), ("localhost", "localhost:8775"), ("", "0.0.0.0:8775"),
        ("::1", "[::1]:8775"), ("[::1]", "[::1]:8775"),
        ("::", ["0.0.0.0:8775", "[::]:8775"]), ("$ec2_listen", "0.0.0.0:8775"),
    ],
)  # fmt: skip
def test_listen(convert, listen, bind):
    made = convert(f"metadata_listen = {listen}")
    assert made.document["services"]["metadata"]["bind"] == bind
    assert ("takes IPv4 too" in made.text) == (listen == "::")


def test_an_api_of_ones_own(run):
    made = run("[DEFAULT]\nenabled_apis = my-api.v2\nmy-api.v2_listen_port = 0\n")
    assert made.document["services"] == {
        "my-api.v2": {"app": "paste:api-paste.ini#my-api.v2", "bind": "0.0.0.0:0",
                      "workers": "auto"}}  # fmt: skip


def test_an_api_that_is_named_twice(run):
    made = run("[DEFAULT]\nenabled_apis = metadata,metadata\n")
    assert list(made.document["services"]) == ["metadata"]
    assert made.said == ["1.conf: enabled_apis has 'metadata' 2 times: it is served once."]


# -- paths -------------------------------------------------------------------------------
def test_the_paste_file_is_where_nova_finds_it(tmp_path, monkeypatch, capfd):
    for name in ("etc", "here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "p.ini").touch()
    (tmp_path / "etc" / "nova.conf").write_text("[DEFAULT]\napi_paste_config = p.ini\n")
    (tmp_path / "etc" / "more.conf").touch()
    monkeypatch.chdir(tmp_path / "here")

    def app(file, output):
        assert import_nova.run(argparse.Namespace(file=file, output=output)) == 0
        text = capfd.readouterr().out if output is None else (tmp_path / output).read_text()
        return text.partition('app = "')[2].partition('"')[0]

    found = [str(tmp_path / "etc" / "nova.conf")]
    absolute = f"paste:{tmp_path}/etc/p.ini#osapi_compute"
    assert app(found, None) == absolute
    assert app(found, str(tmp_path / "there" / "x.toml")) == absolute
    assert app(found, str(tmp_path / "etc" / "x.toml")) == "paste:p.ini#osapi_compute"
    monkeypatch.chdir(tmp_path / "etc")
    assert app(["nova.conf", "more.conf"], None) == "paste:p.ini#osapi_compute"
    (tmp_path / "there" / "p.ini").touch()
    (tmp_path / "there" / "last.conf").touch()
    assert app(["nova.conf", "../there/last.conf"], None) == (
        f"paste:{tmp_path}/there/p.ini#osapi_compute")


def test_a_paste_file_that_is_not_there(convert):
    made = convert("api_paste_config = no.ini")
    assert made.document["services"]["metadata"]["app"] == "paste:no.ini#metadata"
    assert made.said == [
        "1.conf: api_paste_config: there is no file 'no.ini' here, write where it is."]


# -- what is left ------------------------------------------------------------------------
TLS = "fastfork has no TLS, put a proxy that has it in front"
PROXIES = ("name the proxies in forwarded_allow_ips, and the fields that they set in "
           "forwarded_fields: those of others do not reach the application")  # fmt: skip
LOGS = "fastfork writes its own log to standard error; the application's goes where its options say"


@pytest.mark.parametrize(
    ("options", "left", "why"),
    [
        ("ssl_ca_file = /x", "ssl_ca_file", TLS),
        ("[wsgi]\nssl_cert_file = /x", "[wsgi] ssl_cert_file", TLS),
        ("[SSL]\nkey_file = /x", "[ssl] key_file", TLS),
        ("enabled_ssl_apis = metadata", "enabled_ssl_apis = metadata",
         f"{TLS}: as it is written, the port of metadata takes plain HTTP"),
        ("enabled_ssl_apis = ec2", "enabled_ssl_apis = ec2", "it is not one of enabled_apis"),
        ("wsgi_log_format = %(client_ip)s", "wsgi_log_format",
         "the access log has the formats common and combined, and no others; combined is written"),
        ("[wsgi]\nsecure_proxy_ssl_header = X", "[wsgi] secure_proxy_ssl_header", PROXIES),
        ("[oslo_middleware]\nenable_proxy_headers_parsing = true",
         "[oslo_middleware] enable_proxy_headers_parsing", PROXIES),
        ("backdoor_port = 1", "backdoor_port", "there is no such port; see fastfork status"),
        ("backdoor_socket = x", "backdoor_socket", "there is no such socket; see fastfork status"),
        ("service_name_prefix = x", "service_name_prefix",
         "services are called what their tables are"),
        ("log_dir = /var/log/nova", "log_dir", LOGS),
        ("ec2_workers = x", "ec2_workers", "'ec2' is not one of enabled_apis"),
        ("vnc_listen = 1.2.3.4", "vnc_listen", "'vnc' is not one of enabled_apis"),
        ("Metadata_Workers = 3", "Metadata_Workers",
         "Nova does not read it either, it is written metadata_workers"),
        ("backlog = 65536", "backlog",
         "backlog = 65536 is not usable: it must be a whole number, from 1 to 65535"),
    ],
)  # fmt: skip
def test_what_is_left_is_named(convert, options, left, why):
    made = convert(options)
    assert (made.status, made.said) == (0, [f"1.conf: {left} is not carried over: {why}."])
    assert f"\n# - {left}: {why}\n" in made.text


def test_a_port_that_was_for_tls_says_so(run):
    made = run("[DEFAULT]\nenabled_apis = ec2,metadata\nenabled_ssl_apis = metadata\n")
    assert made.text.count("\n# Nova served this with TLS: " + TLS + ".\nbind =") == 1


def test_what_is_the_applications_own_is_counted(convert):
    made = convert("sql_connection = a\nec2_dmz_host = b\nmetadata_manager = c",
                   "[database]\nconnection = $nothing\n")  # fmt: skip
    assert made.said == ["1.conf: 4 other options of the application itself: it goes on reading "
                         "them from its own file."]  # fmt: skip


# -- what is wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *((f"metadata_workers = {value}", f"1.conf: metadata_workers {value!r} is not usable: it "
           "must be 1 at least, or left out for as many as there are CPUs.")
          for value in ("0", "-1", "x", "1.5", "\u0661")),
        ("metadata_listen_port = http", "1.conf: metadata_listen_port 'http' is not usable: it "
         "must be a port, from 0 to 65535."),
        ("metadata_listen_port = 65536", "1.conf: metadata_listen with metadata_listen_port "
         "'0.0.0.0:65536' is not an address: a port is a number from 0 to 65535."),
        ("metadata_listen = http://x", "1.conf: metadata_listen with metadata_listen_port "
         "'http://x:8775' is not an address: write host:port without a scheme, or unix:/path."),
        ("metadata_listen = $my_ip", "1.conf: metadata_listen '$my_ip' is not usable: it refers "
         "to 'my_ip', which is in none of the files; write what it stands for."),
        ("metadata_listen = $a\na = $b\nb = $a", "1.conf: a '$b' is not usable: it refers to "
         "itself by way of $."),
        ("enabled_apis =", "1.conf: enabled_apis '' is not usable: it must be one API at least, "
         "such as osapi_compute."),
        ("enabled_apis = a b", "1.conf: enabled_apis 'a b' is not usable: it must be a name of at "
         "most 64 letters, digits, underscores, dots and hyphens."),
        ("enabled_apis = metadata, my_api", "1.conf: my_api_listen_port is missing: Nova has no "
         "port of its own for 'my_api'."),
        ("enabled_apis = metadata, ec2\nec2_listen_port = 8775", "1.conf: ec2_listen with "
         "ec2_listen_port is not usable: metadata listens on 0.0.0.0:8775 too, each API needs an "
         "address of its own."),
        ("debug = maybe", "1.conf: debug 'maybe' is not usable: it must be true or false."),
        ("wsgi_keep_alive =", "1.conf: wsgi_keep_alive '' is not usable: it must be true or "
         "false."),
        ("backlog = 0", "1.conf: backlog '0' is not usable: it must be a whole number, at least "
         "1."),
        ("client_socket_timeout = 15m", "1.conf: client_socket_timeout '15m' is not usable: it "
         "must be a whole number, at least 0."),
        ("api_paste_config = a#b", "1.conf: api_paste_config 'a#b' is not usable: it must be a "
         "path without a #, behind which the name of the application would be."),
    ],
)  # fmt: skip
def test_what_nova_would_not_take(convert, options, sentence):
    made = convert(options)
    assert (made.status, made.said, made.text) == (2, [sentence], "")


def test_all_that_is_wrong_is_said_at_once(convert):
    made = convert("metadata_workers = 0\nbacklog = x", "[wsgi]\ntcp_keepidle = -1\n")
    assert made.said == [
        "1.conf: backlog 'x' is not usable: it must be a whole number, at least 1.",
        "1.conf: [wsgi] tcp_keepidle '-1' is not usable: it must be a whole number, at least 1.",
        "1.conf: metadata_workers '0' is not usable: it must be 1 at least, or left out for as "
        "many as there are CPUs.",
    ]


def test_files_that_cannot_be_read(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(os.urandom(64) + b"\xff")
    (tmp_path / "bad").write_text("x\n")
    arguments = argparse.Namespace(file=["none", "binary", "bad"], output=None)
    assert import_nova.run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "fastfork: Cannot read 'none': No such file or directory.\n"
        "fastfork: Cannot read 'binary': it is no text in UTF-8.\n"
        "fastfork: bad, line 1: 'x' is neither an option, NAME = VALUE, nor a [section] nor a "
        "comment.\n"
    )


def test_nothing_in_a_file_gets_out_of_its_line(run):
    made = run("[DEFAULT]\nenabled_apis = metadata\n"
               "ssl_ca_file = x\n  [services.x]\nx\x0c]\x1b_listen = 1\n")  # fmt: skip
    assert made.status == 0
    assert list(made.document["services"]) == ["metadata"]
    assert made.said[1] == (
        "1.conf: x\\x0c]\\x1b_listen is not carried over: 'x\\x0c]\\x1b' is not one of "
        "enabled_apis.")

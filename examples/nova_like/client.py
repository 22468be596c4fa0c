"""Go through the four services once, and check every answer.

    python client.py [--compute URL] [--volume URL] [--metadata URL] [--ec2 URL]

One line for each request: which service, which of its workers, what was asked, what it answered,
how long that took.  Exit status 1, with the reason, if anything is not as it should be.  The
project `demo` is emptied first, so one client at a time.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote, urlsplit

PATIENCE = 60.0  # seconds for one answer
AT_ONCE = 8  # instances that are booted at the same time
PORTS = {"compute": 8774, "volume": 8776, "metadata": 8775, "ec2": 8773}
TOKEN = {"X-Auth-Token": "demo-token"}
OTHER_TOKEN = {"X-Auth-Token": "other-token"}
EC2_KEY, EC2_SECRET = "demo-key", "demo-secret"
PROXY_SECRET = "shared-with-the-proxy"


class Wrong(Exception):
    """A service did not do what it should; one sentence."""


class Answer(NamedTuple):
    code: int
    text: str

    @property
    def json(self):
        try:
            return json.loads(self.text)
        except ValueError:
            raise Wrong(f"{self.text[:80]!r} is not JSON.") from None


class Service:
    """One of the four, as its clients see it."""

    say = threading.Lock()

    def __init__(self, name, url):
        parts = urlsplit(url)
        self.name, self.host, self.port = name, parts.hostname, parts.port
        self.workers = defaultdict(int)

    def ask(self, method, path, *, wanted=200, headers=None, **body):
        """The answer, on a connection of its own.  Wrong, unless its status is `wanted`."""
        content = json.dumps(body) if body else None
        started = time.perf_counter()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, content, TOKEN if headers is None else headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read().decode())
        except (OSError, http.client.HTTPException) as error:
            raise Wrong(f"{self.name} does not answer {method} {path}: {error!r}.") from None
        finally:
            connection.close()
        taken = time.perf_counter() - started
        worker = response.getheader("X-Worker", "?")
        with self.say:
            self.workers[worker] += 1
            print(f"{self.name:<9} worker {worker:<8} {answer.code} in {taken * 1000:4.0f} ms  "
                  f"{method} {path.partition('?')[0]}")
        if answer.code != wanted:
            raise Wrong(f"{self.name} answered {answer.code} instead of {wanted} to "
                        f"{method} {path}: {answer.text.strip()[:200]}")
        return answer


class Ec2(Service):
    def act(self, action, wanted=200, secret=EC2_SECRET, **parameters):
        """The elements of the answer, a list by name (without the namespace)."""
        query = {"Action": action, "Version": "2010-08-31", "AWSAccessKeyId": EC2_KEY,
                 "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", **parameters}
        path = "/services/Cloud/"
        host = f"{self.host}:{self.port}"  # as http.client writes it
        text = canonical(query)
        query["Signature"] = signed(secret, f"GET\n{host}\n{path}\n{text}")
        answer = self.ask("GET", f"{path}?{canonical(query)}", wanted=wanted, headers={})
        return elements(answer.text)


def canonical(query):
    """The parameters in the order and the encoding that EC2's signatures count on."""
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def signed(secret, text):
    digest = hmac.digest(secret.encode(), text.encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def elements(xml):
    """{"instanceId": ["i-00000001", ...], ...}: the texts of all elements.  Wrong."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Wrong(f"{xml[:80]!r} is not XML: {error}.") from None
    found = defaultdict(list)
    for element in root.iter():
        found[element.tag.rpartition("}")[2]].append(element.text or "")
    return found


def same(what, found, wanted):
    """Wrong, unless they are."""
    if found != wanted:
        raise Wrong(f"{what} should be {wanted!r}, not {found!r}.")


class Tour:
    """What the client does, step by step."""

    def __init__(self, compute, volume, metadata, ec2):
        self.compute, self.volume, self.metadata = compute, volume, metadata
        self.ec2 = ec2

    def go(self):
        self.see_versions()
        self.be_refused()
        self.empty()
        servers = self.boot_together()
        servers += self.fill_quota(len(servers))
        first = servers[0]
        volume = self.attach(first)
        self.describe(first)
        self.see_with_ec2(servers, volume)
        self.be_somebody_else(first)
        self.empty()

    def see_versions(self):
        for service in (self.compute, self.volume):
            versions = service.ask("GET", "/", headers={}).json["versions"]
            same("the version", [version["id"] for version in versions], ["v2"])
        same("the version", self.metadata.ask("GET", "/").text, "latest\n")

    def be_refused(self):
        for headers in ({}, {"X-Auth-Token": "forged"}):
            self.compute.ask("GET", "/v2/servers", wanted=401, headers=headers)
            self.volume.ask("GET", "/v2/volumes", wanted=401, headers=headers)
        self.metadata.ask("GET", "/latest/meta-data", wanted=401)
        refused = self.ec2.act("DescribeInstances", wanted=401, secret="forged")
        same("EC2's error", refused["Code"], ["AuthFailure"])

    def empty(self):
        for server in self.compute.ask("GET", "/v2/servers").json["servers"]:
            self.compute.ask("DELETE", f"/v2/servers/{server['id']}", wanted=204)
        for volume in self.volume.ask("GET", "/v2/volumes").json["volumes"]:
            self.volume.ask("DELETE", f"/v2/volumes/{volume['id']}", wanted=204)

    def boot(self, name, wanted=202):
        body = {"name": name, "metadata": {"role": "web"}}
        return self.compute.ask("POST", "/v2/servers", wanted=wanted, server=body).json

    def boot_together(self):
        """Every worker has one in hand at a time: `AT_ONCE` of them take as many turns as it
        takes `workers` to get through."""
        names = [f"web-{n}" for n in range(AT_ONCE)]
        started = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            servers = [answer["server"] for answer in pool.map(self.boot, names)]
        taken = time.perf_counter() - started
        print(f"{AT_ONCE} instances booted in {taken * 1000:.0f} ms")
        same("the status", {server["status"] for server in servers}, {"ACTIVE"})
        same("the names", [server["name"] for server in servers], names)
        same("the addresses", len({server["accessIPv4"] for server in servers}), AT_ONCE)
        return servers

    def fill_quota(self, used):
        limits = self.compute.ask("GET", "/v2/limits").json["limits"]["absolute"]
        same("the instances in use", limits["totalInstancesUsed"], used)
        more = [self.boot(f"more-{n}")["server"]
                for n in range(used, limits["maxTotalInstances"])]
        same("the fault", list(self.boot("too-many", wanted=403)), ["forbidden"])
        return more

    def attach(self, server):
        """The volume that is attached to it."""
        body = {"name": "disk", "size": 10}
        volume = self.volume.ask("POST", "/v2/volumes", wanted=202, volume=body).json["volume"]
        same("the volume's status", volume["status"], "available")
        path = f"/v2/servers/{server['id']}/os-volume_attachments"
        body = {"volumeId": volume["id"], "device": "/dev/vdb"}
        self.compute.ask("POST", path, volumeAttachment=body)
        self.compute.ask("POST", path, wanted=409, volumeAttachment=body)
        self.volume.ask("DELETE", f"/v2/volumes/{volume['id']}", wanted=409)
        volume = self.volume.ask("GET", f"/v2/volumes/{volume['id']}").json["volume"]
        same("the volume's status", volume["status"], "in-use")
        attached = self.compute.ask("GET", path).json["volumeAttachments"]
        same("the attachments", [(a["volumeId"], a["device"]) for a in attached],
             [(volume["id"], "/dev/vdb")])
        return volume

    def describe(self, server):
        path = f"/v2/servers/{server['id']}/metadata"
        self.compute.ask("POST", path, metadata={"site": "north"})
        known = self.compute.ask("GET", path).json["metadata"]
        same("the metadata", known, {"role": "web", "site": "north"})
        signature = hmac.digest(PROXY_SECRET.encode(), server["id"].encode(), hashlib.sha256).hex()
        itself = {"X-Instance-ID": server["id"], "X-Instance-ID-Signature": signature}
        hostname = self.metadata.ask("GET", "/latest/meta-data/hostname", headers=itself).text
        same("the host name", hostname, server["name"])
        address = self.metadata.ask("GET", "/latest/meta-data/local-ipv4", headers=itself).text
        same("the address", address, server["accessIPv4"])
        document = self.metadata.ask("GET", "/openstack/latest/meta_data.json", headers=itself)
        same("the metadata", document.json["meta"], known)

    def see_with_ec2(self, servers, volume):
        found = self.ec2.act("DescribeInstances")
        same("EC2's addresses", sorted(found["privateIpAddress"]),
             sorted(server["accessIPv4"] for server in servers))
        same("EC2's states", set(found["name"]), {"running"})
        by_address = dict(zip(found["privateIpAddress"], found["instanceId"], strict=True))
        disks = self.ec2.act("DescribeVolumes")
        same("EC2's volumes", (disks["size"], disks["instanceId"]),
             ([str(volume["size"])], [by_address[servers[0]["accessIPv4"]]]))
        refused = self.ec2.act("RunInstances", wanted=403)
        same("EC2's error", refused["Code"], ["ResourceLimitExceeded"])
        last = by_address[servers[-1]["accessIPv4"]]
        gone = self.ec2.act("TerminateInstances", **{"InstanceId.1": last})
        same("what was terminated", gone["instanceId"], [last])
        self.compute.ask("GET", f"/v2/servers/{servers[-1]['id']}", wanted=404)
        self.ec2.act("RunInstances", ClientToken="from-ec2")

    def be_somebody_else(self, server):
        path = f"/v2/servers/{server['id']}"
        self.compute.ask("GET", path, wanted=404, headers=OTHER_TOKEN)
        servers = self.compute.ask("GET", "/v2/servers", headers=OTHER_TOKEN).json["servers"]
        same("another project's servers", servers, [])


def main(arguments=None):
    p = argparse.ArgumentParser(description="Go through the four services and check every answer.")
    for name, port in PORTS.items():
        p.add_argument(f"--{name}", metavar="URL", default=f"http://127.0.0.1:{port}",
                       help=f"where {name} is (http://127.0.0.1:{port})")
    options = vars(p.parse_args(arguments))
    services = {name: (Ec2 if name == "ec2" else Service)(name, options[name]) for name in PORTS}
    try:
        Tour(**services).go()
    except Wrong as wrong:
        print(f"wrong: {wrong}", file=sys.stderr)
        return 1
    for service in services.values():
        shares = ", ".join(f"{pid} {count}" for pid, count in sorted(service.workers.items()))
        print(f"{service.name:<9} requests by worker: {shares}")
    print("all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the three API applications answer: a list of servers, some 1 KiB of JSON, made anew for
each request from what was asked."""

import json

COUNT = 4
PATH = "/v2.1/servers/detail"


def detail(limit, status, language, request_id, agent):
    """The document: the first `limit` servers in the state `status`, and for whom it is."""
    servers = [{
        "id": f"1f9b7c1e-52d4-4b0a-9c0e-{n:012}",
        "name": f"instance-{n:05}",
        "status": status,
        "flavor": {"vcpus": 2 << n, "ram": 2048 << n, "disk": 20},
        "addresses": {"private": [{"version": 4, "addr": f"10.0.{n}.17"}]},
        "metadata": {"role": "web", "rack": f"r{n}"},
    } for n in range(min(limit, COUNT))]
    return json.dumps({"servers": servers, "language": language, "request_id": request_id,
                       "agent": agent})

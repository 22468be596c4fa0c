"""ec2: some of Amazon's query API, over the same instances and volumes."""

import re
from xml.sax.saxutils import escape

from nova_like import wsgi
from nova_like.cloud import Cloud
from nova_like.faults import BadRequest
from nova_like.filters import CONTEXT, REQUEST_ID

NAMESPACE = "http://ec2.amazonaws.com/doc/2010-08-31/"


class Ec2(wsgi.Application):
    def __init__(self, conf):
        self.cloud = Cloud(conf)
        self.actions = {
            "RunInstances": self.run,
            "DescribeInstances": self.describe_instances,
            "TerminateInstances": self.terminate,
            "DescribeVolumes": self.describe_volumes,
        }
        self.routes = wsgi.Routes(("GET", "", self.act))

    def respond(self, request):
        return self.routes.respond(request)

    def act(self, request):
        parameters = request.parameters()
        action = parameters.get("Action", "")
        if action not in self.actions:
            raise BadRequest(f"Action must be one of {', '.join(self.actions)}.")
        answer = self.actions[action](request.environ[CONTEXT], parameters)
        return wsgi.xml_reply(
            f'<{action}Response xmlns="{NAMESPACE}">'
            f"<requestId>{request.environ[REQUEST_ID]}</requestId>{answer}</{action}Response>")

    def run(self, project, parameters):
        row = self.cloud.boot(project, parameters.get("ClientToken", "ec2"))
        return f"<reservationId>r-{row['id']:08x}</reservationId>" + instances_set([row])

    def describe_instances(self, project, parameters):
        reservations = "".join(
            f"<item><reservationId>r-{row['id']:08x}</reservationId>{instances_set([row])}</item>"
            for row in self.cloud.instances(project))
        return f"<reservationSet>{reservations}</reservationSet>"

    def terminate(self, project, parameters):
        number = number_of("i", parameters.get("InstanceId.1", ""))
        row = self.cloud.terminate(project, number)
        return (f"<instancesSet><item><instanceId>i-{row['id']:08x}</instanceId></item>"
                "</instancesSet>")

    def describe_volumes(self, project, parameters):
        volumes = "".join(volume_item(row) for row in self.cloud.volumes(project))
        return f"<volumeSet>{volumes}</volumeSet>"


def number_of(kind, identity):
    """42 from "i-0000002a".  BadRequest."""
    match = re.fullmatch(rf"{kind}-([0-9a-f]{{8}})", identity)
    if not match:
        raise BadRequest(f"{identity!r} must be {kind}- and eight hexadecimal digits.")
    return int(match[1], 16)


def instances_set(rows):
    states = {"BUILD": (0, "pending"), "ACTIVE": (16, "running"), "ERROR": (48, "terminated")}
    items = ""
    for row in rows:
        code, name = states[row["status"]]
        items += (
            f"<item><instanceId>i-{row['id']:08x}</instanceId>"
            f"<instanceState><code>{code}</code><name>{name}</name></instanceState>"
            f"<privateDnsName>{escape(row['name'])}</privateDnsName>"
            f"<privateIpAddress>{row['address'] or ''}</privateIpAddress>"
            f"<launchTime>{row['created']}</launchTime></item>")
    return f"<instancesSet>{items}</instancesSet>"


def volume_item(row):
    attached = ""
    if row["instance"]:
        attached = (f"<item><instanceId>i-{row['instance']:08x}</instanceId>"
                    f"<device>{escape(row['device'])}</device></item>")
    status = "in-use" if attached else "available"
    return (f"<item><volumeId>vol-{row['id']:08x}</volumeId><size>{row['size']}</size>"
            f"<status>{status}</status><attachmentSet>{attached}</attachmentSet></item>")

"""What a service refuses; each fault knows its HTTP status, and how OpenStack and EC2 call it."""


class Fault(Exception):
    """Its text is one sentence for the client."""

    code = 500
    name = "computeFault"
    ec2_name = "InternalError"
    headers = ()


class BadRequest(Fault):
    code = 400
    name = "badRequest"
    ec2_name = "InvalidParameterValue"


class Unauthorized(Fault):
    code = 401
    name = "unauthorized"
    ec2_name = "AuthFailure"
    headers = (("WWW-Authenticate", 'Keystone uri="http://127.0.0.1:5000"'),)


class OverQuota(Fault):
    code = 403
    name = "forbidden"
    ec2_name = "ResourceLimitExceeded"


class NotFound(Fault):
    code = 404
    name = "itemNotFound"
    ec2_name = "InvalidID.NotFound"


class MethodNotAllowed(Fault):
    code = 405
    name = "badMethod"
    ec2_name = "InvalidAction"

    def __init__(self, allowed):
        super().__init__(f"This path takes {', '.join(sorted(allowed))}.")
        self.headers = (("Allow", ", ".join(sorted(allowed))),)


class Conflict(Fault):
    code = 409
    name = "conflictingRequest"
    ec2_name = "IncorrectState"

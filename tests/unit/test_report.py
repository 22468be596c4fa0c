import os

from fastfork.report import Report, pipe


def test_ready_arrives():
    receiver, sender = pipe()
    assert receiver.receive() == (None, False)
    sender.send(Report(True))
    assert receiver.receive() == (Report(True), True)
    receiver.close()


def test_a_long_failure_arrives_whole():
    receiver, sender = pipe()
    os.set_blocking(sender.fd, False)
    failure = Report(False, "ü \udce4", "line\n" * 5000)
    sender.send(failure)
    assert receiver.receive() == (failure, True)
    receiver.close()


def test_half_a_report_is_none():
    receiver, sender = pipe()
    os.write(sender.fd, b'{"ready": tr')
    assert receiver.receive() == (None, False)
    os.write(sender.fd, b'ue}\n')
    assert receiver.receive() == (Report(True), False)
    sender.close()
    assert receiver.receive() == (None, True)
    receiver.close()


def test_a_worker_that_says_nothing():
    receiver, sender = pipe()
    sender.close()
    assert receiver.receive() == (None, True)
    receiver.close()


def test_a_master_that_is_gone():
    receiver, sender = pipe()
    receiver.close()
    sender.send(Report(True))

import os
import socket

import pytest

from fastfork.channel import MOST_BYTES, MOST_MESSAGES, ChannelError, Report, pair


@pytest.fixture
def ends():
    ours, theirs = pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_one_by_one_in_both_directions(ends):
    ours, theirs = ends
    assert ours.pending() == ([], False)
    assert theirs.send({"hello": 1}) and theirs.send({"hello": 2})
    assert ours.pending() == ([{"hello": 1}, {"hello": 2}], False)
    assert ours.send({"retire": True})
    assert theirs.receive() == ({"retire": True}, [])


def test_the_end_comes_after_what_was_sent_before(ends):
    ours, theirs = ends
    theirs.send({"hello": 1})
    theirs.close()
    assert ours.pending() == ([{"hello": 1}], True)
    assert not ours.send({"retire": True})


def test_a_process_that_is_gone_with_unread_orders(ends):
    ours, theirs = ends
    ours.send({"retire": True})
    theirs.close()  # the kernel tells of it by a reset
    assert ours.pending() == ([], True)


def test_descriptors_come_along_and_are_not_inherited(ends):
    ours, theirs = ends
    reading, writing = os.pipe()
    ours.send({"number": 1}, (reading, writing))
    os.close(reading)
    os.close(writing)
    message, (reading, writing) = theirs.receive()
    assert message == {"number": 1}
    os.write(writing, b"x")
    assert os.read(reading, 1) == b"x"
    assert not os.get_inheritable(reading) and not os.get_inheritable(writing)
    os.close(reading)
    os.close(writing)


def test_the_masters_end_never_blocks(ends):
    ours, _ = ends
    sent = 0
    while ours.send({"text": "x" * 10_000}):
        sent += 1
    assert sent > 1


def test_a_report_goes_there_and_back(ends):
    ours, theirs = ends
    report = Report(False, "ü \udce4", "line\n" * 50, ("the thread 'x'",))
    theirs.send(report.message())
    (message,), _ = ours.pending()
    assert Report.read(message) == report


def test_the_longest_report_is_cut_and_arrives(ends):
    ours, theirs = ends
    theirs.set_blocking(False)
    report = Report(False, "\udce4" * 100_000, "begin" + "\U0001f600" * 1_000_000 + "end",
                    ("\x00" * 1000,) * 1000)  # fmt: skip
    assert theirs.send(report.message())
    (message,), ended = ours.pending()
    read = Report.read(message)
    assert not ended and len(read.trace) < MOST_BYTES
    assert read.trace.startswith("begin") and read.trace.endswith("end")
    assert "[...]" in read.sentence


def test_last_words_are_heard_of_one_that_left_orders_unread(ends):
    ours, theirs = ends
    theirs.send({"hello": 1})
    ours.send({"reopen": True})
    theirs.close()
    assert ours.pending() == ([{"hello": 1}], True)


@pytest.mark.parametrize("data", [b"{", b"[]", b"3", b"\xff\xfe", b"[" * 60000])
def test_what_nobody_of_us_has_written_comes_after_what_we_have(ends, data):
    ours, theirs = ends
    theirs.send({"hello": 1})
    theirs._socket.send(data)
    theirs.send({"hello": 2})
    assert ours.pending() == ([{"hello": 1}], False)
    with pytest.raises(ChannelError):
        ours.pending()


def test_descriptors_that_nobody_wants_are_closed(ends):
    ours, theirs = ends
    before = os.listdir("/proc/self/fd")
    theirs.send({"hello": 1}, (0, 1))
    assert ours.pending() == ([{"hello": 1}], False)
    socket.send_fds(theirs._socket, [b"{"], [0, 1])
    with pytest.raises(ChannelError):
        ours.pending()
    assert os.listdir("/proc/self/fd") == before


def test_a_flood_is_taken_in_portions(ends):
    ours, theirs = ends
    for _ in range(MOST_MESSAGES + 1):
        theirs.send({})
    assert ours.pending() == ([{}] * MOST_MESSAGES, False)
    assert ours.pending() == ([{}], False)


@pytest.mark.parametrize("message", [
    {}, {"ready": False}, {"ready": False, "sentence": 3, "trace": "", "remains": []},
    {"ready": 1, "sentence": "", "trace": "", "remains": []},
    {"ready": True, "sentence": "", "trace": "", "remains": {}},
    {"ready": True, "sentence": "", "trace": "", "remains": [], "more": 1}])  # fmt: skip
def test_what_is_no_report(message):
    with pytest.raises(ChannelError):
        Report.read(message)

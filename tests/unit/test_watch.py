from fastfork import config, watch
from fastfork.watch import Act

MIB = 1 << 20
NOW = 1000.0


def settings(**given):
    return config.load({"app": "hello:app", **given})


def facts(**given):
    return {
        "heartbeat": NOW, "requests": 0, "request_started": 0.0, "deadline": 0.0, "method": "GET",
        "path": "/x", "request_id": "12-7", **given,
    }  # fmt: skip


def test_a_request_is_told_with_its_age():
    assert watch.request_told(facts(), NOW) == ""
    assert watch.request_told(facts(request_started=NOW - 3.24), NOW) == (
        "GET /x, 3.2 s old, request 12-7")
    assert "0.0 s old" in watch.request_told(facts(request_started=NOW + 1), NOW)


def test_a_handler_is_timed_out_at_its_deadline_and_killed_a_grace_later():
    given = settings(request_timeout="60s", request_grace="5s")

    def judged(at, **more):
        return watch.judge_request(
            given, facts(request_started=900.0, deadline=960.0, **more), at)

    assert judged(959.9) is None
    finding = judged(960.0)
    assert finding.act is Act.TIME_OUT
    assert judged(964.9).act is Act.TIME_OUT
    finding = judged(965.0)
    assert finding.act is Act.KILL
    assert finding.why == ("GET /x, 65.0 s old, request 12-7, is beyond request_timeout (60 s) and "
                           "request_grace (5 s)")  # fmt: skip


def test_no_deadline_no_judgement():
    assert watch.judge_request(settings(), facts(request_started=1.0), NOW) is None


def life(at, ready_since=0.0, stopped=False, given=None, **more):
    return watch.judge_life(given or settings(liveness_timeout="30s"), facts(**more),
                            ready_since, stopped, at)  # fmt: skip


def test_a_worker_that_gives_no_sign_of_life():
    assert life(NOW + 30) is None
    finding = life(NOW + 31)
    assert finding.act is Act.KILL
    assert finding.why == "no sign of life for 31.0 s outside a request"
    # not before it has had the time since it was ready
    assert life(NOW + 31, ready_since=NOW + 1) is None
    assert life(NOW + 31, ready_since=NOW + 0.9) is not None


def test_in_a_request_none_is_expected():
    assert life(NOW + 3600, request_started=NOW) is None


def test_unless_somebody_has_stopped_it():
    assert life(NOW + 30, stopped=True) is None
    assert life(NOW + 31, stopped=True).why.startswith("it has been stopped by a signal, no sign")
    assert life(NOW + 31, stopped=True, request_started=NOW).why.endswith(
        " for 31.0 s in GET /x, 31.0 s old, request 12-7")


def test_liveness_can_be_switched_off():
    assert life(NOW + 1e6, stopped=True, given=settings(liveness_timeout="0")) is None


def test_requests():
    given = settings(max_requests="10")
    assert watch.judge_wear(given, facts(requests=11), 12, age=1e9) is None
    finding = watch.judge_wear(given, facts(requests=12), 12, age=0)
    assert finding == watch.Finding(Act.WEAR, "12 requests (max_requests)")
    assert watch.judge_wear(settings(), facts(requests=12), 0, age=0) is None


def test_age():
    given = settings(max_lifetime="1h")
    assert watch.judge_wear(given, facts(), 0, age=3599) is None
    assert watch.judge_wear(given, facts(), 0, age=3600) == watch.Finding(
        Act.WEAR, "it is 3600 s old (max_lifetime)")


def test_memory():
    given = settings(max_memory="400MiB")
    assert watch.judge_memory(given, None) is None
    assert watch.judge_memory(given, 400 * MIB) is None
    assert watch.judge_memory(given, 401 * MIB) == watch.Finding(
        Act.WEAR, "it uses 401 MiB (max_memory)")
    assert watch.judge_memory(given, 800 * MIB).act is Act.WEAR
    assert watch.judge_memory(given, 900 * MIB) == watch.Finding(
        Act.KILL, "it uses 900 MiB, more than twice max_memory (400 MiB)", may_end=False)
    assert watch.judge_memory(settings(), 1 << 50) is None

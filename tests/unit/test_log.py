import logging
import logging.config
import os
import re

import pytest

from fastfork import log


@pytest.fixture
def stderr(capfd):
    """What arrived on descriptor 2 so far."""
    log.set_up("debug")
    return lambda: capfd.readouterr().err


def test_line_format(stderr):
    log.logger.warning("%d of %s", 2, "three")
    line = stderr()
    pattern = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[WARNING\] 2 of three\n"
    match = re.fullmatch(pattern, line)
    assert match and int(match[1]) == os.getpid()


def test_level(stderr):
    log.set_up("error")
    log.logger.warning("too little")
    log.logger.error("enough")
    out = stderr()
    assert "enough" in out and "too little" not in out


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("plain ü €", "plain ü €"),
        ("a\nb", r"a\x0ab"),
        ("\r\x00\x1b[31m", r"\x0d\x00\x1b[31m"),
        ("\t\x7f\x85", r"\x09\x7f\x85"),
        ("\u2028", r"\u2028"),
    ],
)
def test_escape(raw, seen):
    assert log.escape(raw) == seen


def test_client_data_cannot_forge_an_entry(stderr):
    log.logger.info("bad request %s", "GET /\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged")
    lines = stderr().splitlines()
    assert len(lines) == 1
    assert r"\x0a[2026" in lines[0]


def test_an_exception_s_text_cannot_forge_an_entry_either(stderr):
    error = ValueError("x\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged\x1b[0m\r")
    log.from_core(logging.ERROR, "100 % wrong", error)
    first, *rest = stderr().splitlines()
    assert first.endswith("[ERROR] 100 % wrong")
    assert any("forged" in line for line in rest)
    assert all(line.startswith("  ") for line in rest)
    assert "\x1b" not in "".join(rest)


def test_traceback_is_in_the_entry(stderr):
    try:
        raise KeyError("lost")
    except KeyError as error:
        log.from_core(logging.ERROR, "failed", error)
    out = stderr()
    assert "Traceback (most recent call last)" in out and "KeyError: 'lost'" in out


def test_surrogates_are_written(stderr):
    log.logger.info("%s", "path \udce4")
    assert "path \\udce4" in stderr()


def test_the_application_s_logging_is_left_alone(stderr):
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append(record)

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        log.logger.error("ours")
    finally:
        logging.getLogger().removeHandler(handler)
    assert seen == []
    assert "fastfork" not in logging.Logger.manager.loggerDict


def test_the_application_cannot_silence_us(stderr):
    logging.disable(logging.CRITICAL)
    try:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
        log.logger.info("still here")
    finally:
        logging.disable(logging.NOTSET)
    assert "still here" in stderr()


def test_a_standard_error_that_is_gone_is_no_error(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(log, "STDERR", writing)
    log.write("nobody reads this\n")
    os.close(writing)
    log.write("nor this: the descriptor is closed\n")


def test_a_standard_error_that_stays_full_loses_the_entry(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    monkeypatch.setattr(log, "STDERR", writing)
    monkeypatch.setattr(log, "_PATIENCE_MS", 1)
    log.write("x" * (1 << 20))
    assert len(os.read(reading, 1 << 20)) > 0
    os.close(reading)
    os.close(writing)

"""Looks after the processes of a service: who is late, stuck, worn or too large.

What is to be thought of what it sees, `watch` says.  Here it is acted upon: a signal to a handler
that is late, a mark in the roster, or a death sentence, which is carried out when the process has
had a moment to write where it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastfork import memory, watch, worker
from fastfork.handle import TIME_OUT_AGAIN, Handle, MoldHandle, WorkerHandle
from fastfork.log import indented, logger, write
from fastfork.procfs import is_running, is_stopped
from fastfork.roster import State
from fastfork.watch import Act, Finding

if TYPE_CHECKING:
    from fastfork.service import Service

LOOK = 1.0  # seconds between two looks at the workers, at most
LOOK_SHORTEST = 0.05
MEMORY_LOOK = 2.0


class Overseer:
    def __init__(self, service: Service) -> None:
        self.look_at = 0.0  # when to look the next time
        self._service = service
        self._measure_at = 0.0
        self._unmeasured_told = False

    def look(self, now: float) -> None:
        workers = list(self._service.workers.values())
        shortest = min((h.settings.request_timeout or LOOK * 4 for h in workers), default=LOOK * 4)
        self.look_at = now + min(LOOK, max(LOOK_SHORTEST, shortest / 4))
        measure = now >= self._measure_at
        if measure:
            self._measure_at = now + MEMORY_LOOK
        for handle in workers:
            if handle.pid and not handle.condemned:
                self._look_at_worker(handle, measure and handle.settings.max_memory > 0, now)
        for mold_handle in self._service.molds.values():
            self._look_at_mold(mold_handle, now)

    def _look_at_mold(self, handle: MoldHandle, now: float) -> None:
        if not handle.loaded:
            self._look_at_boot(handle, now)
            return
        patience = handle.settings.boot_timeout
        if handle.settings.liveness_timeout:
            patience = min(patience, handle.settings.liveness_timeout)
        for asked_for in self._service.workers.values():
            of_it = asked_for.member.generation == handle.generation and not asked_for.pid
            if of_it and now - max(asked_for.born, handle.forked_at) > patience:
                handle.condemn(f"it has not forked a worker within {patience:g} s", now)

    def _look_at_boot(self, handle: Handle, now: float) -> None:
        limit = handle.settings.boot_timeout
        if now - handle.born > limit:
            handle.condemn(f"it has not booted within {limit:g} s", now)

    def _look_at_worker(self, handle: WorkerHandle, measure: bool, now: float) -> None:
        member, settings = handle.member, handle.settings
        if member.state is State.STARTING:
            self._look_at_boot(handle, now)
            return
        facts = handle.facts()
        if handle.told_to_go and facts["state"] != "draining":
            handle.send(handle.told_to_go)  # a signal may be lost where it meets another
        stopped = _silent(facts, now) and is_stopped(handle.pid)
        if not facts["whole"] and not stopped:
            return  # it is writing: the next look
        finding = self._judge_request(handle, facts, now)
        if finding is None and member.state is State.READY:
            finding = watch.judge_life(settings, facts, member.since, stopped, now)
        if finding is None and measure:
            used = memory.measure(handle.pid, settings.memory_measure)
            finding = watch.judge_memory(settings, used)
            if used is None and not self._unmeasured_told and is_running(handle.pid):
                self._unmeasured_told = True
                logger.warning(
                    "The memory of worker %d of %s cannot be measured, so max_memory does "
                    "nothing%s.", handle.pid, self._service.name,
                    "; --memory-measure rss may help" * (settings.memory_measure == "pss"),
                )  # fmt: skip
        if finding is None:
            finding = watch.judge_wear(settings, facts, handle.most_requests, now - member.since)
        if finding is not None:
            self._act(handle, finding, now)
        for due in (facts["deadline"], facts["deadline"] + settings.request_grace):
            if facts["deadline"] and due > now:
                self.look_at = min(self.look_at, due + 0.001)

    def _judge_request(
        self, handle: WorkerHandle, facts: dict[str, Any], now: float
    ) -> Finding | None:
        finding = watch.judge_request(handle.settings, facts, now)
        late = (facts["request_number"], facts["deadline"])
        if finding is not None and handle.timed_out != late:
            # However late we are: it is killed only if it does not react to the first signal.
            handle.timed_out, handle.timed_out_at = late, 0.0
            return Finding(Act.TIME_OUT, finding.why)
        return finding

    def _act(self, handle: WorkerHandle, finding: Finding, now: float) -> None:
        if finding.act is Act.KILL:
            handle.condemn(finding.why, now)
            handle.may_end = finding.may_end
        elif finding.act is Act.TIME_OUT:
            if now - handle.timed_out_at >= TIME_OUT_AGAIN:
                handle.timed_out_at = now
                handle.send(worker.TIME_OUT)
        elif handle.member.state is State.READY and handle.member.worn is None:
            logger.info("Worker %d of %s is replaced: %s.", handle.pid, self._service.name,
                        finding.why)  # fmt: skip
            self._service.roster.wear(handle.member, finding.why)

    def kill_condemned(self, now: float) -> None:
        """Those that have had their moment to say where they stand."""
        for handle in list(self._service.handles()):
            if handle.kill_at is None or now < handle.kill_at:
                continue
            if isinstance(handle, WorkerHandle) and self._pardoned(handle, now):
                continue
            what = "The mold" if isinstance(handle, MoldHandle) else "Worker"
            logger.error("%s %d of %s is killed: %s.", what, handle.pid, self._service.name,
                         handle.condemned)  # fmt: skip
            write(indented(handle.told_stacks() or "(it could not say where it stands)"))
            handle.kill()
            if isinstance(handle, WorkerHandle) and handle.member.state is not State.STARTING:
                self._service.roster.stopping(handle.member, now, now)  # else it is a failed boot
                self._service.roster.killed(handle.member)

    def _pardoned(self, handle: WorkerHandle, now: float) -> bool:
        """Has what it was to be killed for ended in the last moment?"""
        if not handle.may_end:
            return False
        facts, settings = handle.facts(), handle.settings
        if not facts["whole"]:
            return False
        stopped = _silent(facts, now) and is_stopped(handle.pid)
        findings = (watch.judge_request(settings, facts, now),
                    watch.judge_life(settings, facts, handle.member.since, stopped, now))
        if any(finding is not None and finding.act is Act.KILL for finding in findings):
            return False
        logger.info("Worker %d of %s is not killed: what it was in has ended.", handle.pid,
                    self._service.name)  # fmt: skip
        handle.pardon()
        return True


def _silent(facts: dict[str, Any], now: float) -> bool:
    return bool(now - facts["heartbeat"] > LOOK)

"""Where the processes of a service come from: the mold that imports its application, and workers,
forked from the mold or, where there is none, from the master itself.

A process that could not be made is told to the service, which knows what that means.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from fastfork import mold, worker
from fastfork.channel import Channel, Report
from fastfork.family import SignalMask
from fastfork.handle import Handle, MoldHandle, WorkerHandle, with_channel
from fastfork.recipe import Generation
from fastfork.roster import Member

if TYPE_CHECKING:
    from fastfork.service import Service

MOST_ORDERS = 32  # that a mold has not carried out yet

Plan = worker.Plan | mold.Plan


class Nursery:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._family = service.family

    # -- the mold ------------------------------------------------------------------------
    def start_mold(self, generation: Generation, now: float) -> Plan | None:
        """Returns a plan in the new process, None in the master."""
        service, recipe = self._service, generation.recipe
        try:
            handle, theirs = with_channel(
                lambda ours: MoldHandle(ours, generation.number, recipe.settings, now))
        except OSError as error:
            service.mold_failed(generation.number, self._no_mold(error), now)
            return None
        service.molds[generation.number] = handle
        try:
            born = self._fork(handle, generation)
        except OSError as error:
            del service.molds[generation.number]
            handle.close()
            theirs.close()
            service.mold_failed(generation.number, self._no_mold(error), now)
            return None
        if born is not None:
            return mold.Plan(
                name=recipe.name, tag=recipe.tag, settings=recipe.settings,
                reference=recipe.reference, access_log=recipe.access_log,
                identity=recipe.identity, listeners=tuple(generation.listeners),
                generation=generation.number, master=self._family.master,
                lifeline=self._family.lifeline, channel=theirs,
                scoreboard=self._family.scoreboard, stacks=born[1], signal_mask=born[0],
                siblings=service.siblings(), pair=service.pair,
            )  # fmt: skip
        theirs.close()
        return None

    def _no_mold(self, error: OSError) -> Report:
        return Report(False, f"Cannot start a mold for {self._service.name}: {error.strerror}.")

    def _fork(self, handle: Handle, generation: Generation) -> tuple[SignalMask, int] | None:
        """In the new process: the signal mask to go back to and a descriptor for its stacks.
        None in the master, where the handle then knows the pid.  OSError."""
        stacks = os.dup(handle.stacks)
        try:
            pid, mask = self._family.fork()
        except OSError:
            os.close(stacks)
            raise
        if pid:
            handle.pid = pid
            os.close(stacks)
            return None
        for listener in self._family.listeners():
            if listener not in generation.listeners:
                listener.close()
        for other in self._family.services:
            if other is not self._service:
                other.close_ties()
        return mask, stacks

    # -- workers -------------------------------------------------------------------------
    def start_missing(self, now: float) -> Plan | None:
        """Start who is missing.  Returns a plan in a new process, None in the master."""
        service, roster = self._service, self._service.roster
        asked_for = sum(not handle.pid for handle in service.workers.values())
        for number, edition in roster.to_start(now):
            if service.failed:
                return None
            generation = service.generations[edition]
            if generation.direct:
                plan = self._start_worker(number, generation, now)
                if plan is not None:
                    return plan
            elif asked_for < MOST_ORDERS and self._can_order(edition):
                self._order_worker(number, generation, now)
                asked_for += 1
            if edition == roster.generation and now < roster.retry_at:
                return None  # that one has failed
        return None

    def _can_order(self, generation: int) -> bool:
        handle = self._service.molds.get(generation)
        return handle is not None and handle.loaded

    def _new_worker(
        self, number: int, generation: Generation, now: float
    ) -> tuple[WorkerHandle, Channel] | None:
        """A place in the tables, and the worker's end of its channel.  None if there can be none,
        which has been told."""
        service, settings = self._service, generation.recipe.settings
        member = service.roster.starting(number, generation.number, now)
        try:
            handle, theirs = with_channel(
                lambda ours: WorkerHandle(ours, member, settings, self._family.scoreboard, now))
        except OSError as error:
            self._not_started(member, str(error.strerror), now)
            return None
        service.workers[member] = handle
        if settings.max_requests:
            jitter = random.randint(0, settings.max_requests_jitter)
            handle.most_requests = settings.max_requests + jitter
        return handle, theirs

    def _order_worker(self, number: int, generation: Generation, now: float) -> None:
        """From the mold.  That there is one we hear from itself; that there will be none, from
        the end of its channel."""
        new = self._new_worker(number, generation, now)
        if new is not None:
            handle, theirs = new
            order = {"number": number, "slot": handle.slot, "multiprocess": self._multiprocess()}
            mold_handle = self._service.molds[generation.number]
            mold_handle.ordered = True
            mold_handle.channel.send(order, (theirs.fd, handle.stacks))
            theirs.close()

    def _start_worker(self, number: int, generation: Generation, now: float) -> Plan | None:
        """From ourselves: it will import the application."""
        new = self._new_worker(number, generation, now)
        if new is None:
            return None
        handle, theirs = new
        try:
            born = self._fork(handle, generation)
        except OSError as error:
            theirs.close()
            del self._service.workers[handle.member]
            handle.close()
            self._not_started(handle.member, str(error.strerror), now)
            return None
        if born is not None:
            recipe = generation.recipe
            return worker.Plan(
                name=recipe.name, tag=recipe.tag, settings=recipe.settings,
                reference=recipe.reference, access_log=recipe.access_log,
                identity=recipe.identity, listeners=tuple(generation.listeners), number=number,
                generation=generation.number, multiprocess=self._multiprocess(),
                lifeline=self._family.lifeline, channel=theirs, slot=handle.view(),
                stacks=born[1], signal_mask=born[0],
                siblings=self._service.siblings().seen_by(number), pair=self._service.pair,
            )  # fmt: skip
        theirs.close()
        self._service.roster.started(handle.member, handle.pid)
        return None

    def _multiprocess(self) -> bool:
        return self._service.roster.size > 1

    def never_was(self, handle: WorkerHandle, now: float) -> None:
        """A worker that was asked of a mold has not come.  If the mold has ended, that is told and
        acted upon by itself."""
        service = self._service
        del service.workers[handle.member]
        handle.close()
        mold_handle = service.molds.get(handle.member.generation)
        if mold_handle is None or mold_handle.ended or mold_handle.condemned:
            service.roster.forget(handle.member)
        else:
            self._not_started(handle.member, "its mold has not forked it", now)

    def _not_started(self, member: Member, why: str, now: float) -> None:
        service = self._service
        candidate = member.generation == service.roster.candidate
        delay = service.roster.not_started(member, now)
        report = Report(False, f"Cannot start a worker for {service.name}: {why}.")
        service.boot_failed(report, delay, candidate)

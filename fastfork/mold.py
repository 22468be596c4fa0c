"""The mold: imports the application once, and forks workers from that.

A worker made so is ready in milliseconds and shares the memory of the import with its siblings.
The mold does nothing else: it waits for orders of the master, and has no threads, so that its
forks are clean.  It is gone with the master (PR_SET_PDEATHSIG: it is always the master's own
child) and leaves no trace: what the application registered with atexit runs in workers only.

    master ── order: fork ──> mold ── fork ──> intermediate ── fork ──> worker
                                               (ends at once)

So the worker's parent is the master, which adopts orphans: the master reaps all workers, whoever
forked them, and a worker keeps its parent when the mold goes at a reload.
"""

from __future__ import annotations

import gc
import os
import signal
import time
import traceback
from dataclasses import dataclass

from fastfork import _core, app, hooks, log, remains, scoreboard, stacks, worker
from fastfork.channel import Channel, Message, Report, from_descriptor
from fastfork.config import Settings
from fastfork.handlers import Strangers
from fastfork.identity import Identity
from fastfork.sockets import Listener

EXIT_OK, EXIT_FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a mold takes along from its master."""

    settings: Settings
    reference: app.Reference
    access_log: str | None
    identity: Identity | None
    listeners: tuple[Listener, ...]
    generation: int
    master: int  # pid
    lifeline: int
    channel: Channel
    scoreboard: scoreboard.Scoreboard
    stacks: int
    signal_mask: set[int | signal.Signals]


def run(plan: Plan) -> worker.Plan:
    """Be a mold.  Returns only in the workers that it forks."""
    _core.name_process("fastfork mold")
    worker.reset_signals()
    strangers = Strangers([*plan.listeners, plan.channel])
    stacks.register(plan.stacks)
    signal.pthread_sigmask(signal.SIG_SETMASK, plan.signal_mask)
    application = _import(plan)
    if application is None:
        os._exit(EXIT_FAILED)
    while True:
        order, descriptors = plan.channel.receive()
        if order is None:
            os._exit(EXIT_OK)  # without atexit: what is registered there belongs to workers
        channel, stacks_fd = from_descriptor(descriptors[0]), descriptors[1]
        mask = _fork_worker(plan, order, strangers)
        if mask is not None:
            return _become_worker(
                plan, order, channel, stacks_fd, mask, application, strangers)
        channel.close()
        os.close(stacks_fd)


def _import(plan: Plan) -> app.Application | None:
    """The application, or None if it does not serve as a mold.  The master has been told."""
    snapshot = remains.before()
    # Set before, because loading changes the user, which would clear it; and after, because it
    # has.
    _core.die_with_parent(plan.master)
    try:
        application = worker.load(plan.settings, plan.reference, plan.identity)
        _core.die_with_parent(plan.master)
        stacks.register(plan.stacks)
        found = tuple(snapshot.found()) if plan.settings.preload == "auto" else ()
    except app.BootError as failure:
        plan.channel.send(Report(False, failure.sentence, failure.trace).message())
        return None
    except Exception as error:
        sentence = f"Cannot preload {plan.reference}: {error!r}."
        plan.channel.send(Report(False, sentence, traceback.format_exc()).message())
        return None
    if not found:
        # What is frozen is never looked at by the collector again, so its pages stay shared.
        gc.collect()
        gc.freeze()
    plan.channel.send(Report(not found, remains=found).message())
    return None if found else application


def _fork_worker(
    plan: Plan, order: Message, strangers: Strangers
) -> set[int | signal.Signals] | None:
    """The signal mask to go back to in the worker, None in the mold.  Whether there is a worker
    the master hears from itself; if there is none, its channel ends."""
    hooks.run_fork_before(hooks.Worker(
        str(plan.reference), order["number"], plan.generation, 0))  # fmt: skip
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with strangers.own_fork():
            intermediate = os.fork()
    except OSError as error:
        intermediate = -1
        log.logger.error("Cannot fork a worker for %s: %s.", plan.reference, error.strerror)
    if intermediate == 0:
        me = os.getpid()
        try:
            with strangers.own_fork():
                if os.fork():
                    os._exit(EXIT_OK)
        except OSError as error:
            log.logger.error("Cannot fork a worker for %s: %s.", plan.reference, error.strerror)
            os._exit(EXIT_FAILED)
        while os.getppid() == me:  # it is ending: then we are the master's
            time.sleep(0.0001)
        return mask
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if intermediate > 0:
        os.waitpid(intermediate, 0)
    return None


def _become_worker(
    plan: Plan,
    order: Message,
    channel: Channel,
    stacks_fd: int,
    mask: set[int | signal.Signals],
    application: app.Application,
    strangers: Strangers,
) -> worker.Plan:
    """In the new process: let go of what is the mold's."""
    plan.channel.close()
    os.close(plan.stacks)
    return worker.Plan(
        settings=plan.settings,
        reference=plan.reference,
        access_log=plan.access_log,
        identity=plan.identity,
        listeners=plan.listeners,
        number=order["number"],
        generation=plan.generation,
        multiprocess=order["multiprocess"],
        lifeline=plan.lifeline,
        channel=channel,
        slot=plan.scoreboard.view(order["slot"]),
        stacks=stacks_fd,
        signal_mask=mask,
        application=application,
        strangers=strangers,
    )

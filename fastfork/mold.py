"""The mold: imports the application once, and forks workers from that.

A worker made so is ready in milliseconds and shares the memory of the import with its siblings.
The mold does nothing else: it waits for orders of the master, and has no threads, so that its
forks are clean.  It is gone with the master (PR_SET_PDEATHSIG: it is always the master's own
child) and leaves no trace: what the application registered with atexit runs in workers only.

    master ── order: fork ──> mold ── fork ──> intermediate ── fork ──> worker
                                               (ends at once)

So the worker's parent is the master, which adopts orphans: the master reaps all workers, whoever
forked them, and a worker keeps its parent when the mold goes at a reload.  Several workers that
are wanted at once share an intermediate.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from typing import NamedTuple

from fastfork import _core, app, hooks, log, remains, scoreboard, stacks, worker
from fastfork.bells import Siblings
from fastfork.channel import Channel, Message, Report, from_descriptor
from fastfork.config import Settings
from fastfork.family import SignalMask
from fastfork.garbage import made_to_stay
from fastfork.handlers import Strangers
from fastfork.identity import Identity
from fastfork.pairs import Pair
from fastfork.sockets import Listener

EXIT_OK, EXIT_FAILED = 0, 1
MOST_ORDERS = 8  # for one intermediate; another may be at work beside it
_os_fork, _waitpid = os.fork, os.waitpid  # gevent, perhaps, replaces them


class Plan(NamedTuple):
    """All that a mold takes along from its master."""

    name: str  # of the service
    tag: str  # of its log entries
    settings: Settings
    reference: app.Served
    access_log: str | None
    identity: Identity | None
    listeners: tuple[Listener, ...]
    generation: int
    master: int  # pid
    lifeline: int
    channel: Channel
    scoreboard: scoreboard.Scoreboard
    stacks: int
    signal_mask: SignalMask
    siblings: Siblings
    pair: Pair | None


class _Order(NamedTuple):
    """To fork a worker; its channel and the file for its stacks came along."""

    message: Message
    channel: Channel
    stacks: int

    def close(self) -> None:
        self.channel.close()
        os.close(self.stacks)


def run(plan: Plan) -> worker.Plan:
    """Be a mold.  Returns only in the workers that it forks."""
    _core.name_process("fastfork mold")
    log.set_tag(plan.tag)
    worker.reset_signals()
    strangers = Strangers(worker.belongings(plan))
    stacks.register(plan.stacks)
    signal.pthread_sigmask(signal.SIG_SETMASK, plan.signal_mask)
    application = _import(plan)
    if application is None:
        os._exit(EXIT_FAILED)
    try:
        return _serve(plan, application, strangers)
    except BaseException as error:
        log.logger.critical("The mold failed.", exc_info=error)
        os._exit(EXIT_FAILED)


def _serve(plan: Plan, application: app.Application, strangers: Strangers) -> worker.Plan:
    """Carry out orders for ever.  Returns in the workers."""
    intermediates: list[int] = []
    while True:
        orders = _receive(plan.channel, wait=False)
        if not orders:
            _bury(intermediates)
            orders = _receive(plan.channel, wait=True)
        for order in orders:
            hooks.run_fork_before(_who(plan, order))
        forked = _fork(plan, orders, strangers)
        if not isinstance(forked, int):
            order, mask = forked
            return _become_worker(plan, order, orders, mask, application, strangers)
        if forked > 0:
            intermediates.append(forked)
        for order in orders:
            order.close()


def _bury(intermediates: list[int]) -> None:
    """There is nothing else to do: wait for those that have not ended yet."""
    while intermediates:
        with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD
            _waitpid(intermediates.pop(), 0)


def _receive(channel: Channel, wait: bool) -> list[_Order]:
    """Orders that are there; at least one if we `wait`.  One intermediate serves them all."""
    orders: list[_Order] = []
    while len(orders) < MOST_ORDERS:
        channel.set_blocking(wait and not orders)
        try:
            message, descriptors = channel.receive()
        except BlockingIOError:
            break
        if message is None:
            os._exit(EXIT_OK)  # without atexit: what is registered there belongs to workers
        orders.append(_Order(message, from_descriptor(descriptors[0]), descriptors[1]))
    return orders


def _who(plan: Plan, order: _Order) -> hooks.Worker:
    return hooks.Worker(plan.name, order.message["number"], plan.generation, 0)


def _import(plan: Plan) -> app.Application | None:
    """The application, or None if it does not serve as a mold.  The master has been told."""
    snapshot = remains.before()
    try:
        worker.assume(plan.settings, plan.identity)
        _core.die_with_parent(plan.master)  # after a change of the user, which would clear it
        with made_to_stay():
            application = worker.load(plan.settings, plan.reference)
            worker.take_over_signals()
            stacks.register(plan.stacks)
            found: list[str] = []
            if plan.settings.preload == "auto":
                found = worker.left_behind(plan.settings, snapshot)
    except app.BootError as failure:
        plan.channel.send(Report(False, failure.sentence, failure.trace).message())
        return None
    except Exception as error:
        sentence = f"Cannot preload {plan.reference}: {error!r}."
        plan.channel.send(Report(False, sentence, traceback.format_exc()).message())
        return None
    plan.channel.send(Report(not found, remains=tuple(found)).message())
    return None if found else application


def _fork(
    plan: Plan, orders: list[_Order], strangers: Strangers
) -> tuple[_Order, SignalMask] | int:
    """In each worker its order and the signal mask to go back to; in the mold the pid of the
    intermediate, or -1.  Whether there is a worker the master hears from itself; if there is none,
    its channel ends."""
    mask: SignalMask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with strangers.own_fork():
        intermediate = _try_fork(plan)
        if intermediate == 0:
            return _be_intermediate(plan, orders), mask
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return intermediate


def _be_intermediate(plan: Plan, orders: list[_Order]) -> _Order:
    """Fork the workers and end.  Returns in the workers, when their parent is the master."""
    me = os.getpid()
    for order in orders:
        if _try_fork(plan) == 0:
            _core.outlive(me)
            return order
    os._exit(EXIT_OK)


def _try_fork(plan: Plan) -> int:
    """-1 if it cannot be done, which the log says."""
    try:
        return _os_fork()
    except OSError as error:
        log.logger.error("Cannot fork a worker for %s: %s.", plan.reference, error.strerror)
        return -1


def _become_worker(
    plan: Plan,
    order: _Order,
    orders: list[_Order],
    mask: SignalMask,
    application: app.Application,
    strangers: Strangers,
) -> worker.Plan:
    """In the new process: let go of what is the mold's or a sibling's."""
    plan.channel.close()
    os.close(plan.stacks)
    for other in orders:
        if other is not order:
            other.close()
    return worker.Plan(
        name=plan.name,
        tag=plan.tag,
        settings=plan.settings,
        reference=plan.reference,
        access_log=plan.access_log,
        identity=plan.identity,
        listeners=plan.listeners,
        number=order.message["number"],
        generation=plan.generation,
        multiprocess=order.message["multiprocess"],
        lifeline=plan.lifeline,
        channel=order.channel,
        slot=plan.scoreboard.view(order.message["slot"]),
        stacks=order.stacks,
        signal_mask=mask,
        siblings=plan.siblings.seen_by(order.message["number"]),
        pair=plan.pair,
        application=application,
        strangers=strangers,
    )

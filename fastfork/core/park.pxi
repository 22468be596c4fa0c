# The loop is a baton.  Exactly one greenlet of a worker runs it at a time, and it calls the
# handler inline: a request that never waits costs no greenlet switch.
#
#   1. A handler that must wait parks: it hands the loop to a spare greenlet, or to a new
#      carrier if there is none, and is switched away from.  A new greenlet begins as deep in the
#      stack as the one that starts it stands, and Python's recursion limit counts that depth: so
#      carriers are started by a greenlet of their own, the starter, that stands where run() does.
#      Started by the handler that parks, each would begin where the last one waits, and some
#      twenty of them would use the stack up.
#   2. When what it waits for has come, it is put on `runnable`.  Whoever runs the loop then
#      makes itself a spare and switches back to the handler.
#   3. The handler goes on where it stood and, when it is done, returns into the very loop that
#      called it: it now has the baton.
#
# What the loop is working on (the event batch above all) is therefore kept in the worker, not
# on anybody's stack.

cdef int park(Worker w, Exchange ex) except -1:
    """Wait until `unpark`.  Called on the handler's greenlet.  Raises RequestTimeout."""
    cdef object carrier
    cdef PyObject* current = w.current      # NULL: an answer of our own, from within the loop
    if not w.running:                   # in memory: back to whoever feeds (memory.pxi)
        carrier = w.main
    elif w.spares:
        carrier = w.spares.pop()
    else:
        carrier = w.starter
    ex.waiter = greenlet_current()
    ex.woken = ex.overdue = False
    w.parked += 1
    w.switches_total += 1
    if ex.deadline and (w.next_deadline == 0 or ex.deadline < w.next_deadline):
        w.next_deadline = ex.deadline
    clock_look(w)
    w.current = NULL
    slot_pause(w)
    try:
        greenlet_switch(carrier)
    finally:
        w.parked -= 1
        ex.waiter = None
        w.current = current
        if current is not NULL:
            slot_resume(w, <Exchange>current)
    if ex.overdue:
        raise ex.timeout
    return 0


cdef inline int unpark(Worker w, Exchange ex) except -1:
    """The wait of this exchange's handler is over; the loop will switch to it."""
    if ex.waiter is not None and not ex.woken:
        ex.woken = True
        w.runnable.append(ex.waiter)
    return 0


cdef int baton_pass(Worker w) except -1:
    """Called in the loop: switch to a handler that can go on; returns when it is our turn again."""
    cdef object handler = w.runnable.popleft()
    w.spares.append(greenlet_current())
    w.switches_total += 1
    greenlet_switch(handler)
    return 0

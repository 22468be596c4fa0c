# The scoreboard: what others see of a worker without asking it.  The master makes one piece of
# shared memory for all; a worker writes its own slot with plain stores, whatever it is doing, and
# anybody may read it at any time.
#
#   1. The sequence number is odd while more than one field is being written: a reader that finds it
#      odd, or another one afterwards, reads again.  A worker can be stopped or die in the middle of
#      writing, so the reader takes what there is after some attempts, and says so.
#   2. `request_started` is 0 unless a handler runs.  A handler that waits (park.pxi) does not run.
#   3. Whoever sees that no handler runs must not see an old heartbeat with it: both are written in
#      one go.
#   4. When the master buries a worker it empties its slot, so that its siblings do not go on
#      counting with what it had.
#   5. A reader believes nothing: lengths and characters are checked, because a worker that was
#      killed for its memory's sake may have written anything.

cdef size_t SLOT_BYTES = (sizeof(slot_t) + 63) // 64 * 64
SLOT_SIZE = SLOT_BYTES

cdef enum:
    SLOT_READS = 40             # attempts at a slot that is being written ...
    SLOT_READS_AT_ONCE = 20     # ... the rest of them with pauses: the writer has lost its core
    SLOT_PAUSE = 50000          # ns

STATES = ("booting", "idle", "busy", "draining")


cdef int slot_attach(Worker w, object memory) except -1:
    """Use this memory, or the worker's own if it is None."""
    w.slot = &w.own_slot
    if memory is not None:
        PyObject_GetBuffer(memory, &w.slot_view, PyBUF_WRITABLE)
        if w.slot_view.len < SLOT_SIZE or <size_t>w.slot_view.buf % sizeof(int64_t):
            PyBuffer_Release(&w.slot_view)
            raise ValueError(f"a slot is {SLOT_SIZE} bytes, aligned to {sizeof(int64_t)}")
        w.slot = <slot_t*>w.slot_view.buf
    memset(w.slot, 0, sizeof(slot_t))
    w.slot.pid = os.getpid()
    w.slot.heartbeat = w.now_us
    return 0


cdef inline void slot_put(char* field, uint8_t* length, str text, Py_ssize_t most) noexcept:
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(text)      # latin-1, as all that the parser gives
    if n > most:
        n = most
    length[0] = <uint8_t>n
    memmove(field, PyUnicode_1BYTE_DATA(text), n)   # gcc writes memcpy out here, which is longer


cdef inline void slot_begin(Worker w, Exchange ex) noexcept:
    """The handler of this request runs from now."""
    cdef slot_t* s = w.slot
    s.sequence += 1
    memory_fence()
    s.request_started = ex.begun
    s.request_deadline = ex.deadline
    s.request_number = ex.number
    if ex.method is not w.slot_method:      # most are like the one before
        w.slot_method = ex.method
        slot_put(s.method, &s.method_length, ex.method, SLOT_METHOD)
    slot_put(s.path, &s.path_length, ex.target, SLOT_PATH)
    s.id_length = 0
    if ex.request_id is not None:
        slot_put(s.id, &s.id_length, <str>ex.request_id, SLOT_ID)
    memory_fence()
    s.sequence += 1


cdef inline void slot_pause(Worker w) noexcept:
    """The handler waits; the loop goes on."""
    cdef slot_t* s = w.slot
    s.sequence += 1
    memory_fence()
    s.heartbeat = w.now_us
    s.request_started = s.request_deadline = 0
    s.waiting = w.parked
    memory_fence()
    s.sequence += 1


cdef inline void slot_resume(Worker w, Exchange ex) noexcept:
    """It goes on."""
    w.slot.waiting = w.parked
    slot_begin(w, ex)


cdef inline void slot_end(Worker w, Exchange ex) noexcept:
    """The handler is done."""
    w.slot.sequence += 1
    memory_fence()
    w.slot.request_started = w.slot.request_deadline = 0
    slot_count(w, ex)
    memory_fence()
    w.slot.sequence += 1


cdef inline void slot_count(Worker w, Exchange ex) noexcept:
    cdef slot_t* s = w.slot
    cdef uint64_t took = <uint64_t>(w.now_us - ex.begun)
    # Of fewer than 2**i microseconds: i is the number of binary digits.
    cdef int digits = 63 - leading_zeros(2 * took + 1)
    s.heartbeat = w.now_us
    s.sent += ex.sent
    s.statuses[5 if ex.answered else <unsigned int>ex.status // 100] += 1
    s.latency[digits if digits < SLOT_LATENCIES else SLOT_LATENCIES - 1] += 1


cdef void slot_begin_beside(Worker w, Exchange ex) noexcept:
    """Of the handlers beside the loop the oldest is shown, the others are counted."""
    if w.shown is NULL:
        w.shown = <PyObject*>ex
        slot_begin(w, ex)
    w.slot.waiting = w.handlers - 1


cdef void slot_end_beside(Worker w, Exchange ex) noexcept:
    """It is done, and not one of w.handlers any more."""
    cdef conn_t* c
    w.slot.sequence += 1
    memory_fence()
    slot_count(w, ex)
    if w.shown == <PyObject*>ex:
        w.shown = NULL
        w.slot.request_started = w.slot.request_deadline = 0
    memory_fence()
    w.slot.sequence += 1
    if w.shown is NULL:
        # In the order in which they began, but for those that have waited for their clients.
        c = w.queues[QUEUE_NONE].first
        while c is not NULL and not (
                c.state == CONN_HANDLER and (<Exchange>c.exchange).beside):
            c = c.next
        if c is not NULL:
            w.shown = c.exchange
            slot_begin(w, <Exchange>c.exchange)
    w.slot.waiting = w.handlers - (w.shown is not NULL)


cdef inline void slot_idle(Worker w) noexcept:
    """The loop waits for events.  Its heartbeat is what it was when the clock was read last."""
    if w.slot.state == SLOT_BUSY:
        w.slot.state = SLOT_IDLE


cdef inline void slot_busy(Worker w) noexcept:
    """The loop is alive."""
    w.slot.heartbeat = w.now_us
    if w.slot.state != SLOT_DRAINING:
        w.slot.state = SLOT_BUSY


cdef str slot_text(const char* p, size_t n, size_t most):
    return printable(PyUnicode_DecodeLatin1(p, <Py_ssize_t>min(n, most), NULL))


def slot_vacate(slot):
    """What the worker had counts for nobody any more.  Its pid stays: siblings_look would take a
    row of zeros for the end of the slots."""
    cdef Py_buffer view
    cdef int64_t pid
    PyObject_GetBuffer(slot, &view, PyBUF_WRITABLE)
    try:
        if view.len < <Py_ssize_t>sizeof(slot_t):
            raise ValueError(f"a slot is {SLOT_SIZE} bytes, not {view.len}")
        pid = (<slot_t*>view.buf).pid
        memset(view.buf, 0, sizeof(slot_t))
        (<slot_t*>view.buf).pid = pid
    finally:
        PyBuffer_Release(&view)


def slot_read(slot):
    """What a worker has written there."""
    cdef Py_buffer view
    cdef slot_t s
    cdef uint32_t before
    cdef timespec pause
    cdef int attempt
    cdef bint whole = False
    pause.tv_sec = 0
    pause.tv_nsec = SLOT_PAUSE
    PyObject_GetBuffer(slot, &view, PyBUF_SIMPLE)
    try:
        if view.len < <Py_ssize_t>sizeof(slot_t):
            raise ValueError(f"a slot is {SLOT_SIZE} bytes, not {view.len}")
        for attempt in range(SLOT_READS):
            memcpy(&before, view.buf, sizeof(before))       # the sequence number comes first
            memory_fence()
            memcpy(&s, view.buf, sizeof(s))
            memory_fence()
            memcpy(&s.sequence, view.buf, sizeof(before))
            whole = s.sequence == before and before % 2 == 0
            if whole:
                break
            if attempt >= SLOT_READS_AT_ONCE:
                nanosleep(&pause, NULL)
    finally:
        PyBuffer_Release(&view)
    latency = [s.latency[i] for i in range(SLOT_LATENCIES)]
    return {
        "pid": s.pid,
        "state": STATES[min(s.state, <uint32_t>SLOT_DRAINING)],
        "heartbeat": s.heartbeat / 1e6,
        "accepted": s.accepted,
        "requests": sum(latency),
        "connections": s.connections,
        "in_flight": s.waiting + (s.request_started != 0),
        "queued": s.queued,
        "refused": s.refused,
        "handed_out": s.handed_out,
        "handed_in": s.handed_in,
        "request_started": s.request_started / 1e6,
        "deadline": s.request_deadline / 1e3,
        "request_number": s.request_number,
        "method": slot_text(s.method, s.method_length, SLOT_METHOD),
        "path": slot_text(s.path, s.path_length, SLOT_PATH),
        "request_id": (slot_text(s.id, s.id_length, SLOT_ID) if s.id_length
                       else f"{s.pid}-{s.request_number}" if s.request_number else ""),
        "statuses": [s.statuses[i] for i in range(1, SLOT_STATUSES)],
        "sent": s.sent,
        "latency": latency,
        "whole": whole,
    }

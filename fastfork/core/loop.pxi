# The loop: waits for events, gives each to its room, looks at the deadlines.  It may be run by
# several greenlets in turn (park.pxi), so nothing that matters between two events lives on its
# stack.

cdef enum:
    NEW_GRACE = 500             # ms that a draining worker gives new connections for their request


cdef int loop_run(Worker w) except -1:
    """Run until w.done.  Whoever has the baton is in here."""
    while True:
        if w.parked and w.runnable:
            baton_pass(w)
        elif w.batch_next < w.batch_count and not overdue(w):
            w.batch_next += 1
            loop_dispatch(w, <epoll_event*>w.events + w.batch_next - 1)
        elif (w.ready_turn and w.ready_first is not NULL and w.handlers < w.max_handlers
                and not overdue(w)):
            w.ready_turn = False
            ready_next(w)
        elif w.done:
            return 0
        else:
            w.batch_next = w.batch_count
            conns_bury(w)
            if w.watches_dead:
                watches_bury(w)
            expire(w)
            if not w.accepting:
                accept_start(w)
            if (w.draining or w.stopping) and wind_down(w):
                continue
            if w.parked and w.runnable:
                continue
            loop_wait(w)


cdef int loop_dispatch(Worker w, epoll_event* event) except -1:
    cdef watch_t* watch = <watch_t*>event.data.ptr
    cdef fd_watch_t* fd_watch
    if watch.kind == WATCH_CONN:
        try:
            return conn_event(w, <conn_t*>watch, event.events)
        except Exception as e:
            return conn_failed(w, <conn_t*>watch, e)
    if watch.kind == WATCH_LISTENER:
        try:
            return accept_ready(w, <listener_t*>watch)
        except Exception as e:
            w.log(logging.ERROR, "internal error; accepting pauses", e)
            return accept_pause(w)
    fd_watch = <fd_watch_t*>watch
    if not fd_watch.dead:
        try:
            (<object>fd_watch.callback)()
        except Exception as e:
            w.log(logging.ERROR, "a watched descriptor's callback failed", e)
    return 0


cdef int loop_wait(Worker w) except -1:
    """One epoll_wait, as long as the next deadline allows."""
    cdef int64_t wait = 1 << 30
    cdef int kind, n, error = 0
    for kind in range(1, QUEUES):
        if w.queues[kind].first is not NULL:
            wait = min(wait, w.queues[kind].first.deadline - w.now)
    if w.accept_again:
        wait = min(wait, w.accept_again - w.now)
    if w.log_length:
        wait = min(wait, w.log_flush_at - w.now)
    if w.drain_until:
        wait = min(wait, w.drain_until - w.now)
    if w.new_until:
        wait = min(wait, w.new_until - w.now)
    # One millisecond more than asked for: the coarse clock may lag behind epoll's.
    wait = 0 if wait < 0 else (-1 if wait == 1 << 30 else wait + 1)
    w.ready_turn = True                 # after the events, one of those that wait for a handler
    if w.ready_first is not NULL and w.handlers < w.max_handlers:
        wait = 0
    with nogil:
        n = epoll_wait(w.epoll, <epoll_event*>w.events, EVENTS, <int>wait)
        if n < 0:
            error = errno
    w.now = clock_ms()
    if n < 0:
        if error != EINTR:
            raise OSError(error, "epoll_wait: " + os.strerror(error))
        n = 0
        signals_run(w)
    if n < EVENTS:
        w.heard = w.now
        w.full = 0
    else:
        # There may be more.  epoll goes round: when as many events have come as there are
        # connections, all that were ready at the first of these batches have been among them.
        if w.full == 0:
            w.full_since = w.now
        w.full += n
        if w.full > w.connections + EVENTS:
            w.heard = w.full_since
            w.full = 0
    w.batch_next = 0
    w.batch_count = n
    return 0


cdef int signals_run(Worker w) except -1:
    """Python's signal handlers run here if no application code is running."""
    try:
        PyErr_CheckSignals()
    except Exception as e:
        w.log(logging.ERROR, "a signal handler raised an exception", e)
    return 0


cdef int expire(Worker w) except -1:
    """Everything whose time has come since the last batch."""
    cdef int kind
    cdef conn_t* c
    for kind in range(1, QUEUES):
        while True:
            c = w.queues[kind].first
            # Judged by when the sockets were last looked at: what came in while a handler kept
            # the loop busy is read first.
            if c is NULL or c.deadline > w.heard:
                break
            try:
                conn_timeout(w, c)
            except Exception as e:
                conn_failed(w, c, e)
    if w.accept_again and w.now >= w.accept_again:
        w.accept_again = 0
    if w.log_length and w.now >= w.log_flush_at:
        log_flush(w)
    return 0


cdef int watches_bury(Worker w) except -1:
    """Descriptors that are watched no more: no event can point at their records now."""
    cdef fd_watch_t** link = &w.watches
    cdef fd_watch_t* dead
    while link[0] is not NULL:
        if link[0].dead:
            dead = link[0]
            link[0] = dead.next
            Py_DECREF(<object>dead.callback)
            PyMem_Free(dead)
        else:
            link = &link[0].next
    w.watches_dead = False
    return 0


cdef bint wind_down(Worker w) except -1:
    """drain() or stop() was called.  True when the loop should look again at once."""
    if not w.wound_down:
        w.wound_down = True
        w.new_until = w.now + NEW_GRACE
        accept_rest(w)
        last_calls(w, QUEUE_REST)
        if w.batch_next < w.batch_count or w.ready_first is not NULL:
            return True
    if w.new_until and w.now >= w.new_until:
        w.new_until = 0
        last_calls(w, QUEUE_NEW)
    if overdue(w):
        loop_cut(w)
        if w.handlers == 0:
            w.done = True
        return True
    if w.connections == 0 and w.handlers == 0:
        w.done = True
        return True
    return False


cdef int last_calls(Worker w, int kind) except -1:
    """Close the connections of a queue that have not begun a request."""
    cdef conn_t* c
    while w.queues[kind].first is not NULL and not overdue(w):
        c = w.queues[kind].first
        try:
            conn_last_call(w, c)
        except Exception as e:
            conn_failed(w, c, e)
    return 0


cdef int loop_cut(Worker w) except -1:
    """Close every connection; a handler that is parked is told that its client is gone."""
    cdef int kind
    cdef conn_t* c
    cdef conn_t* following
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            following = c.next
            if c.state == CONN_HANDLER:
                conn_lost(w, c)
            else:
                conn_abandon(w, c)
            c = following
    return 0


def _carry(Worker w):
    """What a carrier greenlet runs: the loop, until the worker is done."""
    try:
        loop_run(w)
    finally:
        COUNT_CARRIER(-1)


# -- an application that forks -------------------------------------------------------------
#
# A child that a handler forks has copies of all our descriptors, so a close() of ours neither takes
# a descriptor out of the epoll set nor tells the client, and should the child return from the
# handler it would go on as a second worker.  So it closes its copies at once, and ends where the
# application is done with it; and we, who cannot know when it gets to that, take descriptors out of
# the epoll set before closing them from then on.

_running = None     # weak reference to the worker that runs in this process


def _forked_here():
    cdef Worker w = _running() if _running is not None else None
    if w is not None:
        w.forked = True


def _forked_away():
    cdef Worker w = _running() if _running is not None else None
    cdef int kind
    cdef conn_t* c
    if w is None:
        return
    w.stranger = True
    close(w.epoll)
    w.epoll = -1
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            if c.watch.fd >= 0:
                close(c.watch.fd)
            c = c.next


os.register_at_fork(after_in_parent=_forked_here, after_in_child=_forked_away)


cdef class Worker:

    def __cinit__(self):
        self.epoll = -1
        self.log_fd = -1
        self.events = PyMem_Malloc(EVENTS * sizeof(epoll_event))
        self.buffer = <char*>PyMem_Malloc(BUFFER_SIZE)
        if self.events is NULL or self.buffer is NULL:
            raise MemoryError()

    def __init__(self, app, listeners, settings, *, log, int access_log_fd=-1,
                 bint multiprocess=False):
        cdef int i
        cdef stat_t st
        if not callable(app):
            raise TypeError(f"the application is not callable: {app!r}")
        self.app = app
        self.log = log
        self.max_request_line = settings.max_request_line
        self.max_head = settings.max_head
        self.max_body = settings.max_body
        self.body_memory = settings.body_memory
        self.output_memory = settings.output_memory
        self.output_spool = settings.output_spool
        self.max_connections = settings.max_connections
        self.max_handlers = 1
        self.queues[QUEUE_NEW].span = milliseconds(settings.head_timeout)
        self.queues[QUEUE_HEAD].span = milliseconds(settings.head_timeout)
        self.queues[QUEUE_REST].span = milliseconds(settings.keep_alive)
        self.queues[QUEUE_BODY].span = milliseconds(settings.body_timeout)
        self.queues[QUEUE_WRITE].span = milliseconds(settings.write_timeout)
        self.queues[QUEUE_LINGER].span = milliseconds(settings.linger_timeout)
        self.head = Head(settings.max_fields)
        self.spares = []
        self.runnable = collections.deque()
        self.base_context = contextvars.copy_context()
        self.context = PyContext_Copy(self.base_context)
        self.server_field = b"Server: fastfork\r\n"
        self.stamp_until = 0
        self.base_empty = len(self.base_context) == 0
        self.log_fd = access_log_fd
        if access_log_fd >= 0 and fstat(access_log_fd, &st) == 0:
            self.log_is_pipe = S_ISFIFO(st.st_mode)
        self.log_combined = settings.access_log_format == "combined"
        self.now = clock_ms()
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        self.listeners_ = list(listeners)
        self.listener_count = len(self.listeners_)
        self.listeners = <listener_t*>PyMem_Malloc(
            max(1, self.listener_count) * sizeof(listener_t))
        if self.listeners is NULL:
            raise MemoryError()
        memset(self.listeners, 0, max(1, self.listener_count) * sizeof(listener_t))
        for i in range(self.listener_count):
            listener_init(&self.listeners[i], self.listeners_[i], multiprocess)
        self.memory_template = environ_template("127.0.0.1", "80", multiprocess)

    def __dealloc__(self):
        cdef int i
        cdef fd_watch_t* watch
        cdef conn_t* c
        # Cycles that only the collector would find: parser and protocol, exchange and its bound
        # methods.
        if self.head is not None:
            self.head.parser = self.head.feed = None
        while self.pool_count:
            self.pool_count -= 1
            exchange_free(<Exchange>self.pool[self.pool_count])
        for i in range(LINES):
            Py_XDECREF(self.lines[i].name)
            Py_XDECREF(self.lines[i].value)
        while self.watches is not NULL:
            watch = self.watches
            self.watches = watch.next
            Py_XDECREF(watch.callback)
            PyMem_Free(watch)
        while self.graveyard is not NULL:
            c = self.graveyard
            self.graveyard = c.next_ready
            PyMem_Free(c)
        while self.spare_conns is not NULL:
            c = self.spare_conns
            self.spare_conns = c.next_ready
            PyMem_Free(c)
        for i in range(self.listener_count):
            if self.listeners is not NULL:
                Py_XDECREF(self.listeners[i].template)
        PyMem_Free(self.listeners)
        PyMem_Free(self.events)
        PyMem_Free(self.buffer)
        buffer_free(self.log_data)
        if self.epoll >= 0:
            close(self.epoll)

    def run(self):
        """Serve until `drain` has finished or `stop` was called."""
        global _running
        cdef object signals = None
        if self.running:
            raise RuntimeError("this worker is running already")
        self.done = False
        self.main = greenlet_current()
        self.carry = lambda: _carry(self)
        self.now = clock_ms()
        _running = weakref.ref(self)
        signals = _SignalWake(self)
        self.running = True
        self.thread = PyThread_get_thread_ident()
        signals_run(self)       # one that came before its wake-up descriptor was there
        try:
            accept_start(self)
            loop_run(self)
            self._retire_carriers()
        finally:
            self.batch_next = self.batch_count = 0
            self.spares.clear()
            self.runnable.clear()
            accept_stop(self)
            loop_cut(self)
            conns_bury(self)
            log_flush(self)
            signals.close()
            _running = None
            self.carry = self.main = None
            self.running = False

    cdef _retire_carriers(self):
        """The loop is over.  A carrier that had the baton ends in main; the others end here."""
        cdef object here = greenlet_current()
        cdef object spare
        while self.spares:
            spare = self.spares.pop()
            if spare is not here:
                greenlet_switch(spare)

    def drain(self, double timeout):
        """Stop accepting, close resting connections, answer what is in flight with
        `Connection: close`; `run` returns when nothing is left or after `timeout` seconds."""
        if not self.draining:
            self.drain_until = max(<int64_t>1, clock_ms() + <int64_t>(max(timeout, 0.0) * 1000))
            self.draining = True

    def stop(self):
        """`run` returns before the next request is served; connections are closed."""
        self.stopping = True

    def watch(self, int fd, callback):
        """Call `callback()` from the loop whenever `fd` is readable or at end of file."""
        cdef epoll_event event
        cdef fd_watch_t* watch = <fd_watch_t*>PyMem_Malloc(sizeof(fd_watch_t))
        if watch is NULL:
            raise MemoryError()
        watch.watch.kind = WATCH_FD
        watch.watch.fd = fd
        watch.dead = False
        event.events = EPOLLIN
        event.data.ptr = watch
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            PyMem_Free(watch)
            raise OSError(errno, os.strerror(errno))
        Py_INCREF(callback)
        watch.callback = <PyObject*>callback
        watch.next = self.watches
        self.watches = watch

    def unwatch(self, int fd):
        cdef epoll_event event
        cdef fd_watch_t* watch = self.watches
        while watch is not NULL:
            if watch.watch.fd == fd and not watch.dead:
                epoll_ctl(self.epoll, EPOLL_CTL_DEL, fd, &event)
                watch.dead = True       # freed at the end of the batch
                self.watches_dead = True
            watch = watch.next

    def flush_access_log(self):
        """Write buffered access-log lines now."""
        log_flush(self)

    def connect(self, str address="127.0.0.1", int port=40000):
        """A connection without a socket: bytes in, bytes out."""
        return MemoryConnection(self, address, port)

    def stats(self):
        """Running totals and present counts of this worker."""
        return {
            "accepted": self.accepted_total,
            "requests": self.requests_total,
            "switches": self.switches_total,
            "carriers": self.carriers_total,
            "connections": self.connections,
            "in_flight": self.handlers,
        }


cdef class _SignalWake:
    """Ends epoll_wait when a signal has come.

    A signal that arrives just before epoll_wait does not interrupt it; the byte that CPython
    writes to the wake-up descriptor does.
    """
    cdef Worker worker
    cdef int reader, writer
    cdef int before

    def __init__(self, Worker worker):
        import signal
        self.worker = worker
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.before = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        except ValueError:      # not the main thread: no signal handler runs here
            self.before = -2
        worker.watch(self.reader, self.awake)

    def awake(self):
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        signals_run(self.worker)

    def close(self):
        import signal
        if self.before != -2:
            signal.set_wakeup_fd(self.before)
        self.worker.unwatch(self.reader)
        watches_bury(self.worker)
        os.close(self.reader)
        os.close(self.writer)

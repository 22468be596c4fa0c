# The worker as Python sees it: made from settings, run, drained, stopped.  What it does when it
# runs is in the parts that follow.

cdef enum:
    STREAM_HANDLERS = 100       # greenlets = auto, where handlers wait for their bodies ...
    HUB_HANDLERS = 1000         # ... and where they wait for all that gevent knows
    SIGN_OF_LIFE = 100          # ms: the loop need not give one more often


cdef class Worker:

    def __cinit__(self):
        self.epoll = -1
        self.log_fd = -1
        self.events = PyMem_Malloc(EVENTS * sizeof(epoll_event))
        self.buffer = <char*>PyMem_Malloc(BUFFER_SIZE)
        if self.events is NULL or self.buffer is NULL:
            raise MemoryError()

    def __init__(self, app, listeners, settings, *, log, int access_log_fd=-1,
                 bint multiprocess=False, slot=None, siblings=None, pair=None):
        cdef int i
        cdef stat_t st
        # Under gevent two handlers are in the middle of something as they are in two threads.
        cdef bint multithread = settings.threads > 1 or settings.green != "off"
        if not callable(app):
            raise TypeError(f"the application is not callable: {app!r}")
        self.app = app
        self.log_ = log
        self.max_request_line = settings.max_request_line
        self.max_head = settings.max_head
        self.max_body = settings.max_body
        self.body_memory = settings.body_memory
        self.max_body_memory = settings.max_body_memory
        self.output_memory = settings.output_memory
        self.output_spool = settings.output_spool
        self.max_spool = settings.max_spool
        self.max_connections = settings.max_connections
        self.multiprocess = multiprocess
        self.accept_burst = 1 if multiprocess else ACCEPT_BURST
        self.handoff_after = <int64_t>(settings.handoff_after * 1e6)
        self.max_chunk_extensions = settings.max_chunk_extensions
        self.body_min_rate = settings.body_min_rate
        self.read_ahead = settings.read_ahead
        self.keep_alive_requests = settings.keep_alive_requests
        self.streaming = settings.request_buffering == "stream"
        self.max_threads = settings.threads
        if settings.threads > 1:
            self.max_handlers = settings.threads
        elif settings.greenlets != "auto":
            self.max_handlers = settings.greenlets
        elif settings.green == "gevent":
            self.max_handlers = HUB_HANDLERS
        else:
            self.max_handlers = STREAM_HANDLERS if self.streaming else 1
        if settings.max_in_flight != "auto":
            self.max_handlers = min(self.max_handlers, <int>settings.max_in_flight)
        self.max_queue = settings.max_queue
        self.queue_timeout = timeout_ms(settings.queue_timeout)
        self.dates = settings.date_header == "on"
        if settings.server_header != "none":
            self.server_field = f"Server: {settings.server_header}\r\n".encode("latin-1")
        else:
            self.server_field = b""
        self.queues[QUEUE_NEW].span = milliseconds(settings.head_timeout)
        self.queues[QUEUE_HEAD].span = milliseconds(settings.head_timeout)
        self.queues[QUEUE_REST].span = milliseconds(settings.keep_alive)
        self.queues[QUEUE_BODY].span = milliseconds(settings.body_timeout)
        self.queues[QUEUE_WRITE].span = milliseconds(settings.write_timeout / WRITE_LOOKS)
        self.send_delay = <int64_t>(settings.send_delay * 1e6)
        self.queues[QUEUE_LINGER].span = milliseconds(settings.linger_timeout)
        self.queues[QUEUE_READY].span = self.queue_timeout
        self.head = Head(settings.max_fields, settings.header_map)
        self.head.believed = forwarded_keys(settings.forwarded_fields)
        if settings.forwarded_allow_ips:
            self.trust = Trust(settings.forwarded_allow_ips)
        self.proxy_protocol = PREAMBLES[settings.proxy_protocol]
        self.spares = []
        self.runnable = collections.deque()
        self.sleepers = []
        self.waits_over = []
        self.finished = collections.deque()
        self.asked = collections.deque()
        self.jobs = SimpleQueue()
        self.runners = {}
        self.wake.kind = WATCH_WAKE
        self.wake.fd = -1
        self.base_context = contextvars.copy_context()
        self.context = PyContext_Copy(self.base_context)
        self.stamp_until = 0
        self.base_empty = len(self.base_context) == 0
        self.log_fd = access_log_fd
        if access_log_fd >= 0 and fstat(access_log_fd, &st) == 0:
            self.log_is_pipe = S_ISFIFO(st.st_mode)
        self.log_combined = settings.access_log_format == "combined"
        self.request_timeout = timeout_ms(settings.request_timeout)
        self.longest_wait = NO_END
        if settings.liveness_timeout:
            self.longest_wait = max(SIGN_OF_LIFE, timeout_ms(settings.liveness_timeout) // 4)
        self.me = weakref.ref(self)
        clock_look(self)
        slot_attach(self, slot)
        if siblings is not None and siblings.bells:
            siblings_init(self, siblings)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        handoff_init(self, pair)
        self.listeners_ = list(listeners)
        self.listener_count = len(self.listeners_)
        self.listeners = <listener_t*>PyMem_Malloc(
            max(1, self.listener_count) * sizeof(listener_t))
        if self.listeners is NULL:
            raise MemoryError()
        memset(self.listeners, 0, max(1, self.listener_count) * sizeof(listener_t))
        for i in range(self.listener_count):
            listener_init(&self.listeners[i], self.listeners_[i], multithread,
                          multiprocess)
        self.memory_template = environ_template("127.0.0.1", "80", False, multiprocess)

    def __dealloc__(self):
        cdef int i
        cdef fd_watch_t* watch
        cdef conn_t* c
        cdef listener_t* guest
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
        while self.guests is not NULL:
            guest = self.guests
            self.guests = guest.next
            Py_XDECREF(guest.template)
            PyMem_Free(guest)
        PyMem_Free(self.events)
        PyMem_Free(self.lookout.events)
        PyMem_Free(self.buffer)
        buffer_free(self.log_data)
        PyBuffer_Release(&self.slot_view)
        PyBuffer_Release(&self.board_view)
        PyMem_Free(self.bells)
        PyMem_Free(self.siblings)
        if self.epoll >= 0:
            close(self.epoll)
        if self.wake.fd >= 0:
            close(self.wake.fd)

    def run(self):
        """Serve until `drain` has finished or `stop` was called."""
        self._begin(MODE_THREADS if self.max_threads > 1 else MODE_INLINE)
        try:
            self.starter = greenlet_new(lambda: _start_carriers(self), self.main)
            greenlet_switch(self.starter)       # which comes back at once
            accept_begin(self)
            loop_run(self)
            self._retire_carriers()
            if self.failure is not None:
                raise self.failure
        finally:
            self._end()

    # -- or driven by gevent's hub (hub.py): begin, as many turns as it takes, end
    def begin_under(self, hub, calls):
        """From now on handlers run in greenlets whose parent is `hub`, and `turn` is to be called
        by it."""
        self._begin(MODE_HUB)
        self.hub = hub
        self.hub_ = calls
        accept_begin(self)

    def fileno(self):
        """epoll's descriptor: readable when there is something for `turn` to do."""
        return self.epoll

    def turn(self):
        """Do what there is to do.  Seconds until the next turn at the latest (negative: no end),
        None when the worker is done."""
        cdef int64_t wait
        self.turning = True
        self.turn_wanted = False
        try:
            loop_poll(self, 0)
            wait = loop_turn(self)
            if wait == WAIT_OVER:
                return None
        finally:
            self.turning = False
        slot_idle(self)
        return wait / 1e3

    def end_under(self):
        self._end()

    cdef _begin(self, int mode):
        global _running
        if self.running:
            raise RuntimeError("this worker is running already")
        self.done = False
        self.main = greenlet_current()
        clock_look(self)
        slot_busy(self)
        _running = self.me
        self.signals = _SignalWake(self)
        self.mode = mode
        self.running = True
        self.thread = PyThread_get_thread_ident()
        if mode == MODE_THREADS:
            wake_open(self)
        if self.siblings is not NULL:
            bell_watch(self)
        signals_run(self)       # one that came before its wake-up descriptor was there

    cdef _end(self):
        global _running
        lookout_end(self)
        conns_moved(self)
        self.batch_next = self.batch_count = 0
        self.spares.clear()
        self.runnable.clear()
        accept_stop(self)
        loop_cut(self)
        conns_bury(self)
        waits_bury(self)
        log_flush(self)
        for _ in range(self.threads):
            self.jobs.put(None)
        self.signals.close()
        _running = None
        self.starter = self.main = self.failure = self.hub = self.hub_ = self.signals = None
        self.running = False

    cdef _retire_carriers(self):
        """The loop is over.  A carrier that had the baton ends in main; the others end here."""
        cdef object here = greenlet_current()
        cdef object spare
        while self.spares:
            spare = self.spares.pop()
            if spare is not here:
                greenlet_switch(spare)
        greenlet_switch(self.starter)

    cdef int log(self, int level, str text, object error) except -1:
        """To the error log.  Whatever goes wrong there must not become part of the work here."""
        self.telling += 1
        try:
            self.log_(level, text, error)
        except BaseException as e:  # no memory, too deep a stack: there is nobody left to tell
            timeout_swallowed(self, e)
        finally:
            self.telling -= 1
        return 0

    def drain(self, double timeout):
        """Stop accepting, close connections that go on resting for a moment, answer what is in
        flight with `Connection: close`; `run` returns when nothing is left or after `timeout`
        seconds."""
        cdef int64_t now = clock_ms()
        cdef int64_t until = now + timeout_ms(timeout)
        if not self.draining:
            self.drain_until = until
            self._linger(now + REST_GRACE)
        else:
            self.drain_until = min(self.drain_until, until)
            if self.rest_until:         # no more than this
                self._linger(min(self.rest_until, now + REST_GRACE))
            if self.new_until:
                self.new_until = min(self.new_until, now + NEW_GRACE)
        self.retiring = False
        AT_ONCE_PUT(self.lookout.after, 0)      # siblings may be gone already
        self._drains()

    def retire(self, double timeout, double linger):
        """As `drain`, while siblings go on."""
        cdef int64_t now = clock_ms()
        if not self.draining:
            self.drain_until = now + timeout_ms(timeout)
            self._linger(now + timeout_ms(linger))
            self.retiring = True
            self.handoff.before = <uint32_t>AT_ONCE_GET(self.handoff.out)
            self._drains()

    cdef _linger(self, int64_t until):
        """Keep resting connections so long.  There must be time for the last call."""
        self.rest_until = max(<int64_t>1, min(until, self.drain_until - NEW_GRACE))

    cdef _drains(self):
        self.draining = True
        self.slot.state = SLOT_DRAINING

    def stop(self):
        """`run` returns before the next request is served; connections are closed."""
        self.stopping = True
        self.slot.state = SLOT_DRAINING

    def time_out(self):
        """Raise RequestTimeout if the deadline of the handler that runs is past."""
        cdef Exchange ex
        if self.mode == MODE_THREADS or self.stranger or self.telling:
            return                      # what is logged by the core would swallow it: the next time
        if self.running and PyThread_get_thread_ident() != self.thread:
            return
        ex = exchange_here(self)
        if ex is None or ex.deadline == 0 or clock_ms() < ex.deadline:
            return
        late_flush(self)                # nobody else need wait for this one
        if ex.timed_out:
            if ex.timeout is not None:  # it was caught, and the handler goes on
                timeout_tell(self, ex)
            return
        raise request_beyond(self, ex)

    def in_hand(self):
        """The requests that handlers have."""
        cdef list found = []
        cdef int kind
        cdef conn_t* c
        cdef Exchange ex
        clock = clock_us()
        if self.current is not NULL:
            found.append(in_hand_told(self, <Exchange>self.current, clock))
        for kind in range(QUEUES):
            c = self.queues[kind].first
            while c is not NULL:
                if c.state == CONN_HANDLER:
                    ex = <Exchange>c.exchange
                    if ex.waiter is not None or (ex.beside and not ex.over):
                        found.append(in_hand_told(self, ex, clock))
                c = c.next
        return found

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
            "queued": self.queued,
            "threads": self.threads,
            "held": self.held,
            "spooled": self.spooled,
        }


cdef tuple in_hand_told(Worker w, Exchange ex, int64_t now):
    return (printable(ex.method), printable(ex.target[:SLOT_PATH]), (now - ex.begun) / 1e6,
            request_name(w, ex), ex.runner if ex.runner is not None else ex.waiter)


def _start_carriers(Worker w):
    """What the starter runs: each time it is switched to, a new carrier from where it stands."""
    greenlet_switch(w.main)
    while not w.done:
        w.carriers_total += 1
        greenlet_switch(greenlet_new(lambda: _carry(w), w.main))


def _carry(Worker w):
    """What a carrier greenlet runs: the loop, until the worker is done."""
    COUNT_CARRIER(1)
    try:
        loop_run(w)
    except greenlet.GreenletExit:       # run() failed, and drops us
        raise
    except BaseException as e:
        # It would be raised in main, in the middle of somebody's handler.  run() raises it.
        w.log(logging.CRITICAL, "the loop failed in a carrier; the worker stops", e)
        w.failure = e
        w.stopping = True
    finally:
        COUNT_CARRIER(-1)


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


# -- an application that forks -------------------------------------------------------------
#
# A child that a handler forks has copies of all our descriptors, so a close() of ours neither takes
# a descriptor out of the epoll set nor tells the client, and should the child return from the
# handler it would go on as a second worker.  So it closes its copies at once, and ends where the
# application is done with it; and we, who cannot know when it gets to that, take descriptors out of
# the epoll set before closing them from then on.  Meanwhile the lookout gives none of them away:
# the kernel copies descriptors first and memory later, so one that goes in between would stay open
# in the child, which does not know of it, and its client would not see the end of the connection.

_running = None     # weak reference to the worker that runs in this process


def _forks():
    # Another thread that forks does without: it may be made to wait for the GIL before it is done,
    # and the loop, which has it, for the lock.
    cdef Worker w = _running() if _running is not None else None
    if (w is not None and w.lookout.threaded and AT_ONCE_GET(w.lookout.since)
            and PyThread_get_thread_ident() == w.thread):
        pthread_mutex_lock(&w.lookout.lock)
        w.lookout.forking = True


def _forked_here():
    cdef Worker w = _running() if _running is not None else None
    if w is None:
        return
    w.forked = True
    if w.lookout.forking:
        w.lookout.forking = False
        pthread_mutex_unlock(&w.lookout.lock)


def _forked_away():
    cdef Worker w = _running() if _running is not None else None
    cdef int kind
    cdef conn_t* c
    if w is None:
        return
    w.stranger = True
    w.lookout.forking = False
    w.lookout.threaded = False          # it has no copy, and its lock may be taken for ever
    w.slot = &w.own_slot                # the other one is the worker's
    w.slot_method = None
    close(w.epoll)
    w.epoll = -1
    for kind in range(QUEUES):
        c = w.queues[kind].first
        while c is not NULL:
            if c.watch.fd >= 0:
                close(c.watch.fd)
            c = c.next


os.register_at_fork(before=_forks, after_in_parent=_forked_here, after_in_child=_forked_away)

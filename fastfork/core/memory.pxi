# A connection without a socket: accept's twin for tests, fuzzing and micro-benchmarks.  Bytes go
# in where recv would have brought them, and come out where send would have taken them.

cdef class MemoryConnection:

    def __init__(self, Worker worker, str address, int port):
        cdef conn_t* c
        cdef uint8_t peer[28]
        if not peer_fill(peer, address, port):
            raise ValueError(f"not the address of a peer: {address!r}, {port}")
        self.worker = worker
        self.output = bytearray()
        self.listener.watch.kind = WATCH_LISTENER
        self.listener.watch.fd = -1
        self.listener.template = <PyObject*>worker.memory_template
        c = conn_new(worker, -1, &self.listener)
        c.memory = <PyObject*>self
        memcpy(c.peer, peer, sizeof(peer))
        c.preamble = worker.proxy_protocol and conn_trusted(worker, c)
        self.conn = c

    def __dealloc__(self):
        if self.conn is not NULL:
            self.conn.memory = NULL
            conn_close(self.worker, self.conn)
            if not self.worker.running:
                conns_bury(self.worker)

    cdef bytes _settle(self):
        """What was sent, and whether the connection is over."""
        cdef bytes out = bytes(self.output)
        del self.output[:]
        if self.conn is NULL or self.conn.state >= CONN_LINGER:
            self.closed = True
        if not self.worker.running:
            conns_bury(self.worker)
        return out

    def feed(self, bytes data not None):
        """Give the server these bytes; return what it sent in answer."""
        global _running
        cdef object before = _running
        cdef size_t i, step = self.worker.read_ahead
        cdef bytes piece
        clock_look(self.worker)
        _running = self.worker.me
        try:
            if self.worker.next_deadline and self.worker.now >= self.worker.next_deadline:
                self._take_turns(lambda: handlers_time_out(self.worker))
            for i in range(0, len(data), step):
                piece = data[i:i + step]
                if self.worker.streaming:
                    self._take_turns(lambda piece=piece: self._receive(piece))
                else:
                    self._receive(piece)
        finally:
            _running = before
        return self._settle()

    def _receive(self, bytes piece):
        if self.conn is NULL or self.conn.state >= CONN_LINGER:
            return
        memcpy(self.worker.buffer, PyBytes_AS_STRING(piece), len(piece))    # as recv does
        conn_received(self.worker, self.conn, self.worker.buffer, len(piece))
        while self.worker.ready_first is not NULL and not self.worker.running:
            ready_next(self.worker)             # as the loop does

    def eof(self):
        """The client closes its sending side; return what the server sent after it."""
        clock_look(self.worker)
        self._take_turns(self._eof)
        return self._settle()

    def _eof(self):
        if self.conn is not NULL and (self.conn.state <= CONN_BODY or conn_streams(self.conn)):
            conn_eof(self.worker, self.conn)

    cdef _take_turns(self, work):
        """Without a loop there is nobody to hand on to: a handler that must wait goes back to
        whoever feeds it, and is gone on with here when what it waits for has come."""
        cdef Worker w = self.worker
        w.main = greenlet_current()
        greenlet_switch(greenlet_new(work, w.main))
        while w.runnable:
            greenlet_switch(w.runnable.popleft())
        w.main = None

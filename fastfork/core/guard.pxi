# The life-line.  The master alone holds the write end of a pipe; when the master is gone,
# however it went, every worker's read end reaches end of file.  The loop sees that too and
# drains.  A worker that is stuck (in a handler, in an import, in C code with the GIL held)
# never comes back to its loop, so a small thread that knows nothing of Python sees to it that
# no worker outlives its master and keeps the port.

cdef extern from "<unistd.h>" nogil:
    int getpid()

cdef int guard_fd = -1
cdef timespec guard_grace


cdef void* guard_main(void* unused) noexcept nogil:
    cdef pollfd p
    p.fd = guard_fd
    p.events = POLLIN
    while poll(&p, 1, -1) < 1:      # nothing is ever written to it: readable means end of file
        pass
    nanosleep(&guard_grace, NULL)
    kill(getpid(), SIGKILL)
    return NULL


def guard(int lifeline_fd, double grace):
    """Start the life-line guard: a C thread, asleep until `lifeline_fd` reaches end of file
    (the master is gone); `grace` seconds later it kills this process with SIGKILL, wherever
    it is stuck.  Once per process, after the fork.  Raises OSError if no thread can be had."""
    global guard_fd
    cdef pthread_t thread
    cdef int failed
    guard_fd = lifeline_fd
    guard_grace.tv_sec = <long>grace
    guard_grace.tv_nsec = <long>((grace - <long>grace) * 1e9)
    failed = c_thread_start(&thread, guard_main, NULL, True)
    if failed:
        raise OSError(failed, os.strerror(failed))

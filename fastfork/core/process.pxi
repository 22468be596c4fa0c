# What the kernel is told of a process (prctl), for the master, the mold and the workers.

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_CHILD_SUBREAPER
    int PR_SET_NAME
    int PR_SET_PDEATHSIG

cdef extern from "<unistd.h>" nogil:
    int getppid()


def adopt_orphans():
    """Descendants of this process whose parent ends become its children, not those of process 1.
    Raises OSError."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1) < 0:
        raise OSError(errno, os.strerror(errno))


def die_with_parent(int parent):
    """The kernel kills this process with SIGKILL when the thread that forked it ends.  `parent` is
    the pid that it had: if that has ended by now, this process is killed at once.  Raises
    OSError."""
    if prctl(PR_SET_PDEATHSIG, SIGKILL) < 0:
        raise OSError(errno, os.strerror(errno))
    if getppid() != parent:
        kill(getpid(), SIGKILL)


def name_process(str name not None):
    """What ps and top call this process (its first 15 bytes).  Raises OSError."""
    cdef bytes text = name.encode()
    if prctl(PR_SET_NAME, <unsigned long><const char*>text) < 0:
        raise OSError(errno, os.strerror(errno))

# What the kernel is told of a process (prctl), for the master, the mold and the workers.

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct sigset_t:
        pass
    int pthread_attr_init(pthread_attr_t*)
    int pthread_attr_setstacksize(pthread_attr_t*, size_t)
    int pthread_attr_setdetachstate(pthread_attr_t*, int)
    int pthread_attr_destroy(pthread_attr_t*)
    int pthread_create(pthread_t*, pthread_attr_t*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void** result)
    int pthread_mutex_init(pthread_mutex_t*, void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_trylock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int PTHREAD_CREATE_DETACHED

cdef extern from "<semaphore.h>" nogil:
    int sem_init(sem_t*, int shared, unsigned int value)
    int sem_destroy(sem_t*)
    int sem_post(sem_t*)
    int sem_wait(sem_t*)

cdef extern from "<signal.h>" nogil:
    int sigfillset(sigset_t*)
    int pthread_sigmask(int how, const sigset_t* new, sigset_t* old)
    int kill(int pid, int signal)
    int SIG_SETMASK
    int SIGKILL

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_CHILD_SUBREAPER
    int PR_SET_NAME
    int PR_SET_PDEATHSIG

cdef extern from "<signal.h>" nogil:
    int sigemptyset(sigset_t*)
    int sigaddset(sigset_t*, int)
    int sigtimedwait(const sigset_t*, void* info, const timespec* span)
    int sigwaitinfo(const sigset_t*, void* info)
    int SIG_BLOCK
    int SIGURG

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


def outlive(int parent):
    """Wait until `parent`, the pid of the process that forked this one, has ended, and whoever
    adopts its orphans is our parent.  Raises OSError."""
    # The kernel tells it with a signal, after the change.  Any that can be blocked would do.
    cdef sigset_t ended, before
    cdef timespec none
    none.tv_sec = none.tv_nsec = 0
    sigemptyset(&ended)
    sigaddset(&ended, SIGURG)
    pthread_sigmask(SIG_BLOCK, &ended, &before)
    if prctl(PR_SET_PDEATHSIG, SIGURG) < 0:
        pthread_sigmask(SIG_SETMASK, &before, NULL)
        raise OSError(errno, os.strerror(errno))
    with nogil:
        while getppid() == parent:
            sigwaitinfo(&ended, NULL)
    prctl(PR_SET_PDEATHSIG, 0)
    sigtimedwait(&ended, NULL, &none)   # one that came while we did not wait
    pthread_sigmask(SIG_SETMASK, &before, NULL)


def name_process(str name not None):
    """What ps and top call this process (its first 15 bytes).  Raises OSError."""
    cdef bytes text = name.encode()
    if prctl(PR_SET_NAME, <unsigned long><const char*>text) < 0:
        raise OSError(errno, os.strerror(errno))


cdef int c_thread_start(pthread_t* thread, void* (*main)(void*) noexcept nogil, void* arg,
                        bint detached) noexcept:
    """Start a small thread of C.  0 or an errno."""
    cdef pthread_attr_t attributes
    cdef sigset_t everything, before
    cdef int failed
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, 65536)
    if detached:
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    # Signals are for the threads of the application and ours above all, never for this one.
    sigfillset(&everything)
    pthread_sigmask(SIG_SETMASK, &everything, &before)
    failed = pthread_create(thread, &attributes, main, arg)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    pthread_attr_destroy(&attributes)
    return failed

# The edge: C APIs, system calls and constants.  Nothing here knows of HTTP.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.dict cimport PyDict_Contains, PyDict_Copy, PyDict_GetItem, PyDict_SetItem
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.errno cimport (
    EAGAIN,
    EBADF,
    EBUSY,
    ECONNRESET,
    EEXIST,
    EINTR,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOLCK,
    ENOMEM,
    ENOTCONN,
    EPERM,
    EPIPE,
    errno,
)
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen
from posix.time cimport clock_gettime, timespec

import collections
import contextvars
import heapq
import io
import ipaddress
import logging
import os
import socket
import sys
import tempfile
import threading
import weakref
from _thread import allocate_lock as thread_lock
from queue import SimpleQueue
from time import sleep as time_sleep    # before gevent, perhaps, replaces it

import greenlet
import httptools

cdef extern from *:
    """
    #ifdef FASTFORK_DEBUG
    #define FASTFORK_DEBUG_BUILD 1
    #define FASTFORK_COUNT(what, n) (fastfork_counters.what += (n))
    #else
    #define FASTFORK_DEBUG_BUILD 0
    #define FASTFORK_COUNT(what, n) ((void)0)
    #endif
    static struct { long connections, parsers, exchanges, buffers, outboxes, bodies, carriers; }
        fastfork_counters;
    #define COUNT_CONNECTION(n) FASTFORK_COUNT(connections, n)
    #define COUNT_PARSER(n) FASTFORK_COUNT(parsers, n)
    #define COUNT_EXCHANGE(n) FASTFORK_COUNT(exchanges, n)
    #define COUNT_BUFFER(n) FASTFORK_COUNT(buffers, n)
    #define COUNT_OUTBOX(n) FASTFORK_COUNT(outboxes, n)
    #define COUNT_BODY(n) FASTFORK_COUNT(bodies, n)
    #define COUNT_CARRIER(n) FASTFORK_COUNT(carriers, n)
    """
    bint FASTFORK_DEBUG_BUILD
    const char* FASTFORK_VERSION    # from setup.py
    struct fastfork_counters_t "":
        long connections
        long parsers
        long exchanges
        long buffers
        long outboxes
        long bodies
        long carriers
    fastfork_counters_t fastfork_counters
    void COUNT_CONNECTION(int n) noexcept nogil
    void COUNT_PARSER(int n) noexcept nogil
    void COUNT_EXCHANGE(int n) noexcept nogil
    void COUNT_BUFFER(int n) noexcept nogil
    void COUNT_OUTBOX(int n) noexcept nogil
    void COUNT_BODY(int n) noexcept nogil
    void COUNT_CARRIER(int n) noexcept nogil

cdef extern from "Python.h":
    unsigned char* PyUnicode_1BYTE_DATA(object s)
    int PyUnicode_KIND(object s)
    int PyUnicode_1BYTE_KIND
    Py_ssize_t PyUnicode_GET_LENGTH(object s)
    bint PyUnicode_Check(object s)
    bint PyUnicode_CheckExact(object s)
    bint PyBytes_Check(object s)
    int _PyBytes_Resize(PyObject** s, Py_ssize_t size) except -1
    bint PyTuple_Check(object t)
    bint PyTuple_CheckExact(object t)
    bint PyList_Check(object t)
    bint PyList_CheckExact(object t)
    object PyUnicode_DecodeLatin1(const char* s, Py_ssize_t n, const char* errors)
    Py_ssize_t Py_REFCNT(PyObject* o)
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t PyObject_Length(object o) except -1
    unsigned long PyThread_get_thread_ident()
    int PyThreadState_SetAsyncExc(unsigned long thread, PyObject* exception)

cdef extern from *:
    """
    /* What was stored before is seen before what is stored behind it.  (No instruction on x86-64:
       it only keeps the compiler from moving stores.) */
    #define memory_fence() __atomic_thread_fence(__ATOMIC_ACQ_REL)
    #define leading_zeros(n) __builtin_clzll(n)
    """
    void memory_fence() noexcept nogil
    int leading_zeros(uint64_t n) noexcept nogil

cdef extern from "greenlet.h":
    # Declared by hand: greenlet ships its C API without a .pxd.
    object PyGreenlet_GetCurrent()
    object PyGreenlet_New(PyObject* run, PyObject* parent)
    object PyGreenlet_Switch(PyObject* g, PyObject* args, PyObject* kwargs)
    void PyGreenlet_Import()
    void** _PyGreenlet_API

cdef extern from *:
    """
    /* The C API takes PyGreenlet*; every caller here has a PyObject*. */
    #define greenlet_current() ((PyObject*)PyGreenlet_GetCurrent())
    #define greenlet_new(run, parent) \
        ((PyObject*)PyGreenlet_New((PyObject*)(run), (PyGreenlet*)(parent)))
    #define greenlet_switch(g) PyGreenlet_Switch((PyGreenlet*)(g), NULL, NULL)
    """
    object greenlet_current()
    object greenlet_new(object run, object parent)
    object greenlet_switch(object g)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int count, int timeout)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLEXCLUSIVE
        EPOLLET

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        uint16_t sa_family
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct linger:
        int l_onoff
        int l_linger
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags)
    int getsockname(int fd, sockaddr* address, socklen_t* length)
    ssize_t recv(int fd, void* buffer, size_t n, int flags)
    ssize_t recvmsg(int fd, msghdr* message, int flags)
    ssize_t send(int fd, const void* data, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t length)
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_LINGER
        SHUT_RDWR
        SHUT_WR
        MSG_NOSIGNAL
        MSG_MORE

cdef extern from *:
    """
    /* The calls of the fast path, made where they stand.  After as deep a call as one into the
       kernel the processor no longer knows where the callers are that wait for it: every function
       that returns then, libc's wrapper first, is a wrong guess, which is dear in a virtual
       machine. */
    #include <errno.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>

    #if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    #define FASTFORK_LIBC 1             /* they watch its functions */
    #elif defined(__x86_64__) && defined(__LP64__)
    #define FASTFORK_LIBC 0
    static inline long here_call(long number, long a, long b, long c, long d) {
        register long r10 __asm__("r10") = d;
        register long r8 __asm__("r8") = 0;
        register long r9 __asm__("r9") = 0;
        long result;
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        return result;
    }
    #elif defined(__aarch64__) && defined(__LP64__)
    #define FASTFORK_LIBC 0
    static inline long here_call(long number, long a, long b, long c, long d) {
        register long x8 __asm__("x8") = number;
        register long x0 __asm__("x0") = a;
        register long x1 __asm__("x1") = b;
        register long x2 __asm__("x2") = c;
        register long x3 __asm__("x3") = d;
        register long x4 __asm__("x4") = 0;
        register long x5 __asm__("x5") = 0;
        __asm__ volatile("svc 0"
                         : "+r"(x0)
                         : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                         : "memory");
        return x0;
    }
    #else
    #define FASTFORK_LIBC 1
    #endif

    #if FASTFORK_LIBC
    #define recv_here(fd, buffer, n) recv(fd, buffer, n, 0)
    #define send_here(fd, data, n) send(fd, data, n, MSG_NOSIGNAL)
    #define epoll_wait_here epoll_wait
    #else
    static inline long here_result(long result) {
        if (result < 0) {
            errno = (int)-result;
            return -1;
        }
        return result;
    }
    static inline ssize_t recv_here(int fd, void *buffer, size_t n) {
        return here_result(here_call(SYS_recvfrom, fd, (long)buffer, (long)n, 0));
    }
    static inline ssize_t send_here(int fd, const void *data, size_t n) {
        return here_result(here_call(SYS_sendto, fd, (long)data, (long)n, MSG_NOSIGNAL));
    }
    static inline int epoll_wait_here(int epoll, struct epoll_event *events, int count,
                                      int timeout) {
    #ifdef SYS_epoll_wait
        return (int)here_result(here_call(SYS_epoll_wait, epoll, (long)events, count, timeout));
    #else
        return (int)here_result(here_call(SYS_epoll_pwait, epoll, (long)events, count, timeout));
    #endif
    }
    #endif
    """
    ssize_t recv_here(int fd, void* buffer, size_t n) noexcept nogil
    ssize_t send_here(int fd, const void* data, size_t n) noexcept nogil
    int epoll_wait_here(int epoll, epoll_event* events, int count, int timeout) noexcept nogil

cdef extern from *:
    """
    #include <sys/socket.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <sched.h>
    #include <string.h>
    #include <unistd.h>

    /* Send a descriptor with a message of two parts.  Returns what sendmsg(2) does. */
    static ssize_t descriptor_send(int exit, int fd, const void *head, size_t n,
                                   const void *rest, size_t m) {
        struct iovec parts[2] = {{(void *)head, n}, {(void *)rest, m}};
        union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } control;
        struct msghdr message;
        memset(&message, 0, sizeof message);
        memset(&control, 0, sizeof control);
        message.msg_iov = parts;
        message.msg_iovlen = m ? 2 : 1;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        return sendmsg(exit, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    /* Whoever has the entry may take messages out, but only one at a time: a lock of the kernel's
       that ends with its process.  0 or -1, EBUSY if somebody has it. */
    static int entry_lock(int entry) {
        struct flock all;
        int attempt;
        memset(&all, 0, sizeof all);
        all.l_type = F_WRLCK;
        all.l_whence = SEEK_SET;
        for (attempt = 0; fcntl(entry, F_SETLK, &all) < 0; attempt++) {
            if (errno != EAGAIN && errno != EACCES)
                return -1;
            if (attempt == 10) {        /* two system calls long, unless it lost its core then */
                errno = EBUSY;
                return -1;
            }
            sched_yield();
        }
        return 0;
    }

    static void entry_unlock(int entry) {
        struct flock all;
        memset(&all, 0, sizeof all);
        all.l_type = F_UNLCK;
        all.l_whence = SEEK_SET;
        fcntl(entry, F_SETLK, &all);
    }

    /* Receive such a message.  Returns what recvmsg(2) does; `fd` is -1 if not exactly one
       descriptor came with it.  With EBUSY, as of entry_lock, or EMFILE, when the process can have
       no more descriptors, the message stays where it is.  For that it is received twice: at first
       it is only looked at, which gives us the descriptor all the same. */
    static ssize_t descriptor_receive(int entry, int *fd, void *head, size_t n,
                                      void *rest, size_t m) {
        enum { MOST = 8 };
        struct iovec parts[2] = {{head, n}, {rest, m}};
        union { struct cmsghdr align; char room[CMSG_SPACE(MOST * sizeof(int))]; } control;
        struct msghdr message, nothing;
        struct cmsghdr *c;
        int have = 0, other, failed = 0;
        size_t i;
        memset(&message, 0, sizeof message);
        memset(&nothing, 0, sizeof nothing);
        message.msg_iov = parts;
        message.msg_iovlen = 2;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        *fd = -1;
        if (entry_lock(entry) < 0)
            return -1;
        ssize_t done = recvmsg(entry, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (done < 0) {
            failed = errno;
            message.msg_controllen = 0;
        }
        for (c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                continue;
            for (i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
                memcpy(&other, CMSG_DATA(c) + i * sizeof(int), sizeof other);
                if (have++ == 0 && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                    *fd = other;
                else
                    close(other);
            }
        }
        if (have > 1 && *fd >= 0) {
            close(*fd);
            *fd = -1;
        }
        if (done >= 0 && have < MOST && message.msg_flags & MSG_CTRUNC) {
            failed = EMFILE;
            done = -1;
        }
        if (done >= 0)
            recvmsg(entry, &nothing, MSG_DONTWAIT);
        entry_unlock(entry);
        errno = failed;
        return done;
    }
    """
    ssize_t descriptor_send(int exit, int fd, const void* head, size_t n, const void* rest,
                            size_t m) noexcept nogil
    ssize_t descriptor_receive(int entry, int* fd, void* head, size_t n, void* rest,
                               size_t m) noexcept nogil

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        pass
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct in6_addr:
        pass
    struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    uint16_t ntohs(uint16_t n)
    uint16_t htons(uint16_t n)

cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* source, char* target, socklen_t size)
    int inet_pton(int family, const char* source, void* target)

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t sendfile(int out, int source, int64_t* offset, size_t n)

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, int argument)
    int F_DUPFD_CLOEXEC

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void* argument)

cdef extern from "<linux/sockios.h>" nogil:
    unsigned long SIOCINQ
    unsigned long SIOCOUTQ

cdef extern from "<sys/stat.h>" nogil:
    struct stat_t "stat":
        int64_t st_size
        unsigned int st_mode
    int fstat(int fd, stat_t* st)
    bint S_ISREG(unsigned int mode)
    bint S_ISFIFO(unsigned int mode)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t write(int fd, const void* data, size_t n)
    int ftruncate(int fd, int64_t length)
    ssize_t pread(int fd, void* data, size_t n, int64_t offset)
    ssize_t pwrite(int fd, const void* data, size_t n, int64_t offset)

cdef extern from "<sys/mman.h>" nogil:
    int MADV_HUGEPAGE
    int madvise(void* start, size_t n, int advice)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long n, int timeout)
    short POLLIN
    short POLLNVAL
    short POLLOUT

cdef extern from *:
    """
    /* Of a variable that another thread looks at, or writes. */
    #define AT_ONCE_GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
    #define AT_ONCE_SET(x, value) __atomic_store_n(&(x), (value), __ATOMIC_SEQ_CST)
    #define AT_ONCE_PUT(x, value) __atomic_store_n(&(x), (value), __ATOMIC_RELAXED)
    #define AT_ONCE_CLEAR(x) __atomic_store_n(&(x), 0, __ATOMIC_RELEASE)
    """
    int64_t AT_ONCE_GET(int64_t x) nogil
    void AT_ONCE_SET(int64_t x, int64_t value) nogil
    void AT_ONCE_PUT(int64_t x, int64_t value) nogil     # nothing else must be in order with it
    void AT_ONCE_CLEAR(int64_t x) nogil

cdef extern from "<limits.h>" nogil:
    int PIPE_BUF

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char* a, const char* b, size_t n)

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME_COARSE
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday
        long tm_gmtoff
    int nanosleep(const timespec* span, timespec* left)
    tm* gmtime_r(const long* when, tm* result)
    tm* localtime_r(const long* when, tm* result)


DEBUG = bool(FASTFORK_DEBUG_BUILD)

PyGreenlet_Import()
if _PyGreenlet_API is NULL:     # the macro leaves this check to its user
    raise ImportError("fastfork needs the C API of greenlet; this greenlet has none")


# An IPv4 address as IPv6, ::ffff:1.2.3.4, begins with these twelve bytes.
cdef const char* MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"

cdef enum:
    PAGE = 4096
    BUFFER_SIZE = 65536         # one recv takes at most this much
    EVENTS = 256                # one epoll_wait reports at most this many
    TOLD_AGAIN = 60000          # ms: a shortage is told this often at most
    RECEIVE_STEP = 1048576      # or, if it is known where it belongs, this much
    # One sendfile moves at most this much, then others have a turn.  Few clients take so much at a
    # time; one on the same machine that reads meanwhile is a few ms about it.
    SEND_FILE_STEP = 16777216


def counters():
    """Live objects of the core, all zero when nothing is going on; None unless DEBUG."""
    if not DEBUG:
        return None
    return {
        "connections": fastfork_counters.connections,
        "parsers": fastfork_counters.parsers,
        "exchanges": fastfork_counters.exchanges,
        "buffers": fastfork_counters.buffers,
        "outboxes": fastfork_counters.outboxes,
        "bodies": fastfork_counters.bodies,
        "carriers": fastfork_counters.carriers,
    }


cdef inline int64_t clock_us() noexcept nogil:
    """The clock of time.monotonic()."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)             # vDSO, no system call
    # Unsigned, as what cannot be negative is divided more cheaply.
    return <int64_t>t.tv_sec * 1000000 + <int64_t>(<uint64_t>t.tv_nsec // 1000)


cdef inline int64_t clock_ms() noexcept nogil:
    return clock_us() // 1000


cdef inline bint again() noexcept nogil:
    """Did the last call on a non-blocking descriptor only find nothing to do?  (Linux's
    EWOULDBLOCK is its EAGAIN.)"""
    return errno == EAGAIN or errno == EINTR


cdef inline int64_t timeout_ms(double seconds) noexcept:
    """0 stays 0; what is endless or never is bounded."""
    return <int64_t>(min(seconds, 1e9) * 1000 + 0.5) if seconds > 0 else 0


cdef inline int64_t milliseconds(object seconds) except -1:
    return max(<int64_t>1, <int64_t>(<double>seconds * 1000))


cdef char* buffer_new(size_t size) except NULL:
    cdef char* p = <char*>PyMem_Malloc(size)
    if p is NULL:
        raise MemoryError()
    COUNT_BUFFER(1)
    return p


cdef char* buffer_grow(char* p, size_t size) except NULL:
    """`p` may be NULL: then it is a new one."""
    if p is NULL:
        return buffer_new(size)
    p = <char*>PyMem_Realloc(p, size)
    if p is NULL:
        raise MemoryError()
    return p


cdef inline void buffer_free(char* p) noexcept:
    if p is not NULL:
        COUNT_BUFFER(-1)
        PyMem_Free(p)


cdef inline void memory_untouched(char* p, size_t n) noexcept:
    """This memory will be written for the first time: where the system has large pages, a few
    faults do for it instead of one every 4 KiB."""
    cdef size_t start = (<size_t>p + PAGE - 1) & ~<size_t>(PAGE - 1)
    cdef size_t end = (<size_t>p + n) & ~<size_t>(PAGE - 1)
    if end > start:
        madvise(<void*>start, end - start, MADV_HUGEPAGE)

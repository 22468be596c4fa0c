/* Preloaded into a server: as many times as `snatch` says, another thread has the last descriptor
   when recvmsg is about to give one to this process.  The limit is lowered for that moment. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>

int snatch = 0;

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    ssize_t (*usual)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");
    struct rlimit before, none;
    if (snatch == 0 || message->msg_controllen == 0)
        return usual(fd, message, flags);
    snatch--;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    ssize_t done = usual(fd, message, flags);
    int error = errno;
    setrlimit(RLIMIT_NOFILE, &before);
    errno = error;
    return done;
}

/* An open loop: requests at times that are fixed beforehand, for rates that openloop.py cannot reach.
 *
 *     openload PORT RATE SECONDS CONNECTIONS FILE
 *
 * RATE requests per second for SECONDS, each with the bytes in FILE, at equal intervals and over
 * CONNECTIONS connections to the loopback address in turn.  The rules are those of openloop.py:
 * a latency counts from when its request was due; a connection has one request on its way, and one
 * that is due while it is busy waits for it; one that the server has closed is opened again when its
 * next request is due.  So request n is the (n / CONNECTIONS)th of connection n % CONNECTIONS, and
 * no queue is needed: two counters for each connection say what it has yet to do.
 *
 * The requests of the first WARM_UP seconds are sent and checked but not counted: all connections
 * are opened then.  Every answer must be a 200 with a Content-Length, the same in all of them.
 * Written at the end, as one line of JSON: "requests" that count and how many were "sent" in all;
 * "errors" and the first of them as "trouble"; "connects"; "p50", "p99", "p999" and "max" of the
 * latencies (exact, nearest rank) and "late", the 99th percentile of how long after its time a
 * request was looked at, which is the generator's own error; all in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 0.2  /* seconds */
#define LEAD 0.01    /* seconds from the beginning to the first request */
#define PATIENCE 5.0 /* seconds after the last request was due until which all must be answered */
#define SECOND 1e9   /* times are nanoseconds */

struct connection {
    int fd; /* -1: not open */
    bool connecting, busy;
    int64_t given, done; /* requests that were due, and those of them that are over */
    size_t length;
    char received[16384]; /* of the answer that is coming */
};

static struct sockaddr_in address;
static char request[65536];
static size_t request_length;

static int poller;
static struct connection *connections;
static int64_t number;  /* of connections */
static int64_t total;   /* of requests */
static int64_t *latency, *late;
static int64_t start;
static double interval;
static int64_t over; /* requests that are answered or have failed */
static long body_length = -1;
static int64_t errors, connects;
static const char *trouble = "";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)SECOND + t.tv_nsec;
}

static int64_t due(int64_t n) {
    return start + (int64_t)((double)n * interval);
}

static void shut(struct connection *c) {
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->connecting = false;
}

/* The connection's request is over; `why` if it has failed. */
static void finish(struct connection *c, const char *why) {
    int64_t n = c->done * number + (c - connections);
    latency[n] = now() - due(n);
    if (why) {
        if (!errors++)
            trouble = why;
        shut(c);
    }
    c->done++;
    c->busy = false;
    c->length = 0;
    over++;
}

static void send_request(struct connection *c) {
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
        finish(c, "a request could not be sent in one piece");
}

static void begin(struct connection *c) {
    c->busy = true;
    if (c->fd >= 0) {
        send_request(c);
        return;
    }
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll_ctl");
    c->connecting = true;
    connects++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        finish(c, "a connection could not be opened");
}

static void connected(struct connection *c) {
    int failed = 0;
    socklen_t size = sizeof failed;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    if (failed) {
        finish(c, "a connection was refused or reset");
        return;
    }
    c->connecting = false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) < 0)
        die("epoll_ctl");
    send_request(c);
}

/* The value of the field `name` (with colon) in the head that ends at `end`; NULL if not there. */
static const char *field(const char *head, const char *end, const char *name) {
    size_t length = strlen(name);
    for (const char *line = head; (line = memmem(line, end - line, "\r\n", 2)) != NULL;) {
        line += 2;
        if ((size_t)(end - line) > length && strncasecmp(line, name, length) == 0) {
            for (line += length; line < end && *line == ' ';)
                line++;
            return line;
        }
    }
    return NULL;
}

/* Look at what has been received: a whole answer, a part of one, or what should not be there. */
static void look(struct connection *c) {
    char *head = c->received;
    char *end = memmem(head, c->length, "\r\n\r\n", 4);
    if (end == NULL) {
        if (c->length == sizeof c->received)
            finish(c, "the head of an answer is too long");
        return;
    }
    if (c->length < 13 || memcmp(head, "HTTP/1.", 7) != 0 || memcmp(head + 8, " 200 ", 5) != 0) {
        finish(c, "an answer was not a 200");
        return;
    }
    end += 2; /* every line of the head ends with CRLF */
    const char *value = field(head, end, "Content-Length:");
    long length = value ? strtol(value, NULL, 10) : -1;
    if (length < 0 || (body_length >= 0 && length != body_length)) {
        finish(c, "an answer had no Content-Length, or another one than the first");
        return;
    }
    body_length = length;
    size_t whole = (size_t)(end + 2 - head) + (size_t)length;
    if (whole > sizeof c->received || c->length > whole) {
        finish(c, "an answer was longer than it should be");
        return;
    }
    if (c->length < whole)
        return;
    value = field(head, end, "Connection:");
    bool last = value ? strncasecmp(value, "close", 5) == 0 : head[7] == '0';
    finish(c, NULL);
    if (last)
        shut(c);
}

static void readable(struct connection *c) {
    ssize_t n = recv(c->fd, c->received + c->length, sizeof c->received - c->length, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 && !c->busy) {
        shut(c);
        return;
    }
    if (n <= 0) {
        finish(c, "a connection was closed instead of an answer");
        return;
    }
    if (!c->busy) { /* nobody asked for it: as an error of the request before */
        if (!errors++)
            trouble = "an answer that nobody asked for";
        shut(c);
        return;
    }
    c->length += (size_t)n;
    look(c);
}

static void ready(struct epoll_event *event) {
    struct connection *c = event->data.ptr;
    if (c->connecting)
        connected(c);
    else
        readable(c);
}

/* The next request of each connection that has one to begin; a failed one may leave another. */
static void go_on(struct connection *c) {
    while (!c->busy && c->done < c->given)
        begin(c);
}

static void sleep_until(int64_t until) {
    int64_t left = until - now();
    if (left <= 0)
        return;
    struct timespec time = {.tv_sec = left / (int64_t)SECOND, .tv_nsec = left % (int64_t)SECOND};
    struct pollfd anything = {.fd = poller, .events = POLLIN};
    if (ppoll(&anything, 1, &time, NULL) < 0 && errno != EINTR) /* epoll's time is milliseconds */
        die("ppoll");
}

static void run(void) {
    struct epoll_event events[256];
    int64_t given = 0;
    start = now() + (int64_t)(LEAD * SECOND);
    int64_t end = due(total - 1) + (int64_t)(PATIENCE * SECOND);
    while (over < total) {
        for (int64_t after; given < total && (after = now() - due(given)) >= 0; given++) {
            late[given] = after;
            struct connection *c = &connections[given % number];
            c->given++;
            go_on(c);
        }
        if (given == total && now() > end) {
            errors += total - over;
            trouble = "a request was not answered in time";
            return;
        }
        sleep_until(given < total ? due(given) : end);
        int n = epoll_wait(poller, events, 256, 0);
        for (int i = 0; i < n; i++) {
            ready(&events[i]);
            go_on(events[i].data.ptr);
        }
    }
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The least value that at least so many thousandths of the sorted values do not exceed, in ms. */
static double quantile(const int64_t *values, int64_t count, int64_t thousandths) {
    return (double)values[(count * thousandths + 999) / 1000 - 1] / 1e6;
}

static void report(int64_t ignored) {
    int64_t count = total - ignored;
    int64_t *counted = latency + ignored;
    qsort(counted, (size_t)count, sizeof *counted, compare);
    qsort(late + ignored, (size_t)count, sizeof *late, compare);
    printf("{\"requests\": %lld, \"sent\": %lld, \"errors\": %lld, \"trouble\": \"%s\", "
           "\"connects\": %lld, \"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f, "
           "\"late\": %.4f}\n",
           (long long)count, (long long)total, (long long)errors, trouble, (long long)connects,
           quantile(counted, count, 500), quantile(counted, count, 990),
           quantile(counted, count, 999), quantile(counted, count, 1000),
           quantile(late + ignored, count, 990));
}

static void prefer(void) {
    struct sched_param first = {.sched_priority = 1};
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    sched_setscheduler(0, SCHED_FIFO, &first); /* where this user may; "late" says what it is like */
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: openload PORT RATE SECONDS CONNECTIONS FILE\n");
        return 2;
    }
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    number = atol(argv[4]);
    total = (int64_t)(rate * (WARM_UP + seconds));
    int64_t ignored = (int64_t)(rate * WARM_UP);
    if (rate <= 0 || number < 1 || total - ignored < 1) {
        fprintf(stderr, "openload: there must be at least one request and one connection\n");
        return 2;
    }
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((unsigned short)atoi(argv[1])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    FILE *file = fopen(argv[5], "rb");
    if (file == NULL)
        die(argv[5]);
    request_length = fread(request, 1, sizeof request, file);
    fclose(file);
    interval = SECOND / rate;
    connections = calloc((size_t)number, sizeof *connections);
    latency = calloc((size_t)total, sizeof *latency);
    late = calloc((size_t)total, sizeof *late);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || latency == NULL || late == NULL || poller < 0)
        die("openload");
    for (int64_t i = 0; i < number; i++)
        connections[i].fd = -1;
    prefer();
    run();
    report(ignored);
    for (int64_t i = 0; i < number; i++)
        shut(&connections[i]);
    close(poller);
    free(connections);
    free(latency);
    free(late);
    return 0;
}

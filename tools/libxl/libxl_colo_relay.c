/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define T_CONNECT (10 * 1000 * COLO_MS)
#define T_START   (10 * 1000 * COLO_MS)

int colo_relay_put_key(const char *path, const char *key, struct colo_err *err)
{
    int fd, rc = 0;

    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, COLO_DISK_USER ":%s\n", key) < 0)
        rc = colo_fail_errno(err, errno, "%s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int connect_to(const struct addrinfo *ai, colo_time deadline, int *out)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e = 0;
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(e);

    if (fd < 0)
        return errno;
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) && errno != EINPROGRESS)
        e = errno;
    else if (poll(&pfd, 1, colo_poll_ms(deadline)) <= 0)
        e = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
    if (e)
        close(fd);
    else
        *out = fd;
    return e;
}

/* A write of the guest's waits for the other host's answer.  Of a way between the hosts that is cut
 * TCP would tell after a quarter of an hour; this is said of data as of silence. */
static void give_up_early(int fd)
{
    static const int on = 1, idle = 4, every = 2, times = 3;
    static const unsigned int limit = (idle + every * times) * 1000; /* ms */

    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* QEMU would stand still, and with it the guest's disk, while it is found out that nobody answers. */
static int reach(const char *host, uint16_t port, int *fd, struct colo_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list;
    char number[8];
    int e;

    snprintf(number, sizeof(number), "%u", port);
    e = getaddrinfo(host, number, &hints, &list);
    if (e)
        return colo_fail(err, COLO_ERR_LOCAL, "disk-link", "the address of %s: %s", host,
                         gai_strerror(e));
    e = ETIMEDOUT;
    for (const struct addrinfo *ai = list; ai && e; ai = ai->ai_next)
        e = connect_to(ai, colo_now() + T_CONNECT, fd);
    freeaddrinfo(list);
    if (e)
        return colo_fail(err, COLO_ERR_LOCAL, "disk-link", "%s, port %s, cannot be reached: %s",
                         host, number, strerror(e));
    give_up_early(*fd);
    return 0;
}

static int wait_start(struct colo_relay *r, struct colo_err *err)
{
    colo_time deadline = colo_now() + T_START;
    int status;

    while (access(r->socket, F_OK)) {
        if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
            r->pid = 0;
            return colo_fail(err, COLO_ERR_LOCAL, "disk-start",
                             "nbdkit with its plugin nbd does not start: is it installed?");
        }
        if (colo_now() >= deadline)
            return colo_fail(err, COLO_ERR_TIMEOUT, "disk-start", "nbdkit does not listen");
        poll(NULL, 0, 10); /* nothing tells when a socket appears */
    }
    return 0;
}

/* In the child: `fd` is the connection to the other host. */
static void become_relay(const char *socket, int fd, const struct colo_relay_way *way,
                         const char *log)
{
    int null = open("/dev/null", O_RDWR);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0640);
    char connection[32], psk[160], *export;

    snprintf(connection, sizeof(connection), "socket-fd=%d", fd);
    snprintf(psk, sizeof(psk), "tls-psk=%.140s", way->keyfile);
    if (asprintf(&export, "export=%s", way->export ? way->export : COLO_DISK_EXPORT) < 0)
        _exit(127);
    umask(077);
    setsid(); /* a Ctrl-C is for us */
    fcntl(fd, F_SETFD, 0);
    if (null >= 0)
        dup2(null, STDIN_FILENO), dup2(null, STDOUT_FILENO);
    dup2(out < 0 ? null : out, STDERR_FILENO);
    execlp("nbdkit", "nbdkit", "--foreground", "--exit-with-parent", "--unix", socket, "nbd",
           connection, export, "tls=require", psk, "tls-username=" COLO_DISK_USER, (char *)NULL);
    _exit(127);
}

int colo_relay_start(struct colo_relay *r, const char *socket, const struct colo_relay_way *way,
                     const char *log, struct colo_err *err)
{
    int fd = -1;

    snprintf(r->socket, sizeof(r->socket), "%s", socket);
    if (reach(way->host, way->port, &fd, err))
        return -1;
    unlink(r->socket);
    r->pid = fork();
    if (r->pid == 0)
        become_relay(r->socket, fd, way, log);
    close(fd);
    if (r->pid < 0) {
        r->pid = 0;
        return colo_fail_errno(err, errno, "fork");
    }
    return wait_start(r, err);
}

void colo_relay_stop(struct colo_relay *r)
{
    if (r->pid > 0) {
        kill(r->pid, SIGKILL); /* it keeps nothing that would have to be saved */
        while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (r->socket[0])
        unlink(r->socket);
    memset(r, 0, sizeof(*r));
}

/* SPDX-License-Identifier: GPL-2.0-only */
#include "disk_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk-dirs.h"
#include "disk.h"

#define PLUGIN     "nbdkit-colo-disk-plugin.so"
#define READY_WAIT (30 * 1000 * COLO_MS)
#define FIRST_FD   3 /* of those that are handed over */
#define ARGS       40

/* ---- the socket of the primary's export ---- */

static int listen_at(const struct addrinfo *ai, struct colo_err *err)
{
    static const int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    colo_fail_errno(err, errno, "cannot listen there");
    if (fd >= 0)
        close(fd);
    return -1;
}

static int port_of(int fd, uint16_t *port)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } at = {0};
    socklen_t len = sizeof(at);

    if (getsockname(fd, &at.sa, &len))
        return -1;
    *port = ntohs(at.sa.sa_family == AF_INET6 ? at.in6.sin6_port : at.in.sin_port);
    return 0;
}

static int listen_tcp(const char *host, uint16_t port, int *out, uint16_t *bound,
                      struct colo_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    struct colo_err last = {0};
    char service[8];
    int fd = -1, r;

    snprintf(service, sizeof(service), "%u", port);
    r = getaddrinfo(strcmp(host, "any") == 0 ? NULL : host, service, &hints, &list);
    if (r)
        return colo_fail(err, COLO_ERR_LOCAL, "bad-request", "the address %s: %s", host,
                         gai_strerror(r));
    /* any address of IPv6 is any of IPv4 as well, where the host has IPv6 */
    for (int family = AF_INET6; fd < 0 && family; family = family == AF_INET6 ? AF_INET : 0)
        for (const struct addrinfo *ai = list; fd < 0 && ai; ai = ai->ai_next)
            if (ai->ai_family == family)
                fd = listen_at(ai, &last);
    freeaddrinfo(list);
    if (fd < 0)
        return colo_fail(err, last.cls, NULL, "%s, port %u: %s", host, port, last.msg);
    if (port_of(fd, bound)) {
        close(fd);
        return colo_fail_errno(err, errno, "%s, port %u", host, port);
    }
    *out = fd;
    return 0;
}

/* ---- nbdkit's command line ---- */

struct words {
    char *word[ARGS];
    int n;
    bool failed;
};

static void add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct words *w, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (w->n == ARGS - 1 || vasprintf(&w->word[w->n], fmt, ap) < 0)
        w->failed = true;
    else
        w->n++;
    va_end(ap);
}

static void add_key(struct words *w, const char *key, const char *value)
{
    if (value)
        add(w, "%s=%s", key, value);
}

/* Where it is installed; or beside the program, when that runs from where it was built. */
static void find_plugin(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    char *slash;

    if (n > 0) {
        path[n] = '\0';
        slash = strrchr(path, '/');
        if (slash && (size_t)(slash + 1 - path) + sizeof(PLUGIN) <= size) {
            memcpy(slash + 1, PLUGIN, sizeof(PLUGIN));
            if (access(path, R_OK) == 0)
                return;
        }
    }
    snprintf(path, size, "%s/%s", COLO_PLUGIN_DIR, PLUGIN);
}

static void free_words(struct words *w)
{
    for (int i = 0; i < w->n; i++)
        free(w->word[i]);
    w->n = 0;
}

static int command(const struct disk_serve *cfg, uint16_t port, int ready, struct words *w,
                   struct colo_err *err)
{
    char plugin[512];

    find_plugin(plugin, sizeof(plugin));
    memset(w, 0, sizeof(*w));
    add(w, "nbdkit");
    add(w, "--foreground");
    add(w, "--log=stderr");
    if (cfg->psk) {
        add(w, "--tls=on"); /* the plugin refuses the primary's export without */
        add(w, "--tls-psk=%s", cfg->psk);
    } else {
        add(w, "--tls=off");
    }
    add(w, "%s", cfg->plugin ? cfg->plugin : plugin);
    add_key(w, "target", cfg->target);
    add_key(w, "session", cfg->session);
    add_key(w, "control", cfg->control);
    add_key(w, "secondary", cfg->secondary);
    add_key(w, "export", cfg->export);
    add_key(w, "memory", cfg->memory);
    add_key(w, "active", cfg->active);
    add_key(w, "hidden", cfg->hidden);
    add_key(w, "state-dir", cfg->state_dir);
    add_key(w, "alone", cfg->alone);
    add_key(w, "raw", cfg->raw ? "true" : "false");
    add_key(w, "standalone", cfg->standalone ? "true" : "false");
    add(w, "port=%u", port);
    if (ready >= 0)
        add(w, "ready-fd=%d", ready);
    if (!w->failed)
        return 0;
    free_words(w);
    return colo_fail_errno(err, ENOMEM, "nbdkit's command line");
}

/* ---- the process ---- */

/* fds, -1 for one that is not there, become 3, 4, ...; does not return when it works. */
static void become_nbdkit(struct words *w, const int *fds, int nr, int ready)
{
    char text[24];
    int n = 0;

    for (int i = 0; i < nr; i++) { /* they are above those that they become, see out_of_the_way */
        if (fds[i] < 0)
            continue;
        if (dup2(fds[i], FIRST_FD + n) < 0)
            return;
        n++;
    }
    if (ready >= 0)
        fcntl(ready, F_SETFD, 0);
    snprintf(text, sizeof(text), "%d", n);
    setenv("LISTEN_FDS", text, 1);
    snprintf(text, sizeof(text), "%d", (int)getpid());
    setenv("LISTEN_PID", text, 1);
    unsetenv("LISTEN_FDNAMES");
    execvp(w->word[0], w->word);
}

/* A descriptor that is none of the first ones. */
static int out_of_the_way(int fd)
{
    int higher = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 16);

    if (fd >= 0)
        close(fd);
    return higher;
}

static int go_to_background(const char *log)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int out = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640) : -1;

    setsid();
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(out < 0 ? null : out, STDERR_FILENO) < 0 || chdir("/"))
        return -1;
    return 0;
}

/* One line: "ready", or a reason and a message. */
static int wait_ready(int fd, pid_t pid, struct colo_err *err)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    colo_time deadline = colo_now() + READY_WAIT;
    char line[600] = "", *message;
    size_t len = 0;
    ssize_t n = 1;

    while (n > 0 && len < sizeof(line) - 1 && !memchr(line, '\n', len)) {
        if (poll(&p, 1, colo_poll_ms(deadline)) <= 0 && colo_now() >= deadline) {
            kill(pid, SIGTERM);
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL, "the disk's server does not get ready");
        }
        n = p.revents ? read(fd, line + len, sizeof(line) - 1 - len) : 1;
        len += n > 0 && p.revents ? (size_t)n : 0;
    }
    line[strcspn(line, "\n")] = '\0';
    if (!strcmp(line, "ready"))
        return 0;
    waitpid(pid, NULL, 0);
    message = strstr(line, ": ");
    if (!message)
        return colo_fail(err, COLO_ERR_LOCAL, "disk-server",
                         "the disk's server did not start: its log says why");
    *message = '\0';
    colo_fail(err, COLO_ERR_REFUSED, "disk-server", "%s", message + 2);
    snprintf(err->reason, sizeof(err->reason), "%.39s", line);
    return -1;
}

static int start(const struct disk_serve *cfg, uint16_t port, const int *fds, struct colo_err *err)
{
    int ready[2] = {-1, -1}, rc = -1;
    struct words w = {0};
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC))
        return colo_fail_errno(err, errno, "a pipe");
    ready[1] = out_of_the_way(ready[1]);
    if (command(cfg, port, ready[1], &w, err))
        goto out;
    pid = fork();
    if (pid < 0) {
        colo_fail_errno(err, errno, "fork");
        goto out;
    }
    if (pid == 0) {
        if (go_to_background(cfg->log) == 0)
            become_nbdkit(&w, fds, 2, ready[1]);
        dprintf(ready[1], "disk-server: nbdkit cannot be started: %s\n", strerror(errno));
        _exit(127);
    }
    close(ready[1]);
    ready[1] = -1;
    rc = wait_ready(ready[0], pid, err);
out:
    free_words(&w);
    close(ready[0]);
    if (ready[1] >= 0)
        close(ready[1]);
    return rc;
}

int disk_serve(const struct disk_serve *cfg, uint16_t *port, struct colo_err *err)
{
    int fds[2] = {-1, -1}, rc = -1;
    struct words w = {0};

    *port = 0;
    if (disk_listen_unix(cfg->secondary, &fds[0], err))
        return -1;
    fds[0] = out_of_the_way(fds[0]);
    if (!cfg->standalone && listen_tcp(cfg->listen, cfg->port, &fds[1], port, err))
        goto out;
    fds[1] = out_of_the_way(fds[1]);
    if (cfg->foreground) {
        if (command(cfg, *port, -1, &w, err) == 0)
            become_nbdkit(&w, fds, 2, -1);
        if (!err->cls)
            colo_fail_errno(err, errno, "nbdkit cannot be started");
        free_words(&w);
    } else {
        rc = start(cfg, *port, fds, err);
    }
out:
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (rc)
        unlink(cfg->secondary);
    return rc;
}

/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The control socket, the asking side.  The answering side is libxl_colo_control_server.c.
 */
#include "libxl_colo_control.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxl_colo_control_priv.h"

#define REPLY_MAX ((size_t)256 << 10) /* a status is about 2 KiB */

int colo_run_dir(struct colo_err *err)
{
    struct stat st;

    if (mkdir(COLO_RUN_DIR, 0700) && errno != EEXIST)
        return colo_fail_errno(err, errno, "cannot make %s", COLO_RUN_DIR);
    if (lstat(COLO_RUN_DIR, &st))
        return colo_fail_errno(err, errno, "cannot look at %s", COLO_RUN_DIR);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
        return colo_fail(err, COLO_ERR_LOCAL, "run-dir",
                         "%s must be a directory of mode 0700 that belongs to user %u; remove what "
                         "is there",
                         COLO_RUN_DIR, (unsigned int)geteuid());
    return 0;
}

void colo_control_address(uint32_t domid, struct sockaddr_un *sun)
{
    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    snprintf(sun->sun_path, sizeof(sun->sun_path), COLO_RUN_DIR "/%" PRIu32 ".sock", domid);
}

static int not_protected(uint32_t domid, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_REFUSED, "not-protected",
                     "no COLO session on this host has domain %" PRIu32, domid);
}

int colo_control_connect(uint32_t domid, int *fd, struct colo_err *err)
{
    struct sockaddr_un sun;
    int rc;

    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return colo_fail_errno(err, errno, "cannot make a socket");
    colo_control_address(domid, &sun);
    if (!connect(*fd, (const struct sockaddr *)&sun, sizeof(sun)))
        return 0;
    if (errno == ENOENT || errno == ECONNREFUSED)
        rc = not_protected(domid, err);
    else if (errno == EAGAIN)
        rc = colo_fail(err, COLO_ERR_TIMEOUT, "control-busy",
                       "the monitor of domain %" PRIu32 " does not accept connections", domid);
    else
        rc = colo_fail_errno(err, errno, "cannot connect to %s", sun.sun_path);
    close(*fd);
    *fd = -1;
    return rc;
}

static int wait_fd(int fd, short events, colo_time deadline, uint32_t domid, struct colo_err *err)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    int r;

    do {
        r = poll(&pfd, 1, colo_poll_ms(deadline));
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return colo_fail_errno(err, errno, "poll");
    if (r == 0)
        return colo_fail(err, COLO_ERR_TIMEOUT, "monitor-silent",
                         "the monitor of domain %" PRIu32 " does not answer", domid);
    return 0;
}

static int send_line(int fd, uint32_t domid, const char *line, colo_time deadline,
                     struct colo_err *err)
{
    size_t len = strlen(line);
    ssize_t r;

    while (len) {
        r = send(fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r >= 0) {
            line += r;
            len -= (size_t)r;
        } else if (errno == EAGAIN) {
            if (wait_fd(fd, POLLOUT, deadline, domid, err))
                return -1;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return not_protected(domid, err);
        } else if (errno != EINTR) {
            return colo_fail_errno(err, errno, "cannot send to the monitor of domain %" PRIu32,
                                   domid);
        }
    }
    return 0;
}

/* *line is malloc'ed and has no newline. */
static int read_line(int fd, uint32_t domid, colo_time deadline, char **line, struct colo_err *err)
{
    size_t len = 0, room = 4096;
    char *buf = malloc(room), *bigger;
    ssize_t r;
    int rc;

    for (;;) {
        if (buf && len == room && room < REPLY_MAX) {
            bigger = realloc(buf, room *= 2);
            if (!bigger)
                free(buf);
            buf = bigger;
        }
        if (!buf)
            return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
        if (len == room) {
            rc = colo_fail(err, COLO_ERR_PROTOCOL, "control-reply",
                           "the monitor's answer has no end");
            goto fail;
        }
        r = recv(fd, buf + len, room - len, MSG_DONTWAIT);
        if (r > 0) {
            char *end = memchr(buf + len, '\n', (size_t)r);

            len += (size_t)r;
            if (end) {
                *end = '\0';
                *line = buf;
                return 0;
            }
        } else if (r == 0 || errno == ECONNRESET) {
            rc = not_protected(domid, err);
            goto fail;
        } else if (errno == EAGAIN) {
            rc = wait_fd(fd, POLLIN, deadline, domid, err);
            if (rc)
                goto fail;
        } else if (errno != EINTR) {
            rc = colo_fail_errno(err, errno, "cannot read from the monitor of domain %" PRIu32,
                                 domid);
            goto fail;
        }
    }
fail:
    free(buf);
    return rc;
}

int colo_control_request_text(uint32_t domid, const char *command, colo_time deadline, char **line,
                              struct colo_err *err)
{
    struct colo_json_gen *g;
    char *json = NULL, *request = NULL;
    int fd, rc;

    *line = NULL;
    if (colo_control_connect(domid, &fd, err))
        return -1;
    g = colo_json_gen_new(false);
    if (g) {
        colo_json_open(g, NULL);
        colo_json_put_str(g, "command", command);
        colo_json_close(g);
        json = colo_json_gen_finish(g);
    }
    if (!json || asprintf(&request, "%s\n", json) < 0) {
        request = NULL;
        rc = colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
        goto out;
    }
    rc = send_line(fd, domid, request, deadline, err);
    if (!rc)
        rc = read_line(fd, domid, deadline, line, err);
out:
    free(request);
    free(json);
    close(fd);
    return rc;
}

int colo_control_request(uint32_t domid, const char *command, colo_time deadline,
                         struct colo_json **reply, struct colo_err *err)
{
    char *line;
    int rc;

    *reply = NULL;
    if (colo_control_request_text(domid, command, deadline, &line, err))
        return -1;
    rc = colo_json_parse(line, strlen(line), reply, err);
    if (rc)
        colo_err_prefix(err, "the answer of the monitor of domain %" PRIu32, domid);
    free(line);
    return rc;
}

/* The number in "NUMBER.sock"; false for any other name. */
static bool socket_domid(const char *name, uint32_t *domid)
{
    unsigned long long n;
    char *end;

    if (name[0] < '0' || name[0] > '9')
        return false;
    errno = 0;
    n = strtoull(name, &end, 10);
    *domid = (uint32_t)n;
    return !errno && n <= UINT32_MAX && !strcmp(end, ".sock");
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

int colo_control_list(uint32_t **domids, size_t *n, struct colo_err *err)
{
    DIR *dir = opendir(COLO_RUN_DIR);
    uint32_t *list = NULL, *longer, domid;
    struct colo_err why = {0};
    struct sockaddr_un sun;
    struct dirent *entry;
    int fd;

    *domids = NULL;
    *n = 0;
    if (!dir && errno == ENOENT)
        return 0; /* there has been no session since the host was started */
    if (!dir)
        return colo_fail_errno(err, errno, "cannot read %s", COLO_RUN_DIR);
    while ((entry = readdir(dir))) {
        if (!socket_domid(entry->d_name, &domid))
            continue;
        if (!colo_control_connect(domid, &fd, &why)) {
            close(fd);
        } else if (!strcmp(why.reason, "not-protected")) {
            colo_control_address(domid, &sun);
            unlink(sun.sun_path);
            continue;
        }
        longer = realloc(list, (*n + 1) * sizeof(*list));
        if (!longer) {
            free(list);
            closedir(dir);
            *n = 0;
            return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
        }
        list = longer;
        list[(*n)++] = domid;
    }
    closedir(dir);
    if (*n)
        qsort(list, *n, sizeof(*list), ascending);
    *domids = list;
    return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * A QMP client.  The device model is not trusted more than a peer: a guest may have taken it over.
 * What it sends is bounded in size (a line, the queue of events) and in time (each call's deadline),
 * and after the first thing that is no QMP the connection is not used again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxl_qmp_priv.h"

/* The connection ends here; every later call reports the same. */
static int broke(struct colo_qmp *q, struct colo_err *err)
{
    q->pending = false;
    if (err)
        *err = q->broken;
    return -1;
}

static int gone(struct colo_qmp *q, struct colo_err *err)
{
    colo_fail(&q->broken, COLO_ERR_LOCAL, "qmp-gone",
              "the device model closed its QMP connection%s%s", q->pending ? " during " : "",
              q->pending ? q->command : "");
    return broke(q, err);
}

int colo_qmp_check(struct colo_qmp *q, struct colo_err *err)
{
    q->late = 0;
    return q->broken.cls == COLO_OK ? 0 : broke(q, err);
}

/* When somebody wants to know that the reply is late; never, once he knows. */
static colo_time tell_late(struct colo_qmp *q)
{
    if (!q->pending || !q->tell.call || !q->tell.at)
        return COLO_NO_DEADLINE;
    if (q->tell.at > colo_now())
        return q->tell.at;
    q->tell.at = q->tell.call(q->tell.priv) ? colo_now() + q->tell.after : 0;
    return q->tell.at ? q->tell.at : COLO_NO_DEADLINE;
}

/* Wait for events on the socket.  What has come is taken even after the deadline (the caller may
 * have been busy while the reply lay there), but a stream without end does not hold us. */
static int wait_fd(struct colo_qmp *q, short events, colo_time deadline, const char *what,
                   struct colo_err *err)
{
    struct pollfd p[2] = {{.fd = q->fd, .events = events}, {.fd = q->cancel_fd, .events = POLLIN}};
    colo_time wake;
    int r;

    for (;;) {
        r = poll(p, 2, 0);
        if (r == 0) { /* what lay there while the caller was busy was not late */
            wake = tell_late(q);
            r = poll(p, 2, colo_poll_ms(wake < deadline ? wake : deadline));
        }
        if (r < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for the device model");
        if (r > 0 && p[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "QMP %s was cancelled", what);
        if (r > 0 && p[0].revents && (deadline > colo_now() || q->late++ < QMP_LATE_MAX))
            return 0;
        if (deadline <= colo_now())
            return colo_fail(err, COLO_ERR_TIMEOUT, "qmp-timeout",
                             "the device model did not answer QMP %s in time", what);
    }
}

static int send_all(struct colo_qmp *q, const char *text, size_t len, colo_time deadline,
                    struct colo_err *err)
{
    struct colo_err why;
    ssize_t r;
    size_t sent = 0;

    while (sent < len) {
        r = send(q->fd, text + sent, len - sent, MSG_NOSIGNAL);
        if (r >= 0) {
            sent += (size_t)r;
        } else if (errno == EAGAIN) {
            if (wait_fd(q, POLLOUT, deadline, q->command, &why) == 0)
                continue;
            if (sent) /* half a command: nothing can follow it */
                q->broken = why;
            if (err)
                *err = why;
            return -1;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return gone(q, err);
        } else if (errno != EINTR) {
            colo_fail_errno(&q->broken, errno, "sending QMP %s", q->command);
            return broke(q, err);
        }
    }
    return 0;
}

int colo_qmp_receive(struct colo_qmp *q, colo_time deadline, const char *what, struct colo_err *err)
{
    size_t room;
    char *buf;
    ssize_t r;

    if (q->have == q->room) {
        room = q->room ? q->room * 2 : 16384;
        if (q->room >= QMP_LINE_MAX) {
            colo_fail(&q->broken, COLO_ERR_PROTOCOL, "qmp-garbage",
                      "the device model sent a QMP line of more than %zu bytes", QMP_LINE_MAX);
            return broke(q, err);
        }
        buf = realloc(q->buf, room);
        if (!buf)
            return colo_fail_errno(err, ENOMEM, "QMP reply");
        q->buf = buf;
        q->room = room;
    }
    for (;;) {
        if (wait_fd(q, POLLIN, deadline, what, err) < 0)
            return -1;
        r = recv(q->fd, q->buf + q->have, q->room - q->have, 0);
        if (r > 0)
            break;
        if (r == 0 || errno == ECONNRESET)
            return gone(q, err);
        if (errno != EINTR && errno != EAGAIN) {
            colo_fail_errno(&q->broken, errno, "reading from the device model");
            return broke(q, err);
        }
    }
    q->have += (size_t)r;
    return 0;
}

/* The next message, which is an object; *text is the length of its line. */
static int next_message(struct colo_qmp *q, colo_time deadline, const char *what,
                        struct colo_json **msg, size_t *text, struct colo_err *err)
{
    char *end;
    int rc;

    for (;;) {
        end = q->have > q->seen ? memchr(q->buf + q->seen, '\n', q->have - q->seen) : NULL;
        if (!end) {
            q->seen = q->have;
            if (colo_qmp_receive(q, deadline, what, err) < 0)
                return -1;
            continue;
        }
        *text = (size_t)(end - q->buf) + 1;
        rc = 1;
        if (strspn(q->buf, " \t\r\n") < *text) /* ends at the line's last, visible byte */
            rc = colo_json_parse(q->buf, *text, msg, &q->broken);
        memmove(q->buf, q->buf + *text, q->have - *text);
        q->have -= *text;
        q->seen = 0;
        if (rc < 0) {
            q->broken.cls = COLO_ERR_PROTOCOL;
            snprintf(q->broken.reason, sizeof(q->broken.reason), "qmp-garbage");
            colo_err_prefix(&q->broken, "the device model's QMP reply to %s", what);
            return broke(q, err);
        }
        if (rc == 0)
            return 0;
    }
}

int colo_qmp_take(struct colo_qmp *q, colo_time deadline, const char *what,
                  struct colo_json **reply, struct colo_err *err)
{
    struct colo_json *msg;
    const struct colo_json *error;
    size_t text;
    int64_t id;

    *reply = NULL;
    if (next_message(q, deadline, what, &msg, &text, err) < 0)
        return -1;
    if (colo_json_get_str(msg, "event")) {
        colo_qmp_queue_event(q, msg, text);
        return 0;
    }
    error = colo_json_get(msg, "error");
    /* QEMU leaves the id out when it could not read the command, which is then the last one. */
    id = colo_json_get_int(msg, "id", error && !colo_json_get(msg, "id") ? q->last_id : 0);
    if ((error || colo_json_get(msg, "return")) && id == q->last_id && q->pending) {
        *reply = msg;
        return 0;
    }
    if ((error || colo_json_get(msg, "return")) && id > 0 &&
        (id < q->last_id || id == q->posted_id || (id >= QMP_URGENT && id <= q->urgent_id))) {
        colo_json_free(msg); /* that command was given up */
        return 0;
    }
    colo_json_free(msg);
    colo_fail(&q->broken, COLO_ERR_PROTOCOL, "qmp-garbage",
              "the device model sent a QMP message that is neither event nor the reply to %s",
              what);
    return broke(q, err);
}

int colo_qmp_start(struct colo_qmp *q, const char *command, const char *arguments,
                   colo_time deadline, struct colo_err *err)
{
    char *text = NULL;
    int len, rc;

    if (colo_qmp_check(q, err) < 0)
        return -1;
    if (q->pending)
        return colo_fail(err, COLO_ERR_LOCAL, "qmp", "QMP %s while %s is not finished", command,
                         q->command);
    snprintf(q->command, sizeof(q->command), "%s", command);
    len =
        asprintf(&text, "{\"execute\":\"%s\",\"id\":%lld%s%s}\n", command, (long long)++q->last_id,
                 arguments ? ",\"arguments\":" : "", arguments ? arguments : "");
    if (len < 0)
        return colo_fail_errno(err, ENOMEM, "QMP %s", command);
    rc = send_all(q, text, (size_t)len, deadline, err);
    free(text);
    q->pending = rc == 0;
    q->tell.at = colo_now() + q->tell.after;
    return rc;
}

bool colo_qmp_has_urgent(const struct colo_qmp *q)
{
    return q->oob;
}

int colo_qmp_urgent(struct colo_qmp *q, const char *command, const char *arguments,
                    colo_time deadline, struct colo_err *err)
{
    char *text = NULL;
    int len, rc;

    if (!q->oob)
        return colo_fail(err, COLO_ERR_REFUSED, "qmp-no-oob",
                         "this device model (QEMU %s) takes no commands out of band", q->version);
    if (q->broken.cls != COLO_OK)
        return broke(q, err);
    len = asprintf(&text, "{\"exec-oob\":\"%s\",\"id\":%lld%s%s}\n", command,
                   (long long)++q->urgent_id, arguments ? ",\"arguments\":" : "",
                   arguments ? arguments : "");
    if (len < 0)
        return colo_fail_errno(err, ENOMEM, "QMP %s", command);
    rc = send_all(q, text, (size_t)len, deadline, err);
    free(text);
    return rc;
}

void colo_qmp_on_late(struct colo_qmp *q, colo_time after, bool (*late)(void *priv), void *priv)
{
    q->tell.after = after;
    q->tell.call = late;
    q->tell.priv = priv;
    q->tell.at = 0;
}

int colo_qmp_post(struct colo_qmp *q, const char *command, const char *arguments,
                  colo_time deadline, struct colo_err *err)
{
    if (colo_qmp_start(q, command, arguments, deadline, err) < 0)
        return -1;
    q->pending = false; /* as if it had been given up */
    q->posted_id = q->last_id;
    return 0;
}

/* `ret` is part of the reply; a caller that wants it gets a tree of its own. */
static int hand_out(struct colo_json *reply, const char *command, struct colo_json **ret,
                    struct colo_err *err)
{
    const struct colo_json *error = colo_json_get(reply, "error");
    const char *desc = colo_json_get_str(error, "desc");

    if (error)
        return colo_fail(err, COLO_ERR_LOCAL, "qmp", "QMP %s: %s", command,
                         desc ? desc : "an error without a description");
    if (ret) {
        *ret = colo_json_take(reply, "return");
        if (!*ret)
            return colo_fail_errno(err, ENOMEM, "QMP %s", command);
    }
    return 0;
}

int colo_qmp_finish(struct colo_qmp *q, colo_time deadline, struct colo_json **ret,
                    struct colo_err *err)
{
    struct colo_json *reply = NULL;
    int rc;

    if (ret)
        *ret = NULL;
    if (colo_qmp_check(q, err) < 0)
        return -1;
    if (!q->pending)
        return colo_fail(err, COLO_ERR_LOCAL, "qmp", "no QMP command to wait for");
    while (!reply) {
        if (colo_qmp_take(q, deadline, q->command, &reply, err) < 0) {
            q->pending = false;
            return -1;
        }
    }
    q->pending = false;
    rc = hand_out(reply, q->command, ret, err);
    colo_json_free(reply);
    return rc;
}

int colo_qmp_cmd(struct colo_qmp *q, const char *command, const char *arguments, colo_time deadline,
                 struct colo_json **ret, struct colo_err *err)
{
    if (ret)
        *ret = NULL;
    if (colo_qmp_start(q, command, arguments, deadline, err) < 0)
        return -1;
    return colo_qmp_finish(q, deadline, ret, err);
}

int colo_qmp_fd(const struct colo_qmp *q)
{
    return q->fd;
}

const char *colo_qmp_version(const struct colo_qmp *q)
{
    return q->version;
}

/* {"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package": "..."}, ...}} */
static int greet(struct colo_qmp *q, colo_time deadline, struct colo_err *err)
{
    const struct colo_json *version, *qemu, *can;
    struct colo_json *msg;
    const char *package;
    size_t text;

    if (next_message(q, deadline, "greeting", &msg, &text, err) < 0)
        return -1;
    version = colo_json_get(colo_json_get(msg, "QMP"), "version");
    qemu = colo_json_get(version, "qemu");
    if (!qemu) {
        colo_json_free(msg);
        return colo_fail(err, COLO_ERR_PROTOCOL, "qmp-garbage",
                         "what answers there is no QMP server: it did not greet");
    }
    package = colo_json_get_str(version, "package");
    can = colo_json_get(colo_json_get(msg, "QMP"), "capabilities");
    for (size_t i = 0; i < colo_json_len(can); i++)
        q->oob |= !strcmp(colo_json_str(colo_json_at(can, i)) ?: "", "oob");
    snprintf(q->version, sizeof(q->version), "%lld.%lld.%lld%s%s%s",
             (long long)colo_json_get_int(qemu, "major", 0),
             (long long)colo_json_get_int(qemu, "minor", 0),
             (long long)colo_json_get_int(qemu, "micro", 0), package && *package ? " (" : "",
             package ? package : "", package && *package ? ")" : "");
    colo_json_free(msg);
    return 0;
}

int colo_qmp_open_fd(int fd, int cancel_fd, colo_time deadline, struct colo_qmp **out,
                     struct colo_err *err)
{
    struct colo_qmp *q = calloc(1, sizeof(*q));
    int flags = fcntl(fd, F_GETFL);

    *out = NULL;
    if (!q || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        colo_fail_errno(err, q ? errno : ENOMEM, "QMP connection");
        free(q);
        close(fd);
        return -1;
    }
    q->fd = fd;
    q->cancel_fd = cancel_fd;
    q->urgent_id = QMP_URGENT - 1;
    if (greet(q, deadline, err) < 0 ||
        colo_qmp_cmd(q, "qmp_capabilities", q->oob ? "{\"enable\":[\"oob\"]}" : NULL, deadline,
                     NULL, err) < 0) {
        colo_qmp_close(q);
        return -1;
    }
    *out = q;
    return 0;
}

int colo_qmp_open(const char *path, int cancel_fd, colo_time deadline, struct colo_qmp **out,
                  struct colo_err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd, e;

    *out = NULL;
    if (strlen(path) >= sizeof(sa.sun_path))
        return colo_fail_errno(err, ENAMETOOLONG, "QMP socket %s", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return colo_fail_errno(err, errno, "QMP socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        e = errno;
        close(fd);
        if (e == EAGAIN) /* the queue of a listening socket is full */
            return colo_fail(err, COLO_ERR_LOCAL, "qmp-busy",
                             "QMP socket %s: other programs are waiting for it already", path);
        return colo_fail_errno(err, e, "QMP socket %s", path);
    }
    if (colo_qmp_open_fd(fd, cancel_fd, deadline, out, err) == 0)
        return 0;
    if (err && err->cls == COLO_ERR_TIMEOUT) /* QEMU serves one client at a time */
        colo_fail(err, COLO_ERR_TIMEOUT, "qmp-busy",
                  "QMP socket %s did not greet in time: another program may hold it", path);
    else
        colo_err_prefix(err, "QMP socket %s", path);
    return -1;
}

void colo_qmp_close(struct colo_qmp *q)
{
    if (!q)
        return;
    colo_qmp_free_events(q);
    close(q->fd);
    free(q->buf);
    free(q);
}

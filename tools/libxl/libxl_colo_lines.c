/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void colo_lines_init(struct colo_lines *l)
{
    memset(l, 0, sizeof(*l));
    l->fd = -1;
}

int colo_lines_open(struct colo_lines *l, int fd)
{
    colo_lines_init(l);
    l->in = malloc(COLO_LINE_MAX);
    l->fd = fd;
    if (l->in)
        return 0;
    colo_lines_close(l);
    return -1;
}

void colo_lines_close(struct colo_lines *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->in);
    free(l->out);
    colo_lines_init(l);
}

bool colo_lines_flush(struct colo_lines *l)
{
    ssize_t n;

    while (l->out_len > 0) {
        n = send(l->fd, l->out, l->out_len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        memmove(l->out, l->out + n, l->out_len - (size_t)n);
        l->out_len -= (uint32_t)n;
    }
    return true;
}

bool colo_lines_say(struct colo_lines *l, const char *line)
{
    size_t len = strlen(line);
    char *larger = NULL;

    if (l->out_len + len + 1 <= COLO_REPLY_MAX)
        larger = realloc(l->out, l->out_len + len + 1);
    if (!larger)
        return false;
    l->out = larger;
    memcpy(l->out + l->out_len, line, len);
    l->out[l->out_len + len] = '\n';
    l->out_len += (uint32_t)len + 1;
    return colo_lines_flush(l);
}

/* All whole lines that are here. */
static bool serve(struct colo_lines *l, colo_lines_answer *answer, void *priv)
{
    char *end, *reply;
    bool there;
    size_t len;

    while ((end = memchr(l->in, '\n', l->in_len))) {
        len = (size_t)(end - l->in);
        reply = answer(priv, l->in, len);
        there = reply && l->fd >= 0 && colo_lines_say(l, reply);
        free(reply);
        if (!there)
            return false;
        l->in_len -= (uint32_t)len + 1;
        memmove(l->in, end + 1, l->in_len);
    }
    return l->in_len < COLO_LINE_MAX;
}

bool colo_lines_hear(struct colo_lines *l, colo_lines_answer *answer, void *priv)
{
    ssize_t n;

    for (;;) {
        n = recv(l->fd, l->in + l->in_len, COLO_LINE_MAX - l->in_len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        l->in_len += (uint32_t)n;
        if (!serve(l, answer, priv))
            return false;
    }
}

void colo_request_put_error(struct colo_json_gen *g, const struct colo_err *err)
{
    colo_json_open(g, "error");
    colo_json_put_str(g, "reason", err->reason);
    colo_json_put_str(g, "message", err->msg);
    colo_json_close(g);
}

int colo_request_bad(struct colo_err *err, const char *what)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "bad-request", "%s is missing or wrong", what);
}

char *colo_request_answer(const char *line, size_t len, colo_request *run, void *priv)
{
    struct colo_json_gen *g = colo_json_gen_new(false);
    struct colo_json *q = NULL;
    struct colo_err err = {0};
    const char *name;
    int rc;

    if (!g)
        return NULL;
    colo_json_open(g, NULL);
    rc = colo_json_parse(line, len, &q, &err);
    if (rc == 0) {
        name = colo_json_get_str(q, "do");
        rc = run(priv, name ? name : "", q, g, &err);
    }
    if (rc)
        colo_request_put_error(g, &err);
    else
        colo_json_put_bool(g, "ok", true);
    colo_json_close(g);
    colo_json_free(q);
    return colo_json_gen_finish(g);
}

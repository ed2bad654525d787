/* SPDX-License-Identifier: GPL-2.0-only */
/* The requests of docs/specs/disk-control.md. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"

typedef int request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                    struct colo_json_gen *g, struct colo_err *err);

#define LONGEST_WAIT 600000 /* ms */

static int number_of(const struct colo_json *q, uint64_t *n, struct colo_err *err)
{
    int64_t value = colo_json_get_int(q, "checkpoint", 0);

    *n = (uint64_t)value;
    return value > 0 ? 0 : colo_request_bad(err, "checkpoint");
}

static int time_of(const struct colo_json *q, const char *key, colo_time dflt, colo_time *t,
                   struct colo_err *err)
{
    int64_t ms = colo_json_get_int(q, key, dflt / COLO_MS);

    if (ms < 1 || ms > LONGEST_WAIT)
        return colo_request_bad(err, key);
    *t = ms * COLO_MS;
    return 0;
}

/* ---- what it is doing ---- */

static void put_overlay(struct colo_json_gen *g, const struct colo_overlay_stats *o)
{
    colo_json_open(g, "overlay");
    colo_json_put_int(g, "active_blocks", (int64_t)o->active);
    colo_json_put_int(g, "hidden_blocks", (int64_t)o->hidden);
    colo_json_put_int(g, "memory", (int64_t)o->memory);
    colo_json_put_int(g, "memory_cap", (int64_t)o->cap);
    colo_json_put_int(g, "index", (int64_t)o->index);
    colo_json_put_int(g, "spilled", (int64_t)o->spilled);
    colo_json_close(g);
}

static int status_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                          struct colo_json_gen *g, struct colo_err *err)
{
    struct colo_disk_status st;

    (void)c;
    (void)q;
    (void)err;
    colo_disk_get_status(s->disk, &st);
    colo_json_put_str(g, "state", colo_disk_state_name(st.state));
    colo_json_put_int(g, "pid", getpid());
    colo_json_put_int(g, "port", s->port);
    colo_json_put_int(g, "size", (int64_t)st.size);
    colo_json_put_int(g, "checkpoint", (int64_t)st.checkpoint);
    colo_json_put_int(g, "prepared", (int64_t)st.prepared);
    colo_json_put_int(g, "guests", __atomic_load_n(&s->guests, __ATOMIC_RELAXED));
    put_overlay(g, &st.overlay);
    colo_json_open(g, "fold");
    colo_json_put_int(g, "done", (int64_t)st.fold_done);
    colo_json_put_int(g, "total", (int64_t)st.fold_total);
    colo_json_put_str(g, "journal", st.journal);
    colo_json_close(g);
    /* not "error": that is of a request which failed */
    colo_json_put_str(g, "failure", st.error.cls ? st.error.reason : NULL);
    colo_json_put_str(g, "failure_message", st.error.cls ? st.error.msg : NULL);
    return 0;
}

static int stats_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                         struct colo_json_gen *g, struct colo_err *err)
{
    static const char *const names[COLO_DISK_EXPORTS] = {"primary", "secondary"};
    struct colo_disk_status st;

    (void)c;
    (void)q;
    (void)err;
    colo_disk_get_status(s->disk, &st);
    for (int e = 0; e < COLO_DISK_EXPORTS; e++) {
        const struct colo_disk_counts *n = &st.counts[e];

        colo_json_open(g, names[e]);
        colo_json_put_int(g, "reads", (int64_t)n->reads);
        colo_json_put_int(g, "bytes_read", (int64_t)n->bytes_read);
        colo_json_put_int(g, "writes", (int64_t)n->writes);
        colo_json_put_int(g, "bytes_written", (int64_t)n->bytes_written);
        colo_json_put_int(g, "zeroes", (int64_t)n->zeroes);
        colo_json_put_int(g, "trims", (int64_t)n->trims);
        colo_json_put_int(g, "flushes", (int64_t)n->flushes);
        colo_json_put_int(g, "errors", (int64_t)n->errors);
        colo_json_close(g);
    }
    put_overlay(g, &st.overlay);
    colo_json_put_int(g, "checkpoint", (int64_t)st.checkpoint);
    colo_json_put_int(g, "checkpoint_us", (int64_t)st.checkpoint_ns / 1000);
    colo_json_put_int(g, "checkpoint_us_most", (int64_t)st.checkpoint_ns_most / 1000);
    return 0;
}

/* ---- checkpoints ---- */

static void let_go(struct disk_server *s)
{
    s->holder = NULL;
    s->hold_until = COLO_NO_DEADLINE;
}

static int prepare_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                           struct colo_json_gen *g, struct colo_err *err)
{
    colo_time wait = 0, hold = 0;
    uint64_t n;

    (void)g;
    if (number_of(q, &n, err) || time_of(q, "timeout_ms", DISK_WAIT, &wait, err) ||
        time_of(q, "hold_ms", DISK_HOLD, &hold, err) || colo_disk_prepare(s->disk, n, wait, err))
        return -1;
    s->holder = c;
    s->hold_until = colo_now() + hold;
    return 0;
}

static int commit_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                          struct colo_json_gen *g, struct colo_err *err)
{
    uint64_t n;

    (void)c;
    (void)g;
    if (number_of(q, &n, err) || colo_disk_commit(s->disk, n, err))
        return -1;
    let_go(s);
    return 0;
}

static int checkpoint_request(struct disk_server *s, struct disk_client *c,
                              const struct colo_json *q, struct colo_json_gen *g,
                              struct colo_err *err)
{
    return prepare_request(s, c, q, g, err) || commit_request(s, c, q, g, err) ? -1 : 0;
}

static int cancel_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                          struct colo_json_gen *g, struct colo_err *err)
{
    (void)c;
    (void)q;
    (void)g;
    (void)err;
    colo_disk_cancel(s->disk);
    let_go(s);
    return 0;
}

/* ---- the end of the lock-step ---- */

static int takeover_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                            struct colo_json_gen *g, struct colo_err *err)
{
    colo_time wait = 0;

    (void)c;
    (void)g;
    if (time_of(q, "timeout_ms", DISK_WAIT, &wait, err) || colo_disk_takeover(s->disk, wait, err))
        return -1;
    let_go(s);
    return 0;
}

static int abort_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                         struct colo_json_gen *g, struct colo_err *err)
{
    (void)c;
    (void)q;
    (void)g;
    if (colo_disk_abort(s->disk, err))
        return -1;
    let_go(s);
    s->quit = true;
    return 0;
}

static int end_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                       struct colo_json_gen *g, struct colo_err *err)
{
    struct colo_disk_status st;

    (void)c;
    (void)q;
    (void)g;
    colo_disk_get_status(s->disk, &st);
    if (st.state != COLO_DISK_STANDALONE)
        return colo_fail(err, COLO_ERR_PROTOCOL, "disk-phase", "end: the disk is %s",
                         colo_disk_state_name(st.state));
    s->quit = true;
    return 0;
}

static int watch_request(struct disk_server *s, struct disk_client *c, const struct colo_json *q,
                         struct colo_json_gen *g, struct colo_err *err)
{
    (void)s;
    (void)q;
    (void)g;
    (void)err;
    c->watches = true;
    return 0;
}

/* ---- ---- */

char *disk_event(struct disk_server *s, const struct colo_disk_status *st)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    (void)s;
    if (!g)
        return NULL;
    colo_json_open(g, NULL);
    colo_json_put_str(g, "event", "state");
    colo_json_put_str(g, "state", colo_disk_state_name(st->state));
    colo_json_put_str(g, "failure", st->error.cls ? st->error.reason : NULL);
    colo_json_put_str(g, "failure_message", st->error.cls ? st->error.msg : NULL);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

static int run(void *priv, const char *name, const struct colo_json *q, struct colo_json_gen *g,
               struct colo_err *err)
{
    static const struct {
        const char *name;
        request *run;
    } requests[] = {
        {"status", status_request},     {"stats", stats_request},
        {"prepare", prepare_request},   {"commit", commit_request},
        {"cancel", cancel_request},     {"checkpoint", checkpoint_request},
        {"takeover", takeover_request}, {"abort", abort_request},
        {"end", end_request},           {"watch", watch_request},
    };
    struct disk_asking *a = priv;

    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        if (!strcmp(name, requests[i].name))
            return requests[i].run(a->s, a->c, q, g, err);
    return colo_request_bad(err, "what to do");
}

char *disk_answer(void *asking, const char *line, size_t len)
{
    return colo_request_answer(line, len, run, asking);
}

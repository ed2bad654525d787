/* SPDX-License-Identifier: GPL-2.0-only */
#include "sessionlib.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_colo_monitor_priv.h"

#define GUEST_GFNS  300
#define GUEST_RAM   256
#define COPY_WRITES 5

static struct sl_pair *now;                  /* what the domains' ops below belong to */
static struct xc_sr_domain_ops p_ops, q_ops; /* the mem domain's, some of them led through here */
static const struct xc_sr_domain_ops *mem_ops;

static void scribble(struct xc_sr_domain *d, uint64_t *rng, unsigned int n)
{
    while (n--) {
        uint64_t v = tl_rand(rng);

        xc_sr_mem_guest_write(d, tl_below(rng, GUEST_RAM), tl_below(rng, 4096 - 8), &v, sizeof(v));
    }
}

/* What the copy writes of its own after a checkpoint. */
static void copy_writes(struct xc_sr_domain *d, uint64_t checkpoint)
{
    uint64_t rng = 77 + checkpoint;

    scribble(d, &rng, COPY_WRITES);
}

static void signal_fd(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

/* The primary's host, or the link to it, is dead: no beats, and nothing is answered. */
static void freeze(struct sl_pair *t)
{
    struct pollfd over = {.fd = t->over_fd, .events = POLLIN};

    colo_heartbeat_stop(&t->p.s.hb);
    if (poll(&over, 1, colo_poll_ms(tl_soon())) != 1)
        abort();
}

static void command(struct sl_pair *t, enum colo_monitor_cmd cmd)
{
    struct colo_monitor_msg msg = {.type = COLO_MSG_COMMAND, .value = cmd};

    if (send(t->monitor_fd, &msg, sizeof(msg), MSG_NOSIGNAL) != sizeof(msg))
        abort();
}

/* The primary's guest between checkpoints. */
static int primary_event(void *priv, struct colo_err *err)
{
    struct sl_pair *t = priv;
    uint64_t context[64];

    (void)err;
    if (t->p.s.shared->status.checkpoints >= t->stop_at) {
        switch (t->stop) {
        case SL_CANCEL:
            signal_fd(t->cancel_fd);
            break;
        case SL_FREEZE:
            freeze(t);
            break;
        case SL_FAILOVER:
            command(t, COLO_CMD_FAILOVER);
            break;
        case SL_STOP:
            command(t, COLO_CMD_STOP);
            break;
        }
        t->stop_at = UINT_MAX;
    }
    scribble(t->p.s.dom, &t->rng, 1);
    tl_fill(&t->rng, context, sizeof(context));
    xc_sr_mem_set_devices(t->p.s.dom, context, sizeof(context));
    t->writes++;
    return 0;
}

/* The primary's guest is suspended for this checkpoint: keep it as it is now. */
static void keep_image(struct sl_pair *t, uint64_t checkpoint)
{
    struct xc_sr_domain *image = t->image[checkpoint % 2], *d = t->p.s.dom;
    struct colo_err e = {0};
    size_t len;
    void *buf;

    for (uint64_t gfn = 0; gfn < GUEST_RAM; gfn++)
        memcpy(xc_sr_mem_page(image, gfn), xc_sr_mem_page(d, gfn), XC_PAGE_BYTES);
    if (mem_ops->devices_save(d, &buf, &len, &e))
        abort();
    xc_sr_mem_set_devices(image, buf, len);
    free(buf);
    t->image_of[checkpoint % 2] = checkpoint;
}

static int primary_devices_save(struct xc_sr_domain *d, void **buf, size_t *len,
                                struct colo_err *err)
{
    uint64_t checkpoint = now->p.s.ls.tag.checkpoint;

    if (xc_sr_mem_is_suspended(d))
        keep_image(now, checkpoint);
    if (checkpoint == now->freeze_in)
        freeze(now);
    return mem_ops->devices_save(d, buf, len, err);
}

/* The copy's guest runs from a checkpoint on. */
static int secondary_resume(struct xc_sr_domain *d, struct colo_err *err)
{
    const struct colo_status *st = &now->q.s.shared->status;

    if (mem_ops->resume(d, err))
        return -1;
    if (st->state == COLO_STATE_CHECKPOINT_RESUME)
        copy_writes(d, st->checkpoints + 1);
    return 0;
}

static int secondary_first_run(void *priv, struct colo_err *err)
{
    struct sl_pair *t = priv;

    return t->q.s.dom->ops->resume(t->q.s.dom, err);
}

static int secondary_become_guest(void *priv, struct colo_err *err)
{
    struct sl_pair *t = priv;

    (void)err;
    t->became_guest = true;
    return 0;
}

static struct xc_sr_domain *new_domain(uint64_t ram)
{
    struct xc_sr_mem_config cfg = {.nr_gfns = GUEST_GFNS, .populated = ram};
    struct xc_sr_domain *d;
    struct colo_err e = {0};

    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &e), &e);
    return d;
}

static void open_domain(struct sl_side *x)
{
    struct colo_session *s = &x->s;
    struct colo_err e = {0};

    s->dom = new_domain(s->role == COLO_PRIMARY ? GUEST_RAM : GUEST_RAM + 8);
    mem_ops = s->dom->ops;
    if (s->role == COLO_PRIMARY) {
        p_ops = *mem_ops;
        p_ops.devices_save = primary_devices_save;
        s->dom->ops = &p_ops;
    } else {
        q_ops = *mem_ops;
        q_ops.resume = secondary_resume;
        s->dom->ops = &q_ops;
        tl_ok(s->dom->ops->suspend(s->dom, tl_soon(), &e), &e); /* built, and not yet run */
    }
    s->max_gfns = GUEST_GFNS;
}

static void side_init(struct sl_side *x, enum colo_role role, struct sl_pair *t, int end)
{
    struct colo_session *s = &x->s;
    struct colo_err e = {0};

    memset(x, 0, sizeof(*x));
    s->role = role;
    colo_config_defaults(&s->config);
    s->config.interval_max_ms = 1;
    s->config.interval_min_ms = 0;
    s->config.heartbeat_ms = 10;
    s->config.heartbeat_misses = 50;
    s->config.verify_every = 1;
    s->shared = colo_shared_new(&e);
    assert_non_null(s->shared);
    s->shared->status.role = role;
    s->hb.stop_fd = -1;
    s->hooks.priv = t;
    s->hooks.event_fd = role == COLO_PRIMARY ? t->event_fd : -1;
    if (role == COLO_PRIMARY) {
        s->hooks.guest_event = primary_event;
    } else {
        s->hooks.first_run = secondary_first_run;
        s->hooks.become_guest = secondary_become_guest;
        s->monitor = &t->monitor;
        s->shared->recovery.destroy = true;
    }
    open_domain(x);
    s->zero_pages = true;
    s->ls.ch = &s->ch;
    s->ls.tags = true;
    s->ls.tag.generation = 1;
    tl_ok(xc_sr_channel_init(&s->ch, tl_link_fd(t->link, end), tl_link_fd(t->link, end),
                             role == COLO_PRIMARY ? t->cancel_fd : -1, &e),
          &e);
    tl_ok(colo_session_alive(s, &e), &e);
}

static void side_fini(struct sl_side *x)
{
    colo_heartbeat_stop(&x->s.hb);
    xc_sr_channel_fini(&x->s.ch);
    x->s.dom->ops->close(x->s.dom);
    colo_shared_free(x->s.shared);
}

/* As the end of the side's process would: no more beats, and the end of its stream. */
static void leave(struct sl_side *x)
{
    colo_heartbeat_stop(&x->s.hb);
    shutdown(x->s.ch.wfd, SHUT_WR);
}

static void *primary_main(void *arg)
{
    struct sl_side *x = arg;
    struct sl_pair *t = x->s.hooks.priv;

    colo_save_run(&x->s, &x->err);
    poll(NULL, 0, (int)t->linger_ms); /* what is to be shown is that nothing happens meanwhile */
    leave(x);
    return NULL;
}

static void *secondary_main(void *arg)
{
    struct sl_side *x = arg;

    colo_restore_run(&x->s, &x->end, &x->err);
    leave(x);
    signal_fd(now->over_fd);
    return NULL;
}

void sl_open(struct sl_pair *t, const struct tl_rule *forward, const struct tl_rule *back,
             unsigned int stop_at)
{
    int sv[2];

    memset(t, 0, sizeof(*t));
    now = t;
    t->link = tl_link_open(forward, back);
    t->cancel_fd = eventfd(0, EFD_CLOEXEC);
    t->event_fd = eventfd(1, EFD_CLOEXEC);
    t->over_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    t->monitor.fd = sv[0];
    t->monitor_fd = sv[1];
    t->stop_at = stop_at;
    t->rng = 4711;
    for (int i = 0; i < 2; i++)
        t->image[i] = new_domain(GUEST_RAM);
    side_init(&t->p, COLO_PRIMARY, t, 0);
    side_init(&t->q, COLO_SECONDARY, t, 1);
    scribble(t->p.s.dom, &t->rng, 200);
}

void sl_silence(struct sl_pair *t, unsigned int ms)
{
    t->p.s.ch.silence = t->q.s.ch.silence = ms * COLO_MS;
}

void sl_run(struct sl_pair *t)
{
    assert_int_equal(pthread_create(&t->q.thread, NULL, secondary_main, &t->q), 0);
    assert_int_equal(pthread_create(&t->p.thread, NULL, primary_main, &t->p), 0);
    pthread_join(t->p.thread, NULL);
    pthread_join(t->q.thread, NULL);
}

void sl_close(struct sl_pair *t)
{
    side_fini(&t->p);
    side_fini(&t->q);
    for (int i = 0; i < 2; i++)
        t->image[i]->ops->close(t->image[i]);
    tl_link_close(t->link);
    close(t->monitor.fd);
    close(t->monitor_fd);
    close(t->cancel_fd);
    close(t->event_fd);
    close(t->over_fd);
}

void sl_assert_primary_runs(struct sl_pair *t)
{
    bool taken = colo_session_peer_said(&t->p.err, COLO_STOP_TAKEN);

    assert_int_equal(xc_sr_mem_is_suspended(t->p.s.dom), taken);
    assert_false(taken && t->q.end != COLO_RESTORE_TAKEN);
    assert_false(t->p.s.shared->recovery.suspended);
    assert_false(t->p.s.shared->recovery.logdirty);
}

void sl_assert_whole(struct sl_pair *t)
{
    uint64_t checkpoint = t->q.s.shared->status.checkpoints;
    struct xc_sr_domain *image = t->image[checkpoint % 2];
    char why[200] = "";

    tl_eq(t->image_of[checkpoint % 2], checkpoint);
    copy_writes(image, checkpoint);
    if (!xc_sr_mem_equal(image, t->q.s.dom, why, sizeof(why)))
        fail_msg("after checkpoint %llu: %s", (unsigned long long)checkpoint, why);
}

void sl_assert_taken(struct sl_pair *t)
{
    const struct colo_recovery *rec = &t->q.s.shared->recovery;
    const struct colo_status *st = &t->q.s.shared->status;

    tl_eq(t->q.end, COLO_RESTORE_TAKEN);
    tl_str_eq(colo_state_name(st->state), "TAKEOVER");
    assert_true(t->became_guest);
    assert_false(xc_sr_mem_is_suspended(t->q.s.dom));
    assert_false(rec->destroy || rec->suspended || rec->restore_name || rec->logdirty);
    tl_eq(st->generation, 1);
    sl_assert_whole(t);
}

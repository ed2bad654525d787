/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What both sides of a session share beyond the stream itself.
 */
#include "libxl_colo_session.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void colo_config_defaults(struct colo_config *c)
{
    memset(c, 0, sizeof(*c));
    c->interval_max_ms = 5000;
    c->interval_min_ms = 100;
    c->output_wait_ms = 200;
    snprintf(c->proxyscript, sizeof(c->proxyscript), "%s", COLO_DEFAULT_SCRIPT);
    c->heartbeat_ms = 100;
    c->heartbeat_misses = 5;
    c->takeover_on_silence = true;
}

int colo_session_alive(struct colo_session *s, struct colo_err *err)
{
    s->ch.silence = (colo_time)s->config.heartbeat_ms * s->config.heartbeat_misses * COLO_MS;
    s->ch.tag = &s->ls.tag;
    xc_sr_channel_listen(&s->ch);
    return colo_heartbeat_start(&s->hb, &s->ch, &s->ls.tag, s->config.heartbeat_ms, err);
}

void colo_session_say(struct colo_session *s, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (!s->ui.message)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    s->ui.message(s->ui.priv, "%s", line);
}

enum colo_monitor_cmd colo_session_command(struct colo_session *s)
{
    enum colo_monitor_cmd cmd;

    if (!s->monitor || s->monitor->fd < 0)
        return COLO_CMD_NONE;
    cmd = colo_monitor_command(s->monitor);
    if (s->monitor->fd < 0)
        colo_session_say(s,
                         "this session's monitor (process %d) has gone: there is no status any "
                         "more, and nobody to bring the guest back should this process be "
                         "killed; end protection and begin it anew",
                         (int)s->monitor->pid);
    return cmd;
}

void colo_session_count_bytes(struct colo_session *s)
{
    struct colo_status *st = colo_status_begin(s->shared);

    xc_sr_channel_bytes(&s->ch, &st->bytes_in, &st->bytes_out);
    colo_status_end(s->shared);
}

/*
 * A secondary that leaves is silent while it destroys its copy, and may have said why before; one that
 * takes over cuts its other connections, whose end can be noticed first.  The primary, whose guest runs
 * again, has the time to look; a takeover has not.
 */
static bool may_have_said_why(const struct colo_session *s, const struct colo_err *err)
{
    if (err->cls == COLO_ERR_PEER_EOF)
        return true;
    if (s->role != COLO_PRIMARY)
        return false;
    return err->cls == COLO_ERR_PEER_SILENT || !strcmp(err->reason, "disk-mirror") ||
           !strcmp(err->reason, "proxy-link");
}

void colo_session_explain(struct colo_session *s, struct colo_err *err)
{
    struct colo_err ignored = {0};
    struct xc_sr_record rec = {0};
    colo_time grace = s->ls.io_timeout, silence = s->ch.silence;

    if (s->ch.stop) { /* which may have come in the middle of libxc's part */
        libxl_stream_explain_stop(&s->ls, err);
        return;
    }
    if (!may_have_said_why(s, err))
        return;
    /* Whatever else was under way, the peer's last record may be its goodbye. */
    s->ls.io_timeout = COLO_T_GOODBYE;
    s->ch.silence = 0;
    libxl_stream_read_expected(&s->ls, LIBXL_SR_REC_COLO_STOP, 0, &rec, &ignored);
    xc_sr_record_free(&rec);
    if (s->ch.stop)
        libxl_stream_explain_stop(&s->ls, err);
    s->ls.io_timeout = grace;
    s->ch.silence = silence;
}

bool colo_session_peer_said(const struct colo_err *err, const char *reason)
{
    return err->cls == COLO_ERR_STOPPED && !strcmp(err->reason, reason);
}

bool colo_session_hand_over(struct colo_session *s, struct colo_err *err)
{
    colo_time until = colo_now() + COLO_T_HANDOVER;
    struct xc_sr_record rec = {0};
    struct colo_err answer = {0};

    if (err->cls != COLO_ERR_LOCAL || strcmp(err->reason, "qmp-gone") != 0 || s->ch.wspoilt)
        return false; /* nor when it is the peer's that has gone */
    colo_session_say(s, "%s: handing the guest over to %s", err->msg, s->shared->status.peer);
    colo_session_tell(s, COLO_STOP_BROKEN, err->msg);
    /* What else was under way comes before the answer. */
    while (!xc_sr_read_record(&s->ch, XC_SR_RECORD_MAX, until, &rec, &answer))
        xc_sr_record_free(&rec);
    if (!s->ch.stop)
        return false;
    libxl_stream_explain_stop(&s->ls, &answer);
    if (!colo_session_peer_said(&answer, COLO_STOP_TAKEN))
        return false;
    *err = answer;
    return true;
}

void colo_session_goodbye(struct colo_session *s, const struct colo_err *why)
{
    char reason[sizeof(why->reason) + 16];

    /* We are leaving: nobody needs to know that we live, and the channel is ours alone. */
    colo_heartbeat_stop(&s->hb);
    if (why->cls == COLO_ERR_PEER_EOF || why->cls == COLO_ERR_PEER_SILENT ||
        why->cls == COLO_ERR_STOPPED)
        return;
    snprintf(reason, sizeof(reason), "%s%s", why->cls == COLO_ERR_REFUSED ? "refused:" : "",
             why->reason);
    colo_session_tell(s, reason, why->msg);
}

void colo_session_tell(struct colo_session *s, const char *reason, const char *message)
{
    /* A session that is being cancelled must still be able to say so. */
    s->ch.cancel_fd = -1;
    s->ch.silence = 0;
    s->ls.limit = 0;
    s->ls.io_timeout = COLO_T_GOODBYE;
    if (libxl_stream_write_stop(&s->ls, reason, message, NULL))
        xc_sr_channel_hang_up(&s->ch); /* the end of the stream says the least of it */
}

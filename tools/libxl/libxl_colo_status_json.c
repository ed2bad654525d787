/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The status as JSON.  Scripts read this: a key is never renamed, and never changes its unit.
 */
#include "libxl_colo_shared.h"

#include <string.h>

#include "libxl_json.h"

/* Length of the UTF-8 sequence at s, of at most left bytes; 0 when there is none. */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c;
    size_t n, i;

    if (s[0] < 0x80)
        return 1;
    n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (!n || s[0] >= 0xf5 || n > left)
        return 0;
    c = s[0] & (0xffu >> (n + 1));
    for (i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    return c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

/* Some of these texts came from the peer, and a reader may have caught them half written: what is
 * no UTF-8, and control characters, become '?', so that what we write can be parsed and shown. */
static void put_text(struct colo_json_gen *g, const char *key, const char *text, size_t room)
{
    char copy[512];
    size_t len = strnlen(text, room < sizeof(copy) ? room : sizeof(copy) - 1);
    size_t i, n;

    memcpy(copy, text, len);
    copy[len] = '\0';
    for (i = 0; i < len; i += n) {
        n = utf8_len((const unsigned char *)copy + i, len - i);
        if (!n || (unsigned char)copy[i] < 0x20 || copy[i] == 0x7f) {
            copy[i] = '?';
            n = 1;
        }
    }
    colo_json_put_str(g, key, copy);
}
#define PUT_TEXT(g, key, array) put_text(g, key, array, sizeof(array))

/* A time that has not come yet is null. */
static void put_wall(struct colo_json_gen *g, const char *key, int64_t seconds)
{
    if (seconds)
        colo_json_put_int(g, key, seconds);
    else
        colo_json_put_str(g, key, NULL);
}

static void put_count(struct colo_json_gen *g, const char *key, uint64_t n)
{
    colo_json_put_int(g, key, n > INT64_MAX ? INT64_MAX : (int64_t)n);
}

static bool is_protected(const struct colo_status *st)
{
    return st->protected_since_wall != 0 && st->state >= COLO_STATE_LOCKSTEP &&
           st->state <= COLO_STATE_CHECKPOINT_RESUME;
}

static void put_pause(struct colo_json_gen *g, const struct colo_status *st)
{
    const struct colo_pause_steps *s = &st->last_steps;
    int64_t last, median, p99;

    colo_status_pauses(st, &last, &median, &p99);
    colo_json_open(g, "pause");
    put_count(g, "samples", st->pauses < COLO_PAUSE_SAMPLES ? st->pauses : COLO_PAUSE_SAMPLES);
    colo_json_put_int(g, "last_ns", last);
    colo_json_put_int(g, "median_ns", median);
    colo_json_put_int(g, "p99_ns", p99);
    colo_json_open(g, "steps");
    colo_json_put_int(g, "suspend_ns", s->suspend);
    colo_json_put_int(g, "peer_suspend_ns", s->peer_suspend);
    colo_json_put_int(g, "dirty_log_ns", s->dirty_log);
    colo_json_put_int(g, "pages_map_ns", s->pages_map);
    colo_json_put_int(g, "pages_write_ns", s->pages_write);
    colo_json_put_int(g, "context_ns", s->context);
    colo_json_put_int(g, "device_save_ns", s->device_save);
    colo_json_put_int(g, "peer_apply_ns", s->peer_apply);
    colo_json_put_int(g, "resume_ns", s->resume);
    colo_json_put_int(g, "total_ns", s->total);
    colo_json_put_int(g, "svm_suspend_ns", s->svm_suspend);
    colo_json_put_int(g, "svm_dirty_log_ns", s->svm_dirty_log);
    colo_json_put_int(g, "svm_stage_ns", s->svm_stage);
    colo_json_put_int(g, "svm_device_load_ns", s->svm_device_load);
    colo_json_put_int(g, "svm_memory_ns", s->svm_memory);
    colo_json_put_int(g, "svm_context_ns", s->svm_context);
    colo_json_close(g);
    colo_json_close(g);
}

static void put_differences(struct colo_json_gen *g, const struct colo_status *st)
{
    colo_json_open_array(g, "differences");
    for (int i = 0; i < COLO_MAX_DIFFERENCES && st->differences[i].why[0]; i++) {
        colo_json_open(g, NULL);
        PUT_TEXT(g, "why", st->differences[i].why);
        put_count(g, "count", st->differences[i].count);
        colo_json_close(g);
    }
    colo_json_close_array(g);
    PUT_TEXT(g, "last_difference", st->last_difference);
}

char *colo_status_json(const struct colo_status *st, bool pretty)
{
    struct colo_json_gen *g = colo_json_gen_new(pretty);
    int t;

    if (!g)
        return NULL;
    colo_json_open(g, NULL);
    PUT_TEXT(g, "guest", st->guest);
    colo_json_put_int(g, "domid", st->domid);
    PUT_TEXT(g, "uuid", st->uuid);
    colo_json_put_str(g, "role", colo_role_name(st->role));
    colo_json_put_str(g, "state", colo_state_name(st->state));
    colo_json_put_bool(g, "protected", is_protected(st));
    PUT_TEXT(g, "peer", st->peer);
    PUT_TEXT(g, "session", st->session);
    put_count(g, "generation", st->generation);
    put_wall(g, "started", st->started_wall);
    put_wall(g, "protected_since", st->protected_since_wall);

    put_count(g, "checkpoints", st->checkpoints);
    colo_json_open(g, "triggers");
    for (t = 0; t < COLO_NR_TRIGGERS; t++)
        put_count(g, colo_trigger_name((enum colo_trigger)t), st->triggers[t]);
    colo_json_close(g);
    colo_json_put_int(g, "interval_max_ms", st->interval_max_ms);
    colo_json_put_int(g, "interval_min_ms", st->interval_min_ms);
    colo_json_put_int(g, "heartbeat_ms", st->heartbeat_ms);
    colo_json_put_int(g, "heartbeat_misses", st->heartbeat_misses);
    put_pause(g, st);

    colo_json_open(g, "pages");
    put_count(g, "memory", st->mem_pages);
    put_count(g, "p_dirty", st->p_dirty);
    put_count(g, "s_dirty", st->s_dirty);
    put_count(g, "union_dirty", st->union_dirty);
    put_count(g, "sent", st->sent);
    put_count(g, "total_sent", st->total_sent);
    colo_json_close(g);
    put_count(g, "bytes_out", st->bytes_out);
    put_count(g, "bytes_in", st->bytes_in);
    put_count(g, "staging_peak_bytes", st->staging_peak);

    colo_json_open(g, "first_sync");
    colo_json_put_int(g, "round", st->sync_round);
    put_count(g, "pages_done", st->sync_done);
    put_count(g, "pages_total", st->sync_total);
    colo_json_put_int(g, "duration_ns", st->sync_ns);
    colo_json_close(g);

    colo_json_put_int(g, "takeover_ns", st->takeover_ns);
    put_count(g, "verified", st->verified);
    PUT_TEXT(g, "network", st->network);
    put_differences(g, st);
    PUT_TEXT(g, "disks", st->disks);
    PUT_TEXT(g, "policy", st->policy);
    PUT_TEXT(g, "last_reason", st->last_reason);
    PUT_TEXT(g, "last_error", st->last_error);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

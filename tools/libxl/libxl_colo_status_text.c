/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_status_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const struct colo_json *j, const char *key)
{
    const char *s = colo_json_get_str(j, key);

    return s && *s ? s : "-";
}

static double ms(const struct colo_json *j, const char *key)
{
    return (double)colo_json_get_int(j, key, 0) / 1e6;
}

static void row(FILE *f, const char *name)
{
    fprintf(f, "%-13s ", name);
}

static void put_size(FILE *f, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t u = 0;

    while (n >= 1024 && u + 1 < sizeof(units) / sizeof(units[0])) {
        n /= 1024;
        u++;
    }
    fprintf(f, u ? "%.1f %s" : "%.0f %s", n, units[u]);
}

static void put_age(FILE *f, int64_t seconds)
{
    if (seconds < 0)
        seconds = 0;
    if (seconds >= 86400)
        fprintf(f, "%" PRId64 "d ", seconds / 86400);
    fprintf(f, "%" PRId64 ":%02" PRId64 ":%02" PRId64, seconds / 3600 % 24, seconds / 60 % 60,
            seconds % 60);
}

static void put_state(FILE *f, const struct colo_json *st, int64_t now)
{
    int64_t since = colo_json_get_int(st, "protected_since", 0);

    row(f, "state");
    fprintf(f, "%s", text_of(st, "state"));
    if (colo_json_get_bool(st, "protected", false) && since) {
        fprintf(f, ", protected for ");
        put_age(f, now - since);
    }
    fprintf(f, "\n");
}

static void put_checkpoints(FILE *f, const struct colo_json *st)
{
    static const char *const names[] = {"first", "period", "request", "divergence"};
    const struct colo_json *triggers = colo_json_get(st, "triggers");
    const char *between = " (";
    int64_t n;
    size_t i;

    row(f, "checkpoints");
    fprintf(f, "%" PRId64, colo_json_get_int(st, "checkpoints", 0));
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        n = colo_json_get_int(triggers, names[i], 0);
        if (n) {
            fprintf(f, "%s%s %" PRId64, between, names[i], n);
            between = ", ";
        }
    }
    fprintf(f, "%s\n", *between == ',' ? ")" : "");
    row(f, "interval");
    fprintf(f,
            "at most %" PRId64 " ms, at least %" PRId64 " ms; heartbeat %" PRId64
            " ms, lost after %" PRId64 " missed\n",
            colo_json_get_int(st, "interval_max_ms", 0),
            colo_json_get_int(st, "interval_min_ms", 0), colo_json_get_int(st, "heartbeat_ms", 0),
            colo_json_get_int(st, "heartbeat_misses", 0));
}

struct step {
    const char *key, *label;
};

static void put_steps(FILE *f, const char *name, const struct colo_json *steps,
                      const struct step *list, size_t n)
{
    size_t i;

    row(f, name);
    for (i = 0; i < n; i++)
        fprintf(f, "%s%s %.1f", i ? ", " : "", list[i].label, ms(steps, list[i].key));
    fprintf(f, " ms\n");
}
#define PUT_STEPS(f, name, steps, list) \
    put_steps(f, name, steps, list, sizeof(list) / sizeof((list)[0]))

static void put_pause(FILE *f, const struct colo_json *st)
{
    static const struct step mine[] = {
        {"suspend_ns", "suspend"},         {"peer_suspend_ns", "peer suspend"},
        {"dirty_log_ns", "dirty log"},     {"pages_map_ns", "map"},
        {"pages_write_ns", "write"},       {"context_ns", "context"},
        {"device_save_ns", "device save"}, {"peer_apply_ns", "peer apply"},
        {"resume_ns", "resume"},
    };
    static const struct step peer[] = {
        {"svm_suspend_ns", "suspend"}, {"svm_dirty_log_ns", "dirty log"},
        {"svm_stage_ns", "stage"},     {"svm_device_load_ns", "device load"},
        {"svm_memory_ns", "memory"},   {"svm_context_ns", "context"},
    };
    const struct colo_json *pause = colo_json_get(st, "pause");
    const struct colo_json *steps = colo_json_get(pause, "steps");

    if (!colo_json_get_int(pause, "samples", 0))
        goto secondary;
    row(f, "pause");
    fprintf(f, "last %.1f ms, median %.1f ms, p99 %.1f ms (of %" PRId64 ")\n", ms(pause, "last_ns"),
            ms(pause, "median_ns"), ms(pause, "p99_ns"), colo_json_get_int(pause, "samples", 0));
    PUT_STEPS(f, "  last", steps, mine);
secondary:
    if (colo_json_get_int(steps, "svm_suspend_ns", 0) ||
        colo_json_get_int(steps, "svm_memory_ns", 0))
        PUT_STEPS(f, "  secondary", steps, peer);
}

static void put_traffic(FILE *f, const struct colo_json *st)
{
    const struct colo_json *pages = colo_json_get(st, "pages");

    row(f, "memory");
    put_size(f, colo_json_get_int(pages, "memory", 0) * 4096);
    fprintf(f, "\n");
    row(f, "dirty pages");
    fprintf(f, "P %" PRId64 ", S %" PRId64 ", union %" PRId64 ", sent %" PRId64 "\n",
            colo_json_get_int(pages, "p_dirty", 0), colo_json_get_int(pages, "s_dirty", 0),
            colo_json_get_int(pages, "union_dirty", 0), colo_json_get_int(pages, "sent", 0));
    row(f, "total");
    fprintf(f, "%" PRId64 " pages; ", colo_json_get_int(pages, "total_sent", 0));
    put_size(f, colo_json_get_int(st, "bytes_out", 0));
    fprintf(f, " out, ");
    put_size(f, colo_json_get_int(st, "bytes_in", 0));
    fprintf(f, " in\n");
    if (colo_json_get_int(st, "staging_peak_bytes", 0)) {
        row(f, "staging");
        fprintf(f, "peak ");
        put_size(f, colo_json_get_int(st, "staging_peak_bytes", 0));
        fprintf(f, "\n");
    }
}

static void put_first_sync(FILE *f, const struct colo_json *st)
{
    const struct colo_json *sync = colo_json_get(st, "first_sync");
    int64_t took = colo_json_get_int(sync, "duration_ns", 0);
    int64_t done = colo_json_get_int(sync, "pages_done", 0);
    int64_t total = colo_json_get_int(sync, "pages_total", 0);

    if (!took && !total)
        return;
    row(f, "first sync");
    if (took)
        fprintf(f, "%.1f s\n", (double)took / 1e9);
    else
        fprintf(f, "round %" PRId64 ", %" PRId64 " of %" PRId64 " pages (%.0f %%)\n",
                colo_json_get_int(sync, "round", 0), done, total,
                (double)done * 100 / (double)total);
}

static void put_differences(FILE *f, const struct colo_json *st)
{
    const struct colo_json *list = colo_json_get(st, "differences"), *one;

    if (!colo_json_len(list))
        return;
    row(f, "differences");
    for (size_t i = 0; i < colo_json_len(list); i++) {
        one = colo_json_at(list, i);
        fprintf(f, "%s%s %" PRId64, i ? ", " : "", text_of(one, "why"),
                colo_json_get_int(one, "count", 0));
    }
    fprintf(f, "\n");
    row(f, "  last");
    fprintf(f, "%s\n", text_of(st, "last_difference"));
}

/* The least power of two, in microseconds, within which that part of the packets went out. */
static void put_within(FILE *f, const struct colo_json *buckets, double part)
{
    int64_t all = 0, sum = 0, n;
    size_t i;

    for (i = 0; i < colo_json_len(buckets); i++)
        if (colo_json_int(colo_json_at(buckets, i), &n))
            all += n;
    for (i = 0; i < colo_json_len(buckets); i++) {
        if (colo_json_int(colo_json_at(buckets, i), &n))
            sum += n;
        if ((double)sum >= (double)all * part)
            break;
    }
    if (i < 10)
        fprintf(f, "%u us", 1U << i);
    else
        fprintf(f, "%.4g ms", (double)(UINT64_C(1) << (i < 63 ? i : 63)) / 1000);
}

static void put_nic(FILE *f, const struct colo_json *nic)
{
    const struct colo_json *latency = colo_json_get(nic, "latency_log2_us");
    const char *tap = text_of(nic, "tap");

    row(f, "  nic");
    fprintf(f, "%s: %" PRId64 " packets, ", tap, colo_json_get_int(nic, "from_guest", 0));
    put_size(f, colo_json_get_int(nic, "from_guest_bytes", 0));
    fprintf(f, " from the guest; %" PRId64 ", ", colo_json_get_int(nic, "to_guest", 0));
    put_size(f, colo_json_get_int(nic, "to_guest_bytes", 0));
    fprintf(f, " to it; %" PRId64 " connections\n", colo_json_get_int(nic, "flows", 0));
    if (latency) {
        row(f, "  held");
        fprintf(f, "%" PRId64 " packets now, %" PRId64 " at most",
                colo_json_get_int(nic, "held_packets", 0),
                colo_json_get_int(nic, "held_packets_peak", 0));
        if (colo_json_get_int(nic, "released_packets", 0)) {
            fprintf(f, "; half of them for less than ");
            put_within(f, latency, 0.5);
            fprintf(f, ", 99 %% for less than ");
            put_within(f, latency, 0.99);
        }
        fprintf(f, "\n");
    }
    if (colo_json_get_int(nic, "rewriting", 0)) {
        row(f, "  rewritten");
        fprintf(f, "%" PRId64 " connections\n", colo_json_get_int(nic, "rewriting", 0));
    }
}

static void put_proxy(FILE *f, const struct colo_json *proxy)
{
    const struct colo_json *nics = colo_json_get(proxy, "nics");

    if (!proxy)
        return;
    row(f, "proxy");
    fprintf(f, "process %" PRId64 ", %s, link %s\n", colo_json_get_int(proxy, "pid", 0),
            text_of(proxy, "phase"), text_of(proxy, "link"));
    for (size_t i = 0; i < colo_json_len(nics); i++)
        put_nic(f, colo_json_at(nics, i));
}

static void put_loss(FILE *f, const struct colo_json *st, const struct colo_json *proxy)
{
    if (colo_json_get_int(st, "verified", 0)) {
        row(f, "verified");
        fprintf(f, "%" PRId64 " checkpoints proved equal\n", colo_json_get_int(st, "verified", 0));
    }
    row(f, "network");
    fprintf(f, "%s\n", text_of(st, "network"));
    put_differences(f, st);
    put_proxy(f, proxy);
    row(f, "disks");
    fprintf(f, "%s\n", text_of(st, "disks"));
    if (*text_of(st, "policy") != '-') {
        row(f, "policy");
        fprintf(f, "%s\n", text_of(st, "policy"));
    }
    if (colo_json_get_int(st, "takeover_ns", 0)) {
        row(f, "takeover");
        fprintf(f, "%.1f ms\n", ms(st, "takeover_ns"));
    }
    if (*text_of(st, "last_error") != '-') {
        row(f, "last error");
        fprintf(f, "%s [%s]\n", text_of(st, "last_error"), text_of(st, "last_reason"));
    }
}

char *colo_status_with_proxy(const char *status, const struct colo_json *proxy)
{
    struct colo_json_gen *g = colo_json_gen_new(false);
    const char *end = strrchr(status, '}');
    char *text, *all = NULL;

    colo_json_put(g, NULL, proxy);
    text = colo_json_gen_finish(g);
    if (text && end && asprintf(&all, "%.*s,\"proxy\":%s}", (int)(end - status), status, text) < 0)
        all = NULL;
    free(text);
    return all;
}

char *colo_status_text(const struct colo_json *st, const struct colo_json *proxy, int64_t now)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    row(f, "guest");
    fprintf(f, "%s (domain %" PRId64 ", %s)\n", text_of(st, "guest"),
            colo_json_get_int(st, "domid", 0), text_of(st, "uuid"));
    put_state(f, st, now);
    row(f, "role");
    fprintf(f, "%s, peer %s\n", text_of(st, "role"), text_of(st, "peer"));
    row(f, "session");
    fprintf(f, "%s, generation %" PRId64 "\n", text_of(st, "session"),
            colo_json_get_int(st, "generation", 0));
    put_checkpoints(f, st);
    put_pause(f, st);
    put_traffic(f, st);
    put_first_sync(f, st);
    put_loss(f, st, proxy);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static int width(const struct colo_json *const *status, size_t n, const char *key, int least)
{
    size_t i, len;

    for (i = 0; i < n; i++) {
        len = strlen(text_of(status[i], key));
        if (len > (size_t)least && len <= 40)
            least = (int)len;
    }
    return least;
}

char *colo_status_table(const struct colo_json *const *status, size_t n)
{
    int guest = width(status, n, "guest", 5), peer = width(status, n, "peer", 4);
    char *text = NULL;
    size_t len, i;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    fprintf(f, "%-*s %5s %-9s %-18s %-*s %11s %10s  %s\n", guest, "Guest", "ID", "Role", "State",
            peer, "Peer", "Checkpoints", "Pause", "Last error");
    for (i = 0; i < n; i++) {
        const struct colo_json *pause = colo_json_get(status[i], "pause");
        char median[32] = "-";

        if (colo_json_get_int(pause, "samples", 0))
            snprintf(median, sizeof(median), "%.1f ms", ms(pause, "median_ns"));
        fprintf(f, "%-*s %5" PRId64 " %-9s %-18s %-*s %11" PRId64 " %10s  %s\n", guest,
                text_of(status[i], "guest"), colo_json_get_int(status[i], "domid", 0),
                text_of(status[i], "role"), text_of(status[i], "state"), peer,
                text_of(status[i], "peer"), colo_json_get_int(status[i], "checkpoints", 0), median,
                text_of(status[i], "last_reason"));
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static void new_line(FILE *f, unsigned int depth)
{
    fputc('\n', f);
    while (depth--)
        fputs("    ", f);
}

char *colo_json_indent(const char *s)
{
    unsigned int depth = 0;
    bool quoted = false;
    char *text = NULL, last = 0;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    for (; *s; s++) {
        if (quoted) {
            fputc(*s, f);
            if (*s == '\\' && s[1])
                fputc(*++s, f);
            else if (*s == '"')
                quoted = false;
            continue;
        }
        if (strchr(" \t\r\n", *s))
            continue;
        if (*s == '}' || *s == ']') {
            depth -= depth > 0;
            if (last != '{' && last != '[')
                new_line(f, depth);
        } else if (last == '{' || last == '[' || last == ',') {
            new_line(f, depth);
        }
        fputc(*s, f);
        if (*s == ':')
            fputc(' ', f);
        depth += *s == '{' || *s == '[';
        quoted = *s == '"';
        last = *s;
    }
    fputc('\n', f);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

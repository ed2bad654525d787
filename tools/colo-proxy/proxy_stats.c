/* SPDX-License-Identifier: GPL-2.0-only */
#include <unistd.h>

#include "proxy_daemon.h"

static void put_engine(const struct colo_compare *c, struct colo_json_gen *g)
{
    struct colo_compare_stats s;

    colo_compare_get_stats(c, &s);
    colo_json_put_int(g, "secondary_packets", (int64_t)s.secondary_packets);
    colo_json_put_int(g, "secondary_bytes", (int64_t)s.secondary_bytes);
    colo_json_put_int(g, "released_packets", (int64_t)s.released_packets);
    colo_json_put_int(g, "released_bytes", (int64_t)s.released_bytes);
    colo_json_put_int(g, "matched", (int64_t)s.matched);
    colo_json_put_int(g, "refused", (int64_t)s.refused);
    colo_json_put_int(g, "requests", (int64_t)s.requests);
    colo_json_put_int(g, "flows", s.flows);
    colo_json_put_int(g, "evicted", (int64_t)s.evicted);
    colo_json_put_int(g, "held_packets", s.held_packets);
    colo_json_put_int(g, "held_packets_peak", s.held_packets_peak);
    colo_json_put_int(g, "held_bytes", (int64_t)s.held_bytes);
    colo_json_put_int(g, "held_bytes_peak", (int64_t)s.held_bytes_peak);
    colo_json_put_int(g, "stream_bytes", (int64_t)s.stream_bytes);
    colo_json_open(g, "divergent");
    for (int i = 0; i < COLO_WHY_COUNT; i++)
        colo_json_put_int(g, colo_why_name((enum colo_why)i), (int64_t)s.why[i]);
    colo_json_close(g);
    colo_json_open_array(g, "latency_log2_us");
    for (int i = 0; i < COLO_LATENCY_BUCKETS; i++)
        colo_json_put_int(g, NULL, (int64_t)s.latency[i]);
    colo_json_close_array(g);
}

static void put_rewriter(const struct colo_rewrite *r, struct colo_json_gen *g)
{
    struct colo_rewrite_stats s;

    colo_rewrite_get_stats(r, &s);
    colo_json_put_int(g, "flows", s.flows);
    colo_json_put_int(g, "rewriting", s.active);
    colo_json_put_int(g, "rewritten", (int64_t)s.rewritten);
    colo_json_put_int(g, "not_tracked", (int64_t)s.not_tracked);
}

static void put_nic(const struct proxy_nic *nic, struct colo_json_gen *g)
{
    colo_json_open(g, NULL);
    colo_json_put_str(g, "tap", nic->links.tap);
    colo_json_put_int(g, "from_guest", (int64_t)nic->from_guest);
    colo_json_put_int(g, "from_guest_bytes", (int64_t)nic->from_guest_bytes);
    colo_json_put_int(g, "to_guest", (int64_t)nic->to_guest);
    colo_json_put_int(g, "to_guest_bytes", (int64_t)nic->to_guest_bytes);
    colo_json_put_int(g, "link_dropped", (int64_t)nic->link_dropped);
    colo_json_put_int(g, "stale", (int64_t)nic->stale);
    if (nic->compare)
        put_engine(nic->compare, g);
    if (nic->rewrite)
        put_rewriter(nic->rewrite, g);
    colo_json_close(g);
}

void proxy_stats_put(struct proxy *p, struct colo_json_gen *g)
{
    colo_json_put_int(g, "pid", getpid());
    colo_json_put_str(g, "role", p->secondary ? "secondary" : "primary");
    colo_json_put_str(g, "phase", proxy_phase_name(p->phase));
    colo_json_put_str(g, "mode", colo_mode_name(p->mode));
    colo_json_put_int(g, "checkpoint", (int64_t)p->checkpoint);
    colo_json_put_str(g, "link", p->link ? "up" : p->link_lost ? "lost" : "none");
    if (p->link) {
        colo_json_put_int(g, "link_sent", (int64_t)proxy_link_sent(p->link));
        colo_json_put_int(g, "link_read", (int64_t)proxy_link_read(p->link));
    }
    colo_json_open_array(g, "nics");
    for (uint32_t i = 0; i < p->nr_nics; i++)
        put_nic(&p->nic[i], g);
    colo_json_close_array(g);
}

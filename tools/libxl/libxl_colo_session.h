/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The inside of a session: what its files share.  Everything here works on the two seams (domain
 * and channel) alone, so that unit tests run whole sessions without Xen; what needs libxl, QMP or
 * xenstore is libxl_colo_guest.h.
 */
#ifndef LIBXL_COLO_SESSION_H
#define LIBXL_COLO_SESSION_H

#include <stdatomic.h>

#include "libxl_colo.h"
#include "libxl_stream.h"
#include "xc_sr_restore.h"

/* A disk that is replicated, as each side tells of it. */
struct colo_caps_disk {
    char vdev[COLO_VDEV];
    uint64_t size; /* from the primary: bytes */
    uint16_t port; /* from the secondary: where its server listens */
};

/* ---- capabilities: COLO_CAPS, JSON, exchanged first (libxl_colo_caps.c) ---- */
struct colo_caps {
    uint32_t protocol; /* COLO_PROTOCOL_VERSION */
    char xen[64];      /* "4.17.7" and what follows: must be equal */
    char qemu[96];     /* the device model's version, "" when not known yet */
    char host[128];
    bool zero_pages, tags; /* features; used when both sides have them */
    bool force;            /* versions may differ */
    /* only from the primary */
    char session[40];
    uint64_t generation;
    uint32_t heartbeat_ms, heartbeat_misses, interval_max_ms, interval_min_ms;
    /* the link of the proxies */
    char proxy_key[65];     /* from the primary: hex; "" = without proxies */
    uint16_t proxy_port;    /* from the secondary: where its proxy listens; 0 = without */
    char proxy_address[64]; /* the same: its address, numeric; "" = not known */
    /* disks */
    char disk_key[65];      /* from the primary: hex; "" = there are none to replicate */
    char device_model[256]; /* from the primary: the path of its QEMU */
    char disk_address[64];  /* from the secondary */
    uint32_t disks;
    struct colo_caps_disk disk[COLO_MAX_DISKS];
};
char *colo_caps_to_json(const struct colo_caps *c); /* malloc'ed */
/* Bounds and checks everything; values out of range are COLO_ERR_PROTOCOL with the value quoted. */
int colo_caps_from_json(const char *json, bool from_primary, struct colo_caps *c,
                        struct colo_err *err);
/* Two sides that cannot work together: COLO_ERR_REFUSED with both versions in the message.  The
 * versions of Xen and QEMU are not looked at when either side says force. */
int colo_caps_match(const struct colo_caps *mine, const struct colo_caps *peer,
                    struct colo_err *err);

/* ---- heartbeat: a thread that writes COLO_HEARTBEAT records (libxl_colo_heartbeat.c) ---- */
struct colo_heartbeat {
    pthread_t thread;
    int stop_fd; /* eventfd; -1 = not running */
    struct xc_sr_channel *ch;
    struct xc_sr_rec_tag tag; /* session and generation */
    uint32_t interval_ms;
    /* No beat begins while this is set.  Set it before the write after which no record may stand
     * (the libxc stream's headers follow LIBXC_CONTEXT directly), clear it after the last of them. */
    atomic_bool hold;
};
int colo_heartbeat_start(struct colo_heartbeat *hb, struct xc_sr_channel *ch,
                         const struct xc_sr_rec_tag *tag, uint32_t interval_ms,
                         struct colo_err *err);
void colo_heartbeat_stop(struct colo_heartbeat *hb); /* idempotent */

/* ---- the session ---- */
/* How long a step may take before it counts as failed.  The peer's death is noticed by its
 * silence long before; these bound a peer, or a part of this host, that lives but hangs. */
#define COLO_T_HANDSHAKE  (60 * 1000 * COLO_MS)  /* peer's answer to the capabilities */
#define COLO_T_BUILD      (300 * 1000 * COLO_MS) /* peer builds its domain, first image applied */
#define COLO_T_SUSPEND    (30 * 1000 * COLO_MS)  /* vCPUs stopped */
#define COLO_T_QMP        (30 * 1000 * COLO_MS)  /* one QEMU command */
#define COLO_T_CHECKPOINT (60 * 1000 * COLO_MS)  /* one record, and a whole pause of the guest */
#define COLO_T_HANDOVER   (30 * 1000 * COLO_MS)  /* peer takes over on request */
#define COLO_T_GOODBYE    (1000 * COLO_MS)       /* a STOP that nobody may be reading */

struct colo_session;
/* What a session asks of the host around it; any member may be NULL (unit tests). */
struct colo_session_hooks {
    void *priv;
    int event_fd; /* readable = something about a domain's life changed; -1 = none */
    int dm_fd;    /* hung up = the domain's device model is gone; 0 = none */
    /* Takes the event; -1 with COLO_ERR_GUEST_DOWN when our guest has shut down. */
    int (*guest_event)(void *priv, struct colo_err *err);
    /* Secondary: the built domain runs for the first time. */
    int (*first_run)(void *priv, struct colo_err *err);
    /* Secondary: the domain becomes the guest: NICs, name.  It runs already. */
    int (*become_guest)(void *priv, struct colo_err *err);

    /* Disks; NULL when there are none to replicate. */
    void *disks;
    /* Primary: has a copy failed?  Asked whenever dm_fd is readable, and with the guest suspended. */
    int (*disk_check)(void *disks, struct colo_err *err);
    /* Primary: the peer is gone; no write of the guest's may wait for it. */
    void (*disk_cut)(void *disks);
    /* Secondary: around what makes our copy what the primary's is, with both suspended. */
    int (*disk_hold)(void *disks, uint64_t checkpoint, struct colo_err *err);
    int (*disk_commit)(void *disks, uint64_t checkpoint, struct colo_err *err);
    /* Secondary: our copy is to be the guest, and does not run on yet. */
    int (*disk_takeover)(void *disks, struct colo_err *err);

    /* The network (docs/specs/proxy-control.md); NULL, and net_fd 0, when nothing compares it. */
    void *net;
    int net_fd; /* readable = net_event has something */
    /* Before our copy is suspended for that checkpoint. */
    int (*net_hold)(void *net, uint64_t checkpoint, struct colo_err *err);
    /* Both copies are at that checkpoint, and neither runs yet. */
    int (*net_commit)(void *net, uint64_t checkpoint, struct colo_err *err);
    /* Takes all events: *wanted is set when one asks for a checkpoint; -1 when the copies can no
     * longer be compared. */
    int (*net_event)(void *net, bool *wanted, struct colo_err *err);
};

struct colo_session {
    enum colo_role role;
    struct colo_config config;
    struct colo_shared *shared;
    struct colo_monitor *monitor; /* NULL in unit tests */
    struct colo_ui ui;
    struct colo_session_hooks hooks;

    struct xc_sr_channel ch;
    struct libxl_stream ls;
    struct colo_heartbeat hb;
    struct xc_sr_domain *dom;
    uint64_t max_gfns;             /* no pfn of either side is at or above it */
    uint32_t xen_major, xen_minor; /* for the stream's header */
    bool zero_pages;               /* negotiated */
    bool announced;                /* secondary: LIBXC_CONTEXT, the first record, has been read */
};

/* After the capabilities: silence limit on, heartbeat on. */
int colo_session_alive(struct colo_session *s, struct colo_err *err);
/* A channel error may have a better explanation waiting to be read: the peer's STOP. */
void colo_session_explain(struct colo_session *s, struct colo_err *err);
/* Tell the peer why we leave; never blocks long, never fails.  Nothing is said to a peer that is
 * gone, or that has left by itself. */
void colo_session_goodbye(struct colo_session *s, const struct colo_err *why);
/* The same to any peer, with a reason that decides who has the guest:
 *   COLO_STOP_TAKEN   secondary: the guest is mine now; yours must not run any more
 *   COLO_STOP_BROKEN  primary: the guest cannot run on here; take it over, and say so */
#define COLO_STOP_TAKEN  "taken-over"
#define COLO_STOP_BROKEN "primary-broken"
void colo_session_tell(struct colo_session *s, const char *reason, const char *message);
/*
 * Primary, once protected: without its device model (err) the guest cannot run on here; the peer's
 * copy can.  True, and *err what the peer said, when that has become the guest; otherwise nothing is
 * changed.  Takes COLO_T_HANDOVER at most.
 */
bool colo_session_hand_over(struct colo_session *s, struct colo_err *err);
/* Did the peer leave with that reason? */
bool colo_session_peer_said(const struct colo_err *err, const char *reason);
/* What the operator wants now; says once when the monitor that would tell has gone. */
enum colo_monitor_cmd colo_session_command(struct colo_session *s);
void colo_session_say(struct colo_session *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void colo_session_count_bytes(struct colo_session *s);

/*
 * The lock-step of the primary: first image, then checkpoints until something ends it; returns -1
 * always, with the guest running (or shut down by itself, COLO_ERR_GUEST_DOWN), dirty logs off.
 */
int colo_save_run(struct colo_session *s, struct colo_err *err);

/* ---- between checkpoints (libxl_colo_trigger.c) ---- */
/* Lock-step: wait until the next checkpoint is due.  Returns 0 with *why set, or -1 when the session
 * is to end. */
int colo_trigger_wait(struct colo_session *s, colo_time last_end, enum colo_trigger *why,
                      struct colo_err *err);
/* What asks for a checkpoint. */
struct colo_wanted {
    bool requested; /* an operator */
    bool differs;   /* what the copies send */
};
/* Primary: wait until something happens, `until` at most; -1 when the session is to end. */
int colo_trigger_watch(struct colo_session *s, colo_time until, struct colo_wanted *w,
                       struct colo_err *err);
/* What the operator wants, if anything: sets *now for a checkpoint at once. */
int colo_trigger_operator(struct colo_session *s, bool *now, struct colo_err *err);

enum colo_restore_end {
    COLO_RESTORE_FAILED, /* the copy is not usable: destroy it */
    COLO_RESTORE_YIELD,  /* the guest lives at the primary: destroy the copy */
    COLO_RESTORE_TAKEN,  /* the copy is the guest now and runs, dirty logs off */
};
/* The lock-step of the secondary, from LIBXC_CONTEXT on.  Returns -1 always, *end says how. */
int colo_restore_run(struct colo_session *s, enum colo_restore_end *end, struct colo_err *err);

#endif

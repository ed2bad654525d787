/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The primary's disks in a session: told of in the handshake, copied while the guest runs, watched in
 * lock-step, and left alone at its end.
 */
#ifndef LIBXL_COLO_SYNC_DISKS_H
#define LIBXL_COLO_SYNC_DISKS_H

#include "libxl_colo_qdisk.h"
#include "libxl_colo_relay.h"
#include "libxl_colo_session.h"

struct colo_sync {
    struct colo_session *s;
    colo_time
        late_at; /* when a command of QEMU's was first found late; and when that was last said */
    colo_time late_last;
    int unread; /* bytes from the peer that nobody had time to read, then */
    struct colo_qdisks q;
    struct colo_relay relay[COLO_MAX_DISKS];
};

/* What the peer has to know of them; and a key.  Without disks nothing. */
int colo_sync_disks_caps(const struct colo_sync *sync, struct colo_caps *caps,
                         struct colo_err *err);

/*
 * Copy the disks, and return when all of them are on both hosts; from then on the session's hooks
 * watch over them.  host: where the peer's servers are.  Lasts as long as it takes; whatever ends
 * a session ends it.
 */
int colo_sync_disks(struct colo_session *s, struct colo_sync *sync, const char *host,
                    const struct colo_caps *mine, const struct colo_caps *peer,
                    struct colo_err *err);

/* The guest writes to its own disks only. */
void colo_sync_disks_end(struct colo_session *s, struct colo_sync *sync);

#endif

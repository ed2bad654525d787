/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_state.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const state_names[COLO_NR_STATES] = {
    [COLO_STATE_INIT] = "INIT",
    [COLO_STATE_PRECOPY] = "PRECOPY",
    [COLO_STATE_DISK_SYNC] = "DISK_SYNC",
    [COLO_STATE_LOCKSTEP] = "LOCKSTEP",
    [COLO_STATE_CHECKPOINT_SUSPEND] = "CHECKPOINT_SUSPEND",
    [COLO_STATE_CHECKPOINT_SEND] = "CHECKPOINT_SEND",
    [COLO_STATE_CHECKPOINT_STAGE] = "CHECKPOINT_STAGE",
    [COLO_STATE_CHECKPOINT_APPLY] = "CHECKPOINT_APPLY",
    [COLO_STATE_CHECKPOINT_RESUME] = "CHECKPOINT_RESUME",
    [COLO_STATE_TAKEOVER] = "TAKEOVER",
    [COLO_STATE_UNPROTECTED] = "UNPROTECTED",
    [COLO_STATE_GUEST_DOWN] = "GUEST_DOWN",
    [COLO_STATE_ENDED] = "ENDED",
};

const char *colo_state_name(enum colo_state s)
{
    /* The state may come from memory that another process was writing. */
    return (size_t)s < COUNT(state_names) ? state_names[s] : "?";
}

const char *colo_role_name(enum colo_role r)
{
    static const char *const names[] = {
        [COLO_PRIMARY] = "primary",
        [COLO_SECONDARY] = "secondary",
    };

    return (size_t)r < COUNT(names) ? names[r] : "?";
}

const char *colo_trigger_name(enum colo_trigger t)
{
    static const char *const names[COLO_NR_TRIGGERS] = {
        [COLO_TRIGGER_FIRST] = "first",
        [COLO_TRIGGER_PERIOD] = "period",
        [COLO_TRIGGER_REQUEST] = "request",
        [COLO_TRIGGER_DIVERGENCE] = "divergence",
    };

    return (size_t)t < COUNT(names) ? names[t] : "?";
}

/*
 * The table.  A row is where one is, its bits are where one may go from there.
 *
 * The primary may lose its peer (UNPROTECTED), its guest (GUEST_DOWN) or the right to run it
 * (ENDED) at any point.  A guest that was rebooted is back (UNPROTECTED) and may be protected anew
 * in the same process (INIT).
 *
 * The secondary holds nothing worth taking over while its first image comes in; from then on it may
 * take over at any point.  It only applies (APPLY) what it has whole (STAGE), the first time, too.
 */
#define BIT(s)  (1u << COLO_STATE_##s)
#define P_ENDS  (BIT(UNPROTECTED) | BIT(GUEST_DOWN) | BIT(ENDED))
#define S_EARLY (BIT(GUEST_DOWN) | BIT(ENDED))
#define S_ENDS  (BIT(TAKEOVER) | BIT(GUEST_DOWN) | BIT(ENDED))
#define AFTER   (BIT(UNPROTECTED) | BIT(GUEST_DOWN) | BIT(ENDED) | BIT(INIT))

static const unsigned int legal[2][COLO_NR_STATES] = {
    [COLO_PRIMARY] =
        {
            [COLO_STATE_INIT] = BIT(DISK_SYNC) | BIT(PRECOPY) | P_ENDS,
            [COLO_STATE_DISK_SYNC] = BIT(PRECOPY) | P_ENDS,
            [COLO_STATE_PRECOPY] = BIT(CHECKPOINT_SUSPEND) | P_ENDS,
            [COLO_STATE_LOCKSTEP] = BIT(CHECKPOINT_SUSPEND) | P_ENDS,
            [COLO_STATE_CHECKPOINT_SUSPEND] = BIT(CHECKPOINT_SEND) | P_ENDS,
            [COLO_STATE_CHECKPOINT_SEND] = BIT(CHECKPOINT_APPLY) | P_ENDS,
            [COLO_STATE_CHECKPOINT_APPLY] = BIT(CHECKPOINT_RESUME) | P_ENDS,
            [COLO_STATE_CHECKPOINT_RESUME] = BIT(LOCKSTEP) | P_ENDS,
            [COLO_STATE_UNPROTECTED] = AFTER,
            [COLO_STATE_GUEST_DOWN] = AFTER,
        },
    [COLO_SECONDARY] =
        {
            [COLO_STATE_INIT] = BIT(DISK_SYNC) | BIT(PRECOPY) | S_EARLY,
            [COLO_STATE_DISK_SYNC] = BIT(PRECOPY) | S_EARLY,
            [COLO_STATE_PRECOPY] = BIT(CHECKPOINT_STAGE) | S_EARLY,
            [COLO_STATE_LOCKSTEP] = BIT(CHECKPOINT_SUSPEND) | S_ENDS,
            [COLO_STATE_CHECKPOINT_SUSPEND] = BIT(CHECKPOINT_STAGE) | S_ENDS,
            [COLO_STATE_CHECKPOINT_STAGE] = BIT(CHECKPOINT_APPLY) | S_ENDS,
            [COLO_STATE_CHECKPOINT_APPLY] = BIT(CHECKPOINT_RESUME) | S_ENDS,
            [COLO_STATE_CHECKPOINT_RESUME] = BIT(LOCKSTEP) | S_ENDS,
            [COLO_STATE_TAKEOVER] = BIT(UNPROTECTED) | BIT(GUEST_DOWN) | BIT(ENDED),
            [COLO_STATE_UNPROTECTED] = BIT(GUEST_DOWN) | BIT(ENDED),
            [COLO_STATE_GUEST_DOWN] = BIT(UNPROTECTED) | BIT(ENDED),
        },
};

bool colo_state_legal(enum colo_role role, enum colo_state from, enum colo_state to)
{
    if ((size_t)role >= COUNT(legal) || (size_t)from >= COLO_NR_STATES ||
        (size_t)to >= COLO_NR_STATES)
        return false;
    return legal[role][from] >> to & 1;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Network links for tests, in namespaces of the test's own: network, processes, /run.
 */
#ifndef TESTNET_H
#define TESTNET_H

#include "testlib.h"

/* cmocka group setup and teardown; the group then runs in a child.  Where there is no namespace, or
 * no taps, tn_skip skips. */
int tn_enter(void **state);
int tn_leave(void **state);
void tn_skip(void);

void tn_up(const char *name);
void tn_bridge(const char *name);                 /* made, and up */
void tn_veth(const char *name, const char *peer); /* both up */
void tn_enslave(const char *name, const char *bridge);
void tn_release(const char *name);
void tn_delete(const char *name); /* none is fine */

/* The bridge that a link is on: "br0", "" when it is on none, "none" when there is no such link. */
const char *tn_bridge_of(const char *name);

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wiring is one traffic control filter on each end: all that comes in on one tap goes out on
 * the other.  So a frame takes exactly one way at any time, also while the wiring changes, and this
 * host's own network stack never sees the guest's frames.
 */
#include "proxy_links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libxl_colo_rtnl.h"
#include "proxy_wire.h"

#define ALIAS     "xen-colo tap=%s bridge=%s ingress=%s"
#define QUEUE     4096 /* frames that a tap keeps while nobody reads it */
#define NO_BRIDGE "-"
/* As Xen's own scripts do it: higher than any, so that no bridge takes it for its own address. */
static const unsigned char port_mac[6] = {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff};

struct note {
    char tap[IFNAMSIZ], bridge[IFNAMSIZ], ingress[8];
};

int proxy_links_name(const char *vif, struct proxy_links *l, struct colo_err *err)
{
    if (!*vif || strlen(vif) + sizeof("-emu") > IFNAMSIZ)
        return colo_fail(err, COLO_ERR_REFUSED, "nic-name",
                         "the name %s of a NIC is longer than %zu characters", vif,
                         IFNAMSIZ - sizeof("-emu"));
    snprintf(l->tap, sizeof(l->tap), "%.11s-emu", vif);
    snprintf(l->guest, sizeof(l->guest), "%.11s-cg", vif);
    snprintf(l->port, sizeof(l->port), "%.11s-cb", vif);
    return 0;
}

int proxy_tap_open(const char *name, int *fd, struct colo_err *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};

    *fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0)
        return colo_fail_errno(err, errno, "cannot open /dev/net/tun");
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    if (ioctl(*fd, TUNSETIFF, &ifr) || ioctl(*fd, TUNSETPERSIST, 1)) {
        colo_fail_errno(err, errno, "network link %s", name);
        close(*fd);
        *fd = -1;
        return -1;
    }
    return 0;
}

/* ---- links ---- */

static int failed(struct colo_err *err, const char *what, const char *name, int r)
{
    return colo_fail(err, COLO_ERR_LOCAL, "nic-link", "%s %s: %s", what, name, nl_geterror(r));
}

static int need_link(struct nl_sock *sk, const char *name, struct rtnl_link **link,
                     struct colo_err *err)
{
    int rc = colo_rtnl_link(sk, 0, name, link, err);

    if (rc == 0)
        return colo_fail(err, COLO_ERR_LOCAL, "nic-missing", "there is no network link %s", name);
    return rc < 0 ? -1 : 0;
}

static int join_bridge(struct nl_sock *sk, struct rtnl_link *link, const char *bridge,
                       struct colo_err *err)
{
    struct rtnl_link *master;
    int r = 0;

    if (need_link(sk, bridge, &master, err))
        return -1;
    if (rtnl_link_get_master(link) != rtnl_link_get_ifindex(master))
        r = rtnl_link_enslave_ifindex(sk, rtnl_link_get_ifindex(master),
                                      rtnl_link_get_ifindex(link));
    rtnl_link_put(master);
    return r < 0 ? failed(err, "putting on its bridge network link", rtnl_link_get_name(link), r)
                 : 0;
}

static int leave_bridge(struct nl_sock *sk, struct rtnl_link *link, struct colo_err *err)
{
    int r = 0;

    if (rtnl_link_get_master(link) > 0)
        r = rtnl_link_release_ifindex(sk, rtnl_link_get_ifindex(link));
    return r < 0 ? failed(err, "taking off its bridge network link", rtnl_link_get_name(link), r)
                 : 0;
}

/* This host says nothing of its own on our taps. */
static void be_quiet(const char *name)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* a host without IPv6 */
    if (write(fd, "1", 1) != 1)
        (void)0; /* then the guest hears this host's IPv6 at most */
    close(fd);
}

/* Make a tap if it is not there, and set it as we want it. */
static int dress(struct nl_sock *sk, const char *name, unsigned int mtu, const char *alias,
                 struct rtnl_link **link, struct colo_err *err)
{
    struct rtnl_link *change;
    struct nl_addr *mac;
    int fd, r = -NLE_NOMEM;

    r = colo_rtnl_link(sk, 0, name, link, err);
    if (r < 0)
        return -1;
    if (r == 0) {
        if (proxy_tap_open(name, &fd, err))
            return -1;
        close(fd);
        if (need_link(sk, name, link, err))
            return -1;
    }
    be_quiet(name);
    change = rtnl_link_alloc();
    mac = nl_addr_build(AF_LLC, port_mac, sizeof(port_mac));
    if (change && mac) {
        rtnl_link_set_mtu(change, mtu);
        rtnl_link_set_txqlen(change, QUEUE);
        rtnl_link_set_addr(change, mac);
        rtnl_link_set_flags(change, IFF_UP);
        rtnl_link_set_ifalias(change, alias);
        r = rtnl_link_change(sk, *link, change, 0);
    }
    nl_addr_put(mac);
    rtnl_link_put(change);
    if (r < 0)
        failed(err, "setting up network link", name, r);
    else
        r = proxy_wire_queue(sk, *link, QUEUE, err);
    if (r < 0) {
        rtnl_link_put(*link);
        *link = NULL;
        return -1;
    }
    return 0;
}

/* ---- the note ---- */

/* On both of our taps, for one may be deleted by somebody.  1: *n is what an earlier setup noted; 0:
 * there is no note. */
static int read_note(struct nl_sock *sk, const struct proxy_links *l, struct note *n,
                     struct colo_err *err)
{
    const char *const names[] = {l->port, l->guest};
    struct rtnl_link *link;
    const char *alias;
    int rc = 0;

    for (size_t i = 0; i < 2 && rc == 0; i++) {
        rc = colo_rtnl_link(sk, 0, names[i], &link, err);
        if (rc <= 0)
            continue;
        alias = rtnl_link_get_ifalias(link);
        rc = alias && sscanf(alias, "xen-colo tap=%15s bridge=%15s ingress=%7s", n->tap, n->bridge,
                             n->ingress) == 3;
        rtnl_link_put(link);
    }
    return rc;
}

/* ---- setting up ---- */

static int wire(struct nl_sock *sk, const struct proxy_links *l, const char *bridge,
                struct colo_err *err)
{
    struct rtnl_link *tap = NULL, *guest = NULL, *port = NULL;
    char alias[128], on[IFNAMSIZ];
    struct note old;
    int rc = -1, noted;

    if (need_link(sk, l->tap, &tap, err) || colo_rtnl_bridge_of(sk, tap, on, err) < 0)
        goto out;
    noted = read_note(sk, l, &old, err);
    if (noted < 0)
        goto out;
    if (bridge)
        snprintf(on, sizeof(on), "%s", *bridge ? bridge : NO_BRIDGE);
    else if (!on[0] && noted) /* still true: the tap is off its bridge since then */
        snprintf(on, sizeof(on), "%s", old.bridge);
    if (!on[0]) {
        colo_fail(err, COLO_ERR_REFUSED, "nic-bridge",
                  "network link %s is on no Linux bridge, where the proxy could take its place; "
                  "--coloft-script \"\" protects without comparing output",
                  l->tap);
        goto out;
    }
    rc = proxy_wire_ingress(sk, tap, err); /* 1: it is not ours */
    if (rc < 0)
        goto out;
    snprintf(alias, sizeof(alias), ALIAS, l->tap, on,
             rc == 0 || (noted && !strcmp(old.ingress, "ours")) ? "ours" : "other");
    rc = -1;
    if (dress(sk, l->port, rtnl_link_get_mtu(tap), alias, &port, err) ||
        dress(sk, l->guest, rtnl_link_get_mtu(tap), alias, &guest, err) ||
        proxy_wire_ingress(sk, guest, err) < 0 || proxy_wire_filter(sk, guest, tap, err) ||
        (!bridge && join_bridge(sk, port, on, err)) || proxy_wire_filter(sk, tap, guest, err) ||
        leave_bridge(sk, tap, err))
        goto out;
    rc = 0;
out:
    rtnl_link_put(tap);
    rtnl_link_put(guest);
    rtnl_link_put(port);
    return rc;
}

int proxy_links_setup(const struct proxy_links *l, const char *bridge, struct colo_err *err)
{
    struct nl_sock *sk = colo_rtnl_open(err);
    int rc;

    if (!sk)
        return -1;
    rc = wire(sk, l, bridge, err);
    nl_socket_free(sk);
    if (rc) {
        proxy_links_aside(l, !bridge, NULL);
        proxy_links_remove(l, NULL);
    }
    return rc;
}

/* ---- undoing ---- */

int proxy_links_aside(const struct proxy_links *l, bool rejoin, struct colo_err *err)
{
    struct nl_sock *sk = colo_rtnl_open(err);
    struct rtnl_link *tap = NULL;
    struct note n;
    int rc;

    if (!sk)
        return -1;
    rc = colo_rtnl_link(sk, 0, l->tap, &tap, err);
    if (rc > 0)
        rc = read_note(sk, l, &n, err);
    if (rc <= 0)
        goto out;
    rc = 0;
    if (rejoin && strcmp(n.bridge, NO_BRIDGE) != 0)
        rc = join_bridge(sk, tap, n.bridge, err);
    if (proxy_wire_unfilter(sk, tap, !strcmp(n.ingress, "ours"), rc ? NULL : err))
        rc = -1;
out:
    rtnl_link_put(tap);
    nl_socket_free(sk);
    return rc;
}

static int remove_link(struct nl_sock *sk, const char *name, struct colo_err *err)
{
    struct rtnl_link *link;
    int rc = colo_rtnl_link(sk, 0, name, &link, err), r;

    if (rc <= 0)
        return rc;
    r = rtnl_link_delete(sk, link);
    rtnl_link_put(link);
    return r < 0 && r != -NLE_NODEV && r != -NLE_OBJ_NOTFOUND
               ? failed(err, "removing network link", name, r)
               : 0;
}

int proxy_links_remove(const struct proxy_links *l, struct colo_err *err)
{
    struct nl_sock *sk = colo_rtnl_open(err);
    int rc;

    if (!sk)
        return -1;
    rc = remove_link(sk, l->guest, err);
    if (rc == 0)
        rc = remove_link(sk, l->port, err);
    nl_socket_free(sk);
    return rc;
}

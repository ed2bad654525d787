/* SPDX-License-Identifier: GPL-2.0-only */
/* Announcements as bytes; isolating and joining links in a network namespace of the test's own. */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/neighbour.h>

#include "libxl_colo_announce.h"
#include "libxl_colo_nic.h"
#include "testlib.h"

static const uint8_t mac[6] = {0x00, 0x16, 0x3e, 1, 2, 3};

static void test_rarp_frame(void **state)
{
    static const uint8_t want[COLO_ANNOUNCE_FRAME] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x16, 0x3e, 1, 2, 3,    0x80, 0x35, /* Ethernet */
        0,    1,    8,    0,    6,    4,    0, 3, /* RARP request */
        0,    0x16, 0x3e, 1,    2,    3,    0, 0,    0,    0, 0, 0x16, 0x3e, 1,    2, 3, 0, 0, 0, 0,
    };
    uint8_t frame[COLO_ANNOUNCE_FRAME];

    (void)state;
    memset(frame, 0xee, sizeof(frame));
    colo_announce_rarp(mac, frame);
    assert_memory_equal(frame, want, sizeof(frame));
}

static void test_gratuitous_arp_frame(void **state)
{
    static const uint8_t want[COLO_ANNOUNCE_FRAME] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x16, 0x3e, 1,    2,    3, 0x08, 0x06,
        0,    1,    8,    0,    6,    4,    0, 1,    0,    0x16, 0x3e, 1, 2,    3,
        192,  0,    2,    7,    0,    0,    0, 0,    0,    0,    192,  0, 2,    7,
    };
    struct in_addr ip = {.s_addr = htonl(0xc0000207)};
    uint8_t frame[COLO_ANNOUNCE_FRAME];

    (void)state;
    memset(frame, 0xee, sizeof(frame));
    colo_announce_arp(mac, ip, frame);
    assert_memory_equal(frame, want, sizeof(frame));
}

/* ---- links ---- */

static struct nl_sock *sk; /* NULL: no namespace */
static char why_not[160];

/* The links of a guest's NIC are ends of veth pairs here; "uplink" is the bridge's way out, what
 * leaves there comes out of "outside". */
static const struct {
    const char *name, *peer;
    bool bridged;
} pairs[] = {
    {"vif5.0-emu", "guest0", true},
    {"vif5.0", "guest0pv", true},
    {"vif5.1-emu", "guest1", false},
    {"uplink", "outside", true},
};

static struct rtnl_link *get(const char *name)
{
    struct rtnl_link *l = NULL;

    rtnl_link_get_kernel(sk, 0, name, &l);
    return l;
}

static int change(const char *name, bool up)
{
    struct rtnl_link *l = get(name), *c = rtnl_link_alloc();
    int r;

    if (up)
        rtnl_link_set_flags(c, IFF_UP);
    else
        rtnl_link_unset_flags(c, IFF_UP);
    r = rtnl_link_change(sk, l, c, 0);
    rtnl_link_put(l);
    rtnl_link_put(c);
    return r;
}

static void enslave(const char *name, const char *bridge)
{
    tl_eq(rtnl_link_enslave_ifindex(sk, (int)if_nametoindex(bridge), (int)if_nametoindex(name)), 0);
}

static void delete_link(const char *name)
{
    struct rtnl_link *l = get(name);

    if (l)
        rtnl_link_delete(sk, l);
    rtnl_link_put(l);
}

/* "br0", "" or "-": the bridge of a link, none, no link. up tells whether it is up. */
static const char *bridge_of(const char *name, bool *up)
{
    static char bridge[IFNAMSIZ];
    struct rtnl_link *l = get(name);
    int index;

    if (!l)
        return "-";
    index = rtnl_link_get_master(l);
    *up = rtnl_link_get_flags(l) & IFF_UP;
    rtnl_link_put(l);
    bridge[0] = 0;
    if (index > 0)
        if_indextoname((unsigned int)index, bridge);
    return bridge;
}

static void is_on(const char *name, const char *bridge, bool want_up)
{
    bool up = false;

    tl_str_eq(bridge_of(name, &up), bridge);
    tl_eq(up, want_up);
}

static int make_namespace(void **state)
{
    int r;

    (void)state;
    if (unshare(CLONE_NEWNET) < 0) {
        snprintf(why_not, sizeof(why_not), "no network namespace of our own: %s", strerror(errno));
        return 0;
    }
    sk = nl_socket_alloc();
    r = nl_connect(sk, NETLINK_ROUTE);
    if (r == 0)
        r = rtnl_link_bridge_add(sk, "br0");
    if (r == 0)
        r = rtnl_link_veth_add(sk, "probe", "probed", getpid());
    if (r < 0) {
        snprintf(why_not, sizeof(why_not), "no bridge or veth in this kernel: %s", nl_geterror(r));
        nl_socket_free(sk);
        sk = NULL;
    }
    return 0;
}

static int drop_namespace(void **state)
{
    (void)state;
    nl_socket_free(sk);
    return 0;
}

static void set_up_links(void)
{
    size_t i;

    if (!sk) {
        print_message("%s\n", why_not);
        skip();
    }
    delete_link("br0");
    tl_eq(rtnl_link_bridge_add(sk, "br0"), 0);
    tl_eq(change("br0", true), 0);
    for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        delete_link(pairs[i].name);
        tl_eq(rtnl_link_veth_add(sk, pairs[i].name, pairs[i].peer, getpid()), 0);
        tl_eq(change(pairs[i].name, true), 0);
        tl_eq(change(pairs[i].peer, true), 0);
        if (pairs[i].bridged)
            enslave(pairs[i].name, "br0");
    }
}

static void isolate(struct colo_nics *nics)
{
    struct colo_nic_desc d[2] = {
        {.vif = "vif5.0",
         .tap = "vif5.0-emu",
         .mac = {0x00, 0x16, 0x3e, 1, 2, 3},
         .ip.s_addr = htonl(0xc0000207)},
        {.vif = "vif5.1", .tap = "vif5.1-emu", .mac = {0x00, 0x16, 0x3e, 1, 2, 4}},
    };
    struct colo_err e = {0};

    tl_ok(colo_nics_isolate(d, 2, nics, &e), &e);
}

static void test_isolate_and_join(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    isolate(&nics);
    is_on("vif5.0-emu", "", true);
    is_on("vif5.0", "", true);
    is_on("vif5.1-emu", "", false); /* was on no bridge: set down */
    is_on("uplink", "br0", true);
    tl_ok(colo_nics_join(&nics, &e), &e);
    is_on("vif5.0-emu", "br0", true);
    is_on("vif5.0", "br0", true);
    is_on("vif5.1-emu", "", true);
    tl_ok(colo_nics_join(&nics, &e), &e); /* once more: nothing */
    is_on("vif5.0-emu", "br0", true);
    memset(&nics, 0, sizeof(nics));
    tl_ok(colo_nics_join(&nics, &e), &e); /* none: nothing */
}

/* What a process leaves behind that was killed between writing down and doing, and the reverse. */
static void test_join_after_half_an_isolate(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    isolate(&nics);
    enslave("vif5.0-emu", "br0");
    tl_ok(colo_nics_join(&nics, &e), &e);
    is_on("vif5.0-emu", "br0", true);
    is_on("vif5.0", "br0", true);
}

static void test_link_that_was_down_stays_down(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    change("vif5.0", false);
    change("vif5.1-emu", false);
    isolate(&nics);
    tl_ok(colo_nics_join(&nics, &e), &e);
    is_on("vif5.0", "br0", false);
    is_on("vif5.1-emu", "", false);
}

static void test_vanished_link_is_named_and_the_rest_joined(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    isolate(&nics);
    delete_link("vif5.0-emu");
    assert_int_equal(colo_nics_join(&nics, &e), -1);
    tl_str_eq(e.reason, "nic-missing");
    tl_has(e.msg, "vif5.0-emu");
    is_on("vif5.0", "br0", true);
    is_on("vif5.1-emu", "", true);
}

static void test_vanished_bridge_is_named_and_can_come_back(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    isolate(&nics);
    delete_link("br0");
    assert_int_equal(colo_nics_join(&nics, &e), -1);
    tl_str_eq(e.reason, "bridge-missing");
    tl_has(e.msg, "br0");
    tl_eq(rtnl_link_bridge_add(sk, "br0"), 0);
    tl_eq(change("br0", true), 0);
    tl_ok(colo_nics_join(&nics, &e), &e);
    is_on("vif5.0-emu", "br0", true);
}

static void test_missing_nic_and_too_many(void **state)
{
    struct colo_nic_desc d[COLO_MAX_NICS + 1];
    struct colo_nics nics;
    struct colo_err e = {0};

    (void)state;
    set_up_links();
    memset(d, 0, sizeof(d));
    strcpy(d[0].vif, "vif6.0");
    strcpy(d[0].tap, "vif6.0-emu");
    assert_int_equal(colo_nics_isolate(d, 1, &nics, &e), -1);
    tl_str_eq(e.reason, "nic-missing");
    tl_has(e.msg, "vif6.0-emu");
    assert_int_equal(colo_nics_isolate(d, COLO_MAX_NICS + 1, &nics, &e), -1);
    tl_str_eq(e.reason, "too-many-nics");
}

/* Count the guest's frames that come out of `outside`, until one of the marker comes. */
static const uint8_t marker[6] = {0x02, 0, 0, 0, 0, 9};

static void hear(int fd, unsigned int *rarp, unsigned int *arp)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint8_t frame[2000];
    ssize_t r;

    for (;;) {
        assert_true(poll(&p, 1, 20000) > 0);
        r = recv(fd, frame, sizeof(frame), 0);
        if (r >= 42 && !memcmp(frame + 6, marker, 6))
            return;
        if (r < 42 || memcmp(frame + 6, mac, 6) != 0)
            continue;
        *rarp += frame[12] == 0x80 && frame[13] == 0x35;
        *arp += frame[12] == 0x08 && frame[13] == 0x06;
    }
}

static int listen_on(const char *name)
{
    struct sockaddr_ll sa = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)if_nametoindex(name),
    };
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

    assert_true(fd >= 0);
    tl_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* Which port does the bridge think the guest is behind? */
static int learned_port(void)
{
    struct nl_cache *cache;
    struct nl_object *o;
    struct rtnl_neigh *n;
    struct nl_addr *a;
    int index = 0;

    tl_eq(rtnl_neigh_alloc_cache_flags(sk, &cache, NL_CACHE_AF_ITER), 0);
    for (o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        n = (struct rtnl_neigh *)o;
        a = rtnl_neigh_get_lladdr(n);
        if (rtnl_neigh_get_family(n) == AF_BRIDGE && a &&
            !memcmp(nl_addr_get_binary_addr(a), mac, 6))
            index = rtnl_neigh_get_ifindex(n);
    }
    nl_cache_free(cache);
    return index;
}

static void test_announcements_leave_through_the_uplink(void **state)
{
    struct colo_nics nics;
    struct colo_err e = {0};
    unsigned int rarp = 0, arp = 0;
    int fd;

    (void)state;
    set_up_links();
    isolate(&nics);
    fd = listen_on("outside");
    tl_ok(colo_nics_announce(&nics, &e), &e); /* still away: not a word */
    tl_ok(colo_nics_join(&nics, &e), &e);
    tl_ok(colo_nics_announce(&nics, &e), &e);
    tl_ok(colo_announce_send("br0", marker, (struct in_addr){0}, &e), &e);
    hear(fd, &rarp, &arp);
    tl_eq(rarp, 2);
    tl_eq(arp, 2);
    close(fd);
    tl_eq(learned_port(), if_nametoindex("vif5.0-emu"));
}

static void test_announcing_on_a_bridge_that_is_not_there(void **state)
{
    struct in_addr none = {0};
    struct colo_err e = {0};

    (void)state;
    tl_fails(colo_announce_send("no-such-br", mac, none, &e), &e, COLO_ERR_LOCAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rarp_frame),
        cmocka_unit_test(test_gratuitous_arp_frame),
        cmocka_unit_test(test_isolate_and_join),
        cmocka_unit_test(test_join_after_half_an_isolate),
        cmocka_unit_test(test_link_that_was_down_stays_down),
        cmocka_unit_test(test_vanished_link_is_named_and_the_rest_joined),
        cmocka_unit_test(test_vanished_bridge_is_named_and_can_come_back),
        cmocka_unit_test(test_missing_nic_and_too_many),
        cmocka_unit_test(test_announcements_leave_through_the_uplink),
        cmocka_unit_test(test_announcing_on_a_bridge_that_is_not_there),
    };

    return cmocka_run_group_tests(tests, make_namespace, drop_namespace);
}

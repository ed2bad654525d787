/* SPDX-License-Identifier: GPL-2.0-only */
#include "testnet.h"

#include <errno.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nl_sock *sk; /* NULL: no namespace */
static char why_not[160];

/* Own processes, so that none outlives the test; own /proc for those, own /run for their sockets. */
static bool contain(void)
{
    pid_t pid;
    int status;

    if (unshare(CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS) < 0)
        return false;
    pid = fork();
    if (pid > 0) {
        while (waitpid(pid, &status, 0) < 0)
            ;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    if (pid < 0)
        return false;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("proc", "/proc", "proc", 0, NULL) == 0 &&
           mount("tmpfs", "/run", "tmpfs", 0, NULL) == 0;
}

int tn_enter(void **state)
{
    int r;

    (void)state;
    if (access("/dev/net/tun", R_OK | W_OK) || !contain()) {
        snprintf(why_not, sizeof(why_not), "no taps or namespaces: %s", strerror(errno));
        return 0;
    }
    sk = nl_socket_alloc();
    r = nl_connect(sk, NETLINK_ROUTE);
    if (r == 0)
        r = rtnl_link_bridge_add(sk, "probe");
    if (r == 0) {
        tn_up("lo");
        return 0;
    }
    snprintf(why_not, sizeof(why_not), "no bridge in this kernel: %s", nl_geterror(r));
    nl_socket_free(sk);
    sk = NULL;
    return 0;
}

int tn_leave(void **state)
{
    (void)state;
    nl_socket_free(sk);
    sk = NULL;
    return 0;
}

void tn_skip(void)
{
    if (sk)
        return;
    print_message("%s\n", why_not);
    skip();
}

static struct rtnl_link *get(const char *name)
{
    struct rtnl_link *l = NULL;

    if (rtnl_link_get_kernel(sk, 0, name, &l))
        return NULL;
    return l;
}

void tn_up(const char *name)
{
    struct rtnl_link *l = get(name), *c = rtnl_link_alloc();

    assert_non_null(l);
    rtnl_link_set_flags(c, IFF_UP);
    tl_eq(rtnl_link_change(sk, l, c, 0), 0);
    rtnl_link_put(l);
    rtnl_link_put(c);
}

void tn_bridge(const char *name)
{
    tl_eq(rtnl_link_bridge_add(sk, name), 0);
    tn_up(name);
}

void tn_veth(const char *name, const char *peer)
{
    tl_eq(rtnl_link_veth_add(sk, name, peer, getpid()), 0);
    tn_up(name);
    tn_up(peer);
}

void tn_enslave(const char *name, const char *bridge)
{
    tl_eq(rtnl_link_enslave_ifindex(sk, (int)if_nametoindex(bridge), (int)if_nametoindex(name)), 0);
}

void tn_release(const char *name)
{
    tl_eq(rtnl_link_release_ifindex(sk, (int)if_nametoindex(name)), 0);
}

void tn_delete(const char *name)
{
    struct rtnl_link *l = sk ? get(name) : NULL;

    if (l)
        rtnl_link_delete(sk, l);
    rtnl_link_put(l);
}

const char *tn_bridge_of(const char *name)
{
    static char bridge[IFNAMSIZ];
    struct rtnl_link *l = get(name);

    if (!l)
        return "none";
    bridge[0] = '\0';
    if (rtnl_link_get_master(l) > 0)
        if_indextoname((unsigned int)rtnl_link_get_master(l), bridge);
    rtnl_link_put(l);
    return bridge;
}

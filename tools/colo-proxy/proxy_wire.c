/* SPDX-License-Identifier: GPL-2.0-only */
#include "proxy_wire.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/fifo.h>
#include <netlink/route/tc.h>

/* Ours among the filters of a link: nobody else's, as far as one can know, and before all others'. */
#define PRIORITY       0xc0
#define HANDLE         0xc0
#define INGRESS_HANDLE 0xffff0000u /* ffff:0, as for every ingress qdisc */

static int failed(struct colo_err *err, const char *what, struct rtnl_link *link, int r)
{
    if (r == -NLE_OBJ_NOTFOUND)
        return colo_fail(err, COLO_ERR_LOCAL, "nic-link",
                         "%s of network link %s: the kernel lacks one of sch_ingress, cls_u32 and "
                         "act_mirred",
                         what, rtnl_link_get_name(link));
    return colo_fail(err, COLO_ERR_LOCAL, "nic-link", "%s of network link %s: %s", what,
                     rtnl_link_get_name(link), nl_geterror(r));
}

int proxy_wire_queue(struct nl_sock *sk, struct rtnl_link *link, int frames, struct colo_err *err)
{
    struct rtnl_qdisc *q = rtnl_qdisc_alloc();
    int r = -NLE_NOMEM;

    if (q) {
        rtnl_tc_set_link(TC_CAST(q), link);
        rtnl_tc_set_parent(TC_CAST(q), TC_H_ROOT);
        r = rtnl_tc_set_kind(TC_CAST(q), "pfifo");
        if (r >= 0)
            r = rtnl_qdisc_fifo_set_limit(q, frames);
        if (r >= 0)
            r = rtnl_qdisc_add(sk, q, NLM_F_CREATE | NLM_F_REPLACE);
    }
    rtnl_qdisc_put(q);
    return r < 0 ? failed(err, "the queue", link, r) : 0;
}

static struct rtnl_qdisc *ingress(struct rtnl_link *link)
{
    struct rtnl_qdisc *q = rtnl_qdisc_alloc();

    if (!q)
        return NULL;
    rtnl_tc_set_link(TC_CAST(q), link);
    rtnl_tc_set_parent(TC_CAST(q), TC_H_INGRESS);
    rtnl_tc_set_handle(TC_CAST(q), INGRESS_HANDLE);
    rtnl_tc_set_kind(TC_CAST(q), "ingress");
    return q;
}

int proxy_wire_ingress(struct nl_sock *sk, struct rtnl_link *link, struct colo_err *err)
{
    struct rtnl_qdisc *q = ingress(link);
    int r = q ? rtnl_qdisc_add(sk, q, NLM_F_CREATE | NLM_F_EXCL) : -NLE_NOMEM;

    rtnl_qdisc_put(q);
    if (r == -NLE_EXIST)
        return 1;
    return r < 0 ? failed(err, "the ingress queue", link, r) : 0;
}

static struct rtnl_cls *filter(struct rtnl_link *link)
{
    struct rtnl_cls *c = rtnl_cls_alloc();

    if (!c)
        return NULL;
    rtnl_tc_set_link(TC_CAST(c), link);
    rtnl_tc_set_parent(TC_CAST(c), INGRESS_HANDLE);
    rtnl_tc_set_kind(TC_CAST(c), "u32");
    rtnl_cls_set_prio(c, PRIORITY);
    rtnl_cls_set_protocol(c, ETH_P_ALL);
    return c;
}

static struct rtnl_act *redirect(struct rtnl_link *to)
{
    struct rtnl_act *a = rtnl_act_alloc();

    if (!a)
        return NULL;
    if (rtnl_tc_set_kind(TC_CAST(a), "mirred") < 0 ||
        rtnl_mirred_set_action(a, TCA_EGRESS_REDIR) < 0 ||
        rtnl_mirred_set_ifindex(a, (uint32_t)rtnl_link_get_ifindex(to)) < 0 ||
        rtnl_mirred_set_policy(a, TC_ACT_STOLEN) < 0) {
        rtnl_act_put(a);
        return NULL;
    }
    return a;
}

static int add_filter(struct nl_sock *sk, struct rtnl_link *from, struct rtnl_link *to)
{
    struct rtnl_cls *c = filter(from);
    struct rtnl_act *a = redirect(to);
    int r = -NLE_NOMEM;

    if (c && a) {
        rtnl_u32_set_handle(c, 0x800, 0, HANDLE);
        r = rtnl_u32_add_key_uint32(c, 0, 0, 0, 0); /* matches all */
        if (r >= 0)
            r = rtnl_u32_set_cls_terminal(c);
        if (r >= 0)
            r = rtnl_u32_add_action(c, a);
        if (r >= 0)
            r = rtnl_cls_add(sk, c, NLM_F_CREATE | NLM_F_EXCL);
    }
    rtnl_act_put(a);
    rtnl_cls_put(c);
    return r;
}

int proxy_wire_filter(struct nl_sock *sk, struct rtnl_link *from, struct rtnl_link *to,
                      struct colo_err *err)
{
    int r = add_filter(sk, from, to);

    if (r == -NLE_EXIST) { /* by an earlier setup, perhaps to a tap that has gone since */
        if (proxy_wire_unfilter(sk, from, false, err))
            return -1;
        r = add_filter(sk, from, to);
    }
    return r < 0 ? failed(err, "the redirection", from, r) : 0;
}

int proxy_wire_unfilter(struct nl_sock *sk, struct rtnl_link *from, bool all, struct colo_err *err)
{
    struct rtnl_cls *c = filter(from);
    struct rtnl_qdisc *q;
    int r = c ? rtnl_cls_delete(sk, c, 0) : -NLE_NOMEM;

    rtnl_cls_put(c);
    if (r < 0 && r != -NLE_OBJ_NOTFOUND && r != -NLE_INVAL) /* INVAL: there is no ingress qdisc */
        return failed(err, "the redirection", from, r);
    if (!all)
        return 0;
    q = ingress(from);
    r = q ? rtnl_qdisc_delete(sk, q) : -NLE_NOMEM;
    rtnl_qdisc_put(q);
    if (r < 0 && r != -NLE_OBJ_NOTFOUND && r != -NLE_INVAL)
        return failed(err, "the ingress queue", from, r);
    return 0;
}

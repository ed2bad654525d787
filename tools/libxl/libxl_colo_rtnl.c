/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_rtnl.h"

#include <stdio.h>
#include <string.h>

struct nl_sock *colo_rtnl_open(struct colo_err *err)
{
    struct nl_sock *sk = nl_socket_alloc();
    int r = sk ? nl_connect(sk, NETLINK_ROUTE) : -NLE_NOMEM;

    if (r < 0) {
        colo_fail(err, COLO_ERR_LOCAL, NULL, "rtnetlink: %s", nl_geterror(r));
        nl_socket_free(sk);
        return NULL;
    }
    return sk;
}

int colo_rtnl_link(struct nl_sock *sk, int index, const char *name, struct rtnl_link **link,
                   struct colo_err *err)
{
    int r = rtnl_link_get_kernel(sk, index, name, link);

    if (r == 0)
        return 1;
    *link = NULL;
    if (r == -NLE_NODEV || r == -NLE_OBJ_NOTFOUND)
        return 0;
    if (name)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "network link %s: %s", name, nl_geterror(r));
    return colo_fail(err, COLO_ERR_LOCAL, NULL, "network link %d: %s", index, nl_geterror(r));
}

int colo_rtnl_bridge_of(struct nl_sock *sk, struct rtnl_link *link, char name[IFNAMSIZ],
                        struct colo_err *err)
{
    struct rtnl_link *master;
    const char *type;
    int index = rtnl_link_get_master(link), rc;

    name[0] = '\0';
    if (index <= 0)
        return 0;
    rc = colo_rtnl_link(sk, index, NULL, &master, err);
    if (rc <= 0)
        return rc;
    type = rtnl_link_get_type(master);
    if (type && !strcmp(type, "bridge"))
        snprintf(name, IFNAMSIZ, "%s", rtnl_link_get_name(master));
    else
        index = 0;
    rtnl_link_put(master);
    return index;
}

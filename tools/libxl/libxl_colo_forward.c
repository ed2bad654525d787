/* SPDX-License-Identifier: LGPL-2.1-only */
#include "libxl_colo_forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *colo_forward_device(const libxl_domain_config *cfg)
{
    for (int i = 0; i < cfg->num_nics; i++)
        if (cfg->nics[i].coloft_forwarddev && *cfg->nics[i].coloft_forwarddev)
            return cfg->nics[i].coloft_forwarddev;
    return NULL;
}

/* How good an address is for a listener: 0 = not at all. */
static int rank(const struct sockaddr *sa)
{
    const struct sockaddr_in6 *sin6 = (const void *)sa;

    if (sa && sa->sa_family == AF_INET)
        return 3;
    if (!sa || sa->sa_family != AF_INET6)
        return 0;
    return IN6_IS_ADDR_LINKLOCAL(&sin6->sin6_addr) ? 1 : 2;
}

static void print(const struct sockaddr *sa, char address[COLO_ADDRESS])
{
    const struct sockaddr_in6 *sin6 = (const void *)sa;
    const struct sockaddr_in *sin = (const void *)sa;

    if (sa->sa_family == AF_INET)
        inet_ntop(AF_INET, &sin->sin_addr, address, COLO_ADDRESS);
    else
        inet_ntop(AF_INET6, &sin6->sin6_addr, address, COLO_ADDRESS);
}

int colo_forward_listen(const char *device, char address[COLO_ADDRESS], struct colo_err *err)
{
    const char *ssh = getenv("SSH_CONNECTION"); /* client, its port, server, its port */
    struct ifaddrs *list;
    int best = 0;

    address[0] = '\0';
    if (!device) {
        if (ssh)
            sscanf(ssh, "%*s %*s %63s", address);
        return 0;
    }
    if (getifaddrs(&list))
        return colo_fail_errno(err, errno, "this host's addresses");
    for (const struct ifaddrs *i = list; i; i = i->ifa_next)
        if (!strcmp(i->ifa_name, device) && rank(i->ifa_addr) > best) {
            best = rank(i->ifa_addr);
            print(i->ifa_addr, address);
        }
    freeifaddrs(list);
    if (best)
        return 0;
    return colo_fail(err, COLO_ERR_REFUSED, "forwarddev",
                     "network device %s, which forwarddev= names, has no address on this host",
                     device);
}

void colo_forward_host(const char *device, const char *address, char host[COLO_ADDRESS + IFNAMSIZ])
{
    struct in6_addr a;
    bool local = inet_pton(AF_INET6, address, &a) == 1 && IN6_IS_ADDR_LINKLOCAL(&a);

    snprintf(host, COLO_ADDRESS + IFNAMSIZ, "%.63s%s%.15s", address, local && device ? "%" : "",
             local && device ? device : "");
}

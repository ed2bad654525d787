/* SPDX-License-Identifier: GPL-2.0-only */
/* eth0 and lo get the addresses of the kernel command line; no other configuration. */
#include "guest.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct in6_request { /* the kernel's struct in6_ifreq */
    struct in6_addr addr;
    uint32_t prefix;
    int index;
};

static void named(struct ifreq *req, const char *name)
{
    memset(req, 0, sizeof(*req));
    snprintf(req->ifr_name, sizeof(req->ifr_name), "%s", name);
}

static void bring_up(int fd, const char *name)
{
    struct ifreq req;

    named(&req, name);
    if (ioctl(fd, SIOCGIFFLAGS, &req) < 0) {
        say("net: no %s", name);
        return;
    }
    req.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &req) < 0)
        say("net: cannot bring %s up", name);
}

static unsigned split(const char *text, char *addr, size_t size, unsigned prefix)
{
    char *slash;

    snprintf(addr, size, "%s", text);
    slash = strchr(addr, '/');
    if (slash) {
        *slash = 0;
        prefix = (unsigned)atoi(slash + 1);
    }
    return prefix;
}

static void add4(int fd, const char *text)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    struct ifreq req;
    char ip[64];
    unsigned prefix = split(text, ip, sizeof(ip), 24);

    named(&req, "eth0");
    inet_pton(AF_INET, ip, &addr.sin_addr);
    memcpy(&req.ifr_addr, &addr, sizeof(addr));
    if (ioctl(fd, SIOCSIFADDR, &req) < 0)
        say("net: cannot set %s", ip);
    addr.sin_addr.s_addr = prefix ? htonl(~0u << (32 - prefix)) : 0;
    memcpy(&req.ifr_netmask, &addr, sizeof(addr));
    if (ioctl(fd, SIOCSIFNETMASK, &req) < 0)
        say("net: cannot set the netmask");
}

static void add6(const char *text)
{
    struct in6_request req = {0};
    char ip[80];
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    req.prefix = split(text, ip, sizeof(ip), 64);
    req.index = (int)if_nametoindex("eth0");
    if (fd < 0 || inet_pton(AF_INET6, ip, &req.addr) != 1 || ioctl(fd, SIOCSIFADDR, &req) < 0)
        say("net: cannot set %s", ip);
    if (fd >= 0)
        close(fd);
}

void net_up(const char *ip, const char *ip6)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    bring_up(fd, "lo");
    if (if_nametoindex("eth0") != 0) {
        if (*ip)
            add4(fd, ip);
        bring_up(fd, "eth0");
        if (*ip6)
            add6(ip6);
    }
    close(fd);
}

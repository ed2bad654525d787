/* SPDX-License-Identifier: GPL-2.0-only */
/* The TCP sockets of the link. */
#include "proxy_link.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int bind_device(int fd, const char *device, struct colo_err *err)
{
    if (!device || !*device)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1))
        return colo_fail_errno(err, errno, "the proxies' link cannot use network device %s",
                               device);
    return 0;
}

/* Numbers only: a listening address is this host's own. */
static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **list,
                   struct colo_err *err)
{
    const struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    char service[8];
    int r;

    snprintf(service, sizeof(service), "%u", port);
    r = getaddrinfo(host, service, &hints, list);
    if (r)
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-address", "the address %s of a proxy: %s",
                         host ? host : "any", gai_strerror(r));
    return 0;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 sin6 = {0}; /* the port is where sockaddr_in has it, too */
    socklen_t len = sizeof(sin6);

    return getsockname(fd, (struct sockaddr *)&sin6, &len) ? 0 : ntohs(sin6.sin6_port);
}

static int listen_at(const struct addrinfo *a, const char *device, int *fd, struct colo_err *err)
{
    *fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return colo_fail_errno(err, errno, "a socket for the proxies' link");
    if (bind_device(*fd, device, err) == 0) {
        if (bind(*fd, a->ai_addr, a->ai_addrlen) == 0 && listen(*fd, 8) == 0)
            return 0;
        colo_fail_errno(err, errno, "cannot listen for the other proxy");
    }
    close(*fd);
    return -1;
}

int proxy_listen(const char *address, const char *device, int *fd, uint16_t *port,
                 struct colo_err *err)
{
    struct addrinfo *list = NULL;
    int rc = -1;

    *fd = -1;
    if (resolve(address, 0, AI_PASSIVE | AI_NUMERICHOST, &list, err))
        return -1;
    /* "any" is IPv4 and IPv6: the IPv6 socket takes both, where the host has IPv6 */
    for (int family = AF_INET6; rc && family; family = family == AF_INET6 ? AF_INET : 0)
        for (const struct addrinfo *a = list; rc && a; a = a->ai_next)
            if (a->ai_family == family)
                rc = listen_at(a, device, fd, err);
    freeaddrinfo(list);
    if (rc == 0)
        *port = port_of(*fd);
    return rc;
}

int proxy_connect(const char *host, uint16_t port, const char *device, int *fd,
                  struct colo_err *err)
{
    struct addrinfo *list;
    int rc = -1;

    if (resolve(host, port, 0, &list, err))
        return -1;
    for (const struct addrinfo *a = list; rc && a; a = a->ai_next) {
        *fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (*fd < 0) {
            colo_fail_errno(err, errno, "a socket for the proxies' link");
            continue;
        }
        if (bind_device(*fd, device, err) == 0) {
            if (connect(*fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) {
                rc = 0;
                break;
            }
            colo_fail_errno(err, errno, "cannot connect to the proxy at %s", host);
        }
        close(*fd);
    }
    freeaddrinfo(list);
    return rc;
}

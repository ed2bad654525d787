/* SPDX-License-Identifier: GPL-2.0-only */
/* nbdkit does not tell which descriptors its connections have, but the kernel does. */
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "disk.h"

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

static bool is_ours(int fd, uint16_t port, const char *path)
{
    union address a = {0}, peer;
    socklen_t len = sizeof(a), peer_len = sizeof(peer);

    if (getsockname(fd, &a.sa, &len) || getpeername(fd, &peer.sa, &peer_len))
        return false; /* no socket, or one that listens */
    switch (a.sa.sa_family) {
    case AF_INET:
        return port && ntohs(a.in.sin_port) == port;
    case AF_INET6:
        return port && ntohs(a.in6.sin6_port) == port;
    case AF_UNIX:
        return path && !strncmp(a.un.sun_path, path, sizeof(a.un.sun_path));
    default:
        return false;
    }
}

void disk_cut(uint16_t port, const char *path)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *e;
    int fd;

    while (dir && (e = readdir(dir))) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        /* one of our own: the number may be another file's by now, this one stays what it is */
        fd = fcntl(atoi(e->d_name), F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (is_ours(fd, port, path))
            shutdown(fd, SHUT_RDWR);
        close(fd);
    }
    if (dir)
        closedir(dir);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two ends of ordinary TCP traffic, for bench-proxy.
 *
 *   bench-traffic serve ADDRESS PORT     answer one request a connection: "get N" with N bytes,
 *                                        "ask" with each 64 bytes that come
 *   bench-traffic get ADDRESS PORT N     prints bytes, seconds, and the longest wait for some, as JSON
 *   bench-traffic ask ADDRESS PORT N     prints each of N round trips in nanoseconds, as JSON
 */
#include <arpa/inet.h>
#include <err.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo_err.h"

#define QUESTION 64

static uint8_t block[256 << 10];

static struct sockaddr_in address(char **argv)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};

    if (inet_pton(AF_INET, argv[2], &sin.sin_addr) != 1)
        errx(1, "%s is no address", argv[2]);
    return sin;
}

static void all(int fd, const void *data, size_t len)
{
    for (ssize_t n; len > 0; len -= (size_t)n, data = (const uint8_t *)data + n) {
        n = write(fd, data, len);
        if (n <= 0)
            err(1, "write");
    }
}

/* ---- the server: a process for each connection ---- */

static void answer(int fd)
{
    char line[64] = "";
    ssize_t n = read(fd, line, sizeof(line) - 1);
    uint64_t left;

    if (n > 4 && !strncmp(line, "get ", 4)) {
        left = strtoull(line + 4, NULL, 10);
        for (size_t part; left > 0; left -= part) {
            part = left < sizeof(block) ? (size_t)left : sizeof(block);
            all(fd, block, part);
        }
        return;
    }
    while (n > 0) {
        all(fd, line, (size_t)n);
        n = read(fd, line, sizeof(line));
    }
}

static void serve(const struct sockaddr_in *sin)
{
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1, fd;

    signal(SIGCHLD, SIG_IGN);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(s, (const struct sockaddr *)sin, sizeof(*sin)) || listen(s, 64))
        err(1, "bind");
    puts("ready");
    fflush(stdout);
    for (;;) {
        fd = accept(s, NULL, NULL);
        if (fd < 0)
            err(1, "accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (fork() == 0) {
            close(s);
            answer(fd);
            _exit(0);
        }
        close(fd);
    }
}

/* ---- the client ---- */

static int connected(const struct sockaddr_in *sin)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (fd < 0 || connect(fd, (const struct sockaddr *)sin, sizeof(*sin)))
        err(1, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void get(int fd, uint64_t bytes)
{
    int64_t begun = colo_now(), last = begun, worst = 0, t;
    uint64_t have = 0;
    char line[64];
    ssize_t n;

    snprintf(line, sizeof(line), "get %" PRIu64 "\n", bytes);
    all(fd, line, strlen(line));
    while ((n = read(fd, block, sizeof(block))) > 0) {
        t = colo_now();
        worst = t - last > worst ? t - last : worst;
        last = t;
        have += (uint64_t)n;
    }
    if (have != bytes)
        errx(1, "get: not all of it came");
    printf("{\"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"worst_wait\": %.6f}\n", have,
           (double)(last - begun) / 1e9, (double)worst / 1e9);
}

static void ask(int fd, uint64_t times)
{
    uint8_t q[QUESTION] = "ask", a[QUESTION];
    int64_t begun;

    printf("[");
    for (uint64_t i = 0; i < times; i++) {
        begun = colo_now();
        memcpy(q + 8, &i, sizeof(i));
        all(fd, q, sizeof(q));
        for (size_t have = 0; have < sizeof(a);) {
            ssize_t n = read(fd, a + have, sizeof(a) - have);

            if (n <= 0)
                errx(1, "ask: no answer");
            have += (size_t)n;
        }
        if (memcmp(q, a, sizeof(a)) != 0)
            errx(1, "ask: a wrong answer");
        printf("%s%" PRId64, i ? ", " : "", colo_now() - begun);
    }
    printf("]\n");
}

int main(int argc, char **argv)
{
    struct sockaddr_in sin;

    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && !strcmp(argv[1], "serve")) {
        sin = address(argv);
        serve(&sin);
    }
    if (argc != 5 || (strcmp(argv[1], "get") != 0 && strcmp(argv[1], "ask") != 0)) {
        fprintf(stderr, "usage: bench-traffic serve|get|ask ADDRESS PORT [N]\n");
        return 2;
    }
    sin = address(argv);
    (argv[1][0] == 'g' ? get : ask)(connected(&sin), strtoull(argv[4], NULL, 10));
    return 0;
}

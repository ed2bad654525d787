/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a client of the control socket may send.  The first byte of the input says in pieces of how
 * many bytes it comes; the client reads its answers late, so that some do not fit the socket.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzzchan.h"
#include "libxl_colo_control_priv.h"

#define LONG_REPLY 100000
#define LINE_MAX   512 /* with its newline */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int tag; /* what the handler is called with */

static char *handler(void *priv, const char *command)
{
    char *text;

    if (priv != &tag || strlen(command) >= LINE_MAX)
        abort();
    if (command[0] == 'n') /* out of memory */
        return NULL;
    if (command[0] != 'l')
        return strdup("{\"ok\":true}");
    text = malloc(LONG_REPLY + 1);
    if (!text)
        abort();
    memset(text, ' ', LONG_REPLY);
    text[LONG_REPLY] = '\0';
    text[0] = '{';
    text[LONG_REPLY - 1] = '}';
    return text;
}

/* All that comes back: whole lines of JSON. */
static unsigned int read_replies(int fd, struct colo_control_server *s)
{
    static char text[1 << 20];
    unsigned int n = 0;
    struct colo_json *j;
    size_t have = 0;
    char *end;
    ssize_t r;

    while ((r = recv(fd, text + have, sizeof(text) - have, MSG_DONTWAIT)) > 0) {
        have += (size_t)r;
        while ((end = memchr(text, '\n', have))) {
            if (colo_json_parse(text, (size_t)(end - text), &j, NULL) < 0)
                abort();
            colo_json_free(j);
            n++;
            have -= (size_t)(end + 1 - text);
            memmove(text, end + 1, have);
        }
        colo_control_serve(s);
    }
    if (have)
        abort();
    return n;
}

/* How many answers these bytes must have: one a request, and one to the first that is none. */
static unsigned int expected(const char *p, size_t left)
{
    unsigned int n = 0;
    struct colo_json *j;
    const char *end;
    bool good;

    while ((end = memchr(p, '\n', left < LINE_MAX ? left : LINE_MAX))) {
        n++;
        good = colo_json_parse(p, (size_t)(end - p), &j, NULL) == 0 &&
               colo_json_get_str(j, "command") != NULL;
        colo_json_free(j);
        if (!good)
            return n;
        left -= (size_t)(end + 1 - p);
        p = end + 1;
    }
    return n + (left >= LINE_MAX);
}

static unsigned int talk(struct colo_control_server *s, int fd, const uint8_t *data, size_t size,
                         size_t chunk)
{
    unsigned int n = 0;
    ssize_t r;

    while (size) {
        r = send(fd, data, size < chunk ? size : chunk, MSG_NOSIGNAL);
        if (r < 0 && errno != EAGAIN)
            break; /* dropped */
        colo_control_serve(s);
        if (r < 0) { /* it waits for us to read */
            n += read_replies(fd, s);
            continue;
        }
        data += r;
        size -= (size_t)r;
    }
    return n + read_replies(fd, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct colo_control_server *s;
    int sv[2];

    if (size == 0 || size > 65536)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0 ||
        colo_control_new(handler, &tag, &s, NULL) < 0)
        abort();
    colo_control_add(s, sv[1]);
    if (talk(s, sv[0], data + 1, size - 1, data[0] ? data[0] : size) !=
        expected((const char *)data + 1, size - 1))
        abort();
    shutdown(sv[0], SHUT_WR);
    colo_control_serve(s);
    colo_control_close(s);
    close(sv[0]);
    return 0;
}

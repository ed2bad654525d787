/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the other end of the proxies' link may send.  The first byte of the input says who we are
 * (bit 0: secondary), whether the rest comes in front of TLS (bit 1), and whether a right HELLO goes
 * before it (bit 2); the second one, in pieces of how many bytes it comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct proxy_link_config cfg = {.key = "a key that everybody knows", .silence = COLO_MS};

/* The other end: TLS of its own, and no opinion about messages. */
struct peer {
    gnutls_session_t tls;
    gnutls_psk_client_credentials_t client;
    gnutls_psk_server_credentials_t server;
    int fd;
};

static int give_key(gnutls_session_t tls, const char *user, gnutls_datum_t *key)
{
    (void)tls;
    (void)user;
    key->data = gnutls_malloc(PROXY_KEY_BYTES);
    key->size = PROXY_KEY_BYTES;
    memcpy(key->data, cfg.key, PROXY_KEY_BYTES);
    return 0;
}

static void peer_begin(struct peer *p, int fd, bool server)
{
    const gnutls_datum_t key = {cfg.key, PROXY_KEY_BYTES};

    memset(p, 0, sizeof(*p));
    p->fd = fd;
    if (gnutls_init(&p->tls, GNUTLS_NONBLOCK | (server ? GNUTLS_SERVER : GNUTLS_CLIENT)) ||
        gnutls_priority_set_direct(p->tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK",
                                   NULL))
        abort();
    gnutls_transport_set_int(p->tls, fd);
    if (server) {
        gnutls_psk_allocate_server_credentials(&p->server);
        gnutls_psk_set_server_credentials_function(p->server, give_key);
        gnutls_credentials_set(p->tls, GNUTLS_CRD_PSK, p->server);
    } else {
        gnutls_psk_allocate_client_credentials(&p->client);
        gnutls_psk_set_client_credentials(p->client, "xen-colo", &key, GNUTLS_PSK_KEY_RAW);
        gnutls_credentials_set(p->tls, GNUTLS_CRD_PSK, p->client);
    }
}

static void peer_end(struct peer *p)
{
    gnutls_deinit(p->tls);
    if (p->client)
        gnutls_psk_free_client_credentials(p->client);
    if (p->server)
        gnutls_psk_free_server_credentials(p->server);
    close(p->fd);
}

/* All messages that are here; false: the link is lost, as it then stays. */
static bool read_all(struct proxy_link *l)
{
    struct proxy_link_event ev;
    struct colo_err err = {0};
    int rc;

    while ((rc = proxy_link_next(l, &ev, &err)) > 0) {
        if (!proxy_link_up(l) || ev.nic >= PROXY_MAX_NICS || ev.len > PROXY_FRAME_MAX)
            abort();
        if (ev.type == (cfg.secondary ? PROXY_MSG_GUEST : PROXY_MSG_CLIENT) ||
            ev.type == (cfg.secondary ? PROXY_MSG_MARK : PROXY_MSG_BARRIER))
            abort();
        if (ev.len && ev.data[0] + ev.data[ev.len - 1] < 0) /* they are there to be read */
            abort();
    }
    if (rc == 0)
        return true;
    if (!err.msg[0] || proxy_link_next(l, &ev, NULL) >= 0 || proxy_link_flush(l, NULL) >= 0)
        abort();
    return false;
}

static void shake(struct proxy_link *l, struct peer *p)
{
    int r = GNUTLS_E_AGAIN;

    for (int i = 0; i < 100 && r < 0; i++) {
        if (!read_all(l) || proxy_link_flush(l, NULL))
            abort();
        r = gnutls_handshake(p->tls);
        if (r < 0 && gnutls_error_is_fatal(r))
            abort();
    }
    if (r < 0 || !read_all(l))
        abort();
}

static void hello(struct peer *p, bool secondary)
{
    uint8_t m[48] = {1, 0, 0, 0, 0, 0, 0, 32};

    memcpy(m + 16, "xencolo1", 8);
    m[40] = secondary;
    if (gnutls_record_send(p->tls, m, sizeof(m)) != (ssize_t)sizeof(m))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_link *l;
    struct peer p;
    int sv[2];
    size_t piece;

    if (size < 2 || size > 60000)
        return 0;
    cfg.secondary = data[0] & 1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) ||
        proxy_link_new(sv[0], &cfg, &l, NULL))
        abort();
    peer_begin(&p, sv[1], !cfg.secondary);
    piece = data[1] ? data[1] : size;
    if (!(data[0] & 2)) {
        shake(l, &p);
        if (data[0] & 4) {
            hello(&p, !cfg.secondary);
            if (!read_all(l) || !proxy_link_up(l))
                abort();
        }
    }
    for (size_t at = 2, n; at < size; at += n) {
        n = size - at < piece ? size - at : piece;
        if (data[0] & 2)
            n = (size_t)send(sv[1], data + at, n, MSG_NOSIGNAL);
        else
            n = (size_t)gnutls_record_send(p.tls, data + at, n);
        if ((ssize_t)n <= 0 || !read_all(l))
            break;
        proxy_link_advance(l, colo_now(), NULL);
        proxy_link_flush(l, NULL);
    }
    proxy_link_free(l);
    peer_end(&p);
    return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* TLS and messages; see docs/specs/proxy-link.md. */
#include "proxy_link.h"

#include <endian.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* A fresh exchange for each connection: a key that gets known later opens nothing recorded.  AES
 * first: with the processor's instructions for it a third of the time per byte. */
#define PRIORITY                                        \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:" \
    "-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305"
#define USER        "xen-colo"
#define MAGIC       "xencolo1"
#define SILENCE     (5000 * COLO_MS)
#define IN_BYTES    (256u << 10) /* several messages at once */
#define RECORD_MOST 16384u       /* of TLS */

struct header {
    uint8_t type, nic;
    uint16_t zero;
    uint32_t length; /* big endian, as all of it */
    uint64_t number; /* 0, 1, 2, ... in each direction */
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 16, "docs/specs/proxy-link.md");

struct hello {
    char magic[8];
    uint8_t session[16];
    uint8_t role; /* 0 primary, 1 secondary */
    uint8_t zero[7];
} __attribute__((packed));
_Static_assert(sizeof(struct hello) == 32, "docs/specs/proxy-link.md");

struct proxy_link {
    struct proxy_link_config cfg;
    int fd;
    gnutls_session_t tls;
    gnutls_psk_server_credentials_t server;
    gnutls_psk_client_credentials_t client;
    bool shaken, up; /* TLS is there; HELLO has come */
    bool want_write; /* the handshake waits for room in the socket */
    struct colo_err lost;
    colo_time heard, pinged;
    uint64_t sent_messages, read_messages;
    uint8_t *in;
    uint32_t in_from, in_to; /* bytes that are here */
    uint8_t *out;
    uint32_t out_from, out_to, out_cap;
};

static int lose(struct proxy_link *l, enum colo_err_class cls, const char *text,
                struct colo_err *err)
{
    if (l->lost.cls == COLO_OK)
        colo_fail(&l->lost, cls, "proxy-link", "the link to the other proxy is lost: %s", text);
    if (err)
        *err = l->lost;
    return -1;
}

/* ---- TLS ---- */

static int give_key(gnutls_session_t tls, const char *user, gnutls_datum_t *key)
{
    const struct proxy_link *l = gnutls_session_get_ptr(tls);

    if (strcmp(user, USER) != 0)
        return -1;
    key->data = gnutls_malloc(PROXY_KEY_BYTES); /* freed by GnuTLS */
    if (!key->data)
        return -1;
    memcpy(key->data, l->cfg.key, PROXY_KEY_BYTES);
    key->size = PROXY_KEY_BYTES;
    return 0;
}

static int set_credentials(struct proxy_link *l)
{
    const gnutls_datum_t key = {l->cfg.key, PROXY_KEY_BYTES};
    int r;

    if (l->cfg.secondary) {
        r = gnutls_psk_allocate_server_credentials(&l->server);
        if (r < 0)
            return r;
        gnutls_psk_set_server_credentials_function(l->server, give_key);
        return gnutls_credentials_set(l->tls, GNUTLS_CRD_PSK, l->server);
    }
    r = gnutls_psk_allocate_client_credentials(&l->client);
    if (r == 0)
        r = gnutls_psk_set_client_credentials(l->client, USER, &key, GNUTLS_PSK_KEY_RAW);
    return r < 0 ? r : gnutls_credentials_set(l->tls, GNUTLS_CRD_PSK, l->client);
}

int proxy_link_new(int fd, const struct proxy_link_config *cfg, struct proxy_link **out,
                   struct colo_err *err)
{
    struct proxy_link *l = calloc(1, sizeof(*l));
    int r;

    if (!l) {
        close(fd);
        return colo_fail_errno(err, ENOMEM, "a link");
    }
    l->fd = fd;
    l->cfg = *cfg;
    if (l->cfg.silence == 0)
        l->cfg.silence = SILENCE;
    l->heard = l->pinged = colo_now();
    l->want_write = !cfg->secondary; /* the one that connects speaks first */
    l->in = malloc(IN_BYTES);
    if (!l->in) {
        proxy_link_free(l);
        return colo_fail_errno(err, ENOMEM, "a link");
    }
    r = gnutls_init(&l->tls, GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                                 (cfg->secondary ? GNUTLS_SERVER : GNUTLS_CLIENT));
    if (r < 0)
        l->tls = NULL;
    else
        r = gnutls_priority_set_direct(l->tls, PRIORITY, NULL);
    if (r >= 0) {
        gnutls_session_set_ptr(l->tls, l);
        gnutls_transport_set_int(l->tls, fd);
        r = set_credentials(l);
    }
    if (r < 0) {
        proxy_link_free(l);
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-link", "TLS: %s", gnutls_strerror(r));
    }
    *out = l;
    return 0;
}

void proxy_link_free(struct proxy_link *l)
{
    if (!l)
        return;
    if (l->tls) {
        if (l->shaken && l->lost.cls == COLO_OK)
            gnutls_bye(l->tls, GNUTLS_SHUT_WR);
        gnutls_deinit(l->tls);
    }
    if (l->server)
        gnutls_psk_free_server_credentials(l->server);
    if (l->client)
        gnutls_psk_free_client_credentials(l->client);
    close(l->fd);
    explicit_bzero(&l->cfg, sizeof(l->cfg));
    free(l->in);
    free(l->out);
    free(l);
}

int proxy_link_fd(const struct proxy_link *l)
{
    return l->fd;
}

uint32_t proxy_link_events(const struct proxy_link *l)
{
    if (!l->shaken)
        return l->want_write ? EPOLLOUT : EPOLLIN;
    return EPOLLIN | (l->out_from < l->out_to ? EPOLLOUT : 0);
}

bool proxy_link_up(const struct proxy_link *l)
{
    return l->up;
}

static int tls_failed(struct proxy_link *l, int r, struct colo_err *err)
{
    int why = errno; /* of the socket call in GnuTLS */

    if (r == 0 || r == GNUTLS_E_PREMATURE_TERMINATION)
        return lose(l, COLO_ERR_PEER_EOF, "it was closed", err);
    if (r == GNUTLS_E_PUSH_ERROR || r == GNUTLS_E_PULL_ERROR)
        return lose(l, COLO_ERR_LOCAL, strerror(why), err);
    return lose(l, COLO_ERR_PROTOCOL, gnutls_strerror(r), err);
}

/* ---- sending ---- */

/* Room for len bytes more behind out_to. */
static bool make_room(struct proxy_link *l, uint32_t len)
{
    uint32_t used = l->out_to - l->out_from, cap;
    uint8_t *larger;

    if (l->out_cap - l->out_to >= len)
        return true;
    if (l->out_from > 0) {
        memmove(l->out, l->out + l->out_from, used);
        l->out_from = 0;
        l->out_to = used;
    }
    if (l->out_cap - used >= len)
        return true;
    cap = l->out_cap ? l->out_cap : IN_BYTES;
    while (cap - used < len)
        cap *= 2;
    larger = realloc(l->out, cap);
    if (!larger)
        return false;
    l->out = larger;
    l->out_cap = cap;
    return true;
}

static bool put(struct proxy_link *l, enum proxy_msg type, uint8_t nic, const void *body,
                uint32_t len)
{
    struct header h = {.type = (uint8_t)type,
                       .nic = nic,
                       .length = htobe32(len),
                       .number = htobe64(l->sent_messages)};

    if (l->lost.cls != COLO_OK || !make_room(l, (uint32_t)sizeof(h) + len))
        return false;
    memcpy(l->out + l->out_to, &h, sizeof(h));
    memcpy(l->out + l->out_to + sizeof(h), body, len);
    l->out_to += (uint32_t)sizeof(h) + len;
    l->sent_messages++;
    return true;
}

/* What must not be left out: without memory for it the two sides would misunderstand each other. */
static void put_surely(struct proxy_link *l, enum proxy_msg type, const void *body, uint32_t len)
{
    if (!put(l, type, 0, body, len))
        lose(l, COLO_ERR_LOCAL, "out of memory", NULL);
}

bool proxy_link_send_frame(struct proxy_link *l, enum proxy_msg type, uint8_t nic,
                           const uint8_t *frame, uint32_t len)
{
    if (len > PROXY_FRAME_MAX || l->out_to - l->out_from + len > PROXY_QUEUE_LIMIT)
        return false;
    return put(l, type, nic, frame, len);
}

void proxy_link_send_number(struct proxy_link *l, enum proxy_msg type, uint64_t checkpoint)
{
    uint64_t be = htobe64(checkpoint);

    put_surely(l, type, &be, sizeof(be));
}

bool proxy_link_full(const struct proxy_link *l)
{
    return l->out_to - l->out_from >= PROXY_QUEUE_FULL;
}

uint64_t proxy_link_sent(const struct proxy_link *l)
{
    return l->sent_messages;
}

uint64_t proxy_link_read(const struct proxy_link *l)
{
    return l->read_messages;
}

static void say_hello(struct proxy_link *l)
{
    struct hello h = {.role = l->cfg.secondary};

    memcpy(h.magic, MAGIC, sizeof(h.magic));
    memcpy(h.session, l->cfg.session, sizeof(h.session));
    put_surely(l, PROXY_MSG_HELLO, &h, sizeof(h));
}

int proxy_link_flush(struct proxy_link *l, struct colo_err *err)
{
    ssize_t n;

    if (l->lost.cls != COLO_OK)
        return lose(l, COLO_OK, "", err);
    while (l->shaken && l->out_from < l->out_to) {
        uint32_t len = l->out_to - l->out_from;

        n = gnutls_record_send(l->tls, l->out + l->out_from, len < RECORD_MOST ? len : RECORD_MOST);
        if (n == GNUTLS_E_AGAIN)
            return 0;
        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n < 0)
            return tls_failed(l, (int)n, err);
        l->out_from += (uint32_t)n;
    }
    if (l->out_from == l->out_to)
        l->out_from = l->out_to = 0;
    return 0;
}

/* ---- receiving ---- */

/* 1 = TLS is there, 0 = not yet, -1 */
static int shake(struct proxy_link *l, struct colo_err *err)
{
    int r;

    if (l->shaken)
        return 1;
    do
        r = gnutls_handshake(l->tls);
    while (r == GNUTLS_E_INTERRUPTED ||
           (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r)));
    l->want_write = gnutls_record_get_direction(l->tls);
    if (r == GNUTLS_E_AGAIN)
        return 0;
    if (r < 0)
        return tls_failed(l, r, err);
    l->shaken = true;
    l->heard = colo_now();
    say_hello(l);
    return 1;
}

static bool good_hello(const struct proxy_link *l, const uint8_t *body, uint32_t len)
{
    struct hello h;

    if (len != sizeof(h))
        return false;
    memcpy(&h, body, sizeof(h));
    return !memcmp(h.magic, MAGIC, sizeof(h.magic)) &&
           !memcmp(h.session, l->cfg.session, sizeof(h.session)) && h.role == !l->cfg.secondary;
}

/* Is it a message that the other role sends, of a length that it has? */
static bool fits(const struct proxy_link *l, const struct header *h)
{
    uint32_t len = be32toh(h->length);

    bool frame = h->type == PROXY_MSG_CLIENT || h->type == PROXY_MSG_GUEST;

    if (l->up == (h->type == PROXY_MSG_HELLO) || h->zero || h->nic >= (frame ? PROXY_MAX_NICS : 1))
        return false;
    switch (h->type) {
    case PROXY_MSG_HELLO:
        return len == sizeof(struct hello);
    case PROXY_MSG_CLIENT:
    case PROXY_MSG_GUEST:
        return l->cfg.secondary == (h->type == PROXY_MSG_CLIENT) && len <= PROXY_FRAME_MAX;
    case PROXY_MSG_BARRIER:
    case PROXY_MSG_MARK:
        return l->cfg.secondary == (h->type == PROXY_MSG_BARRIER) && len == 8;
    case PROXY_MSG_PING:
        return len == 0;
    default:
        return false;
    }
}

/* The message at in_from: 1 = taken, with *ev filled; 0 = not all of it is here. */
static int take(struct proxy_link *l, struct proxy_link_event *ev, struct colo_err *err)
{
    const uint8_t *body = l->in + l->in_from + sizeof(struct header);
    uint32_t have = l->in_to - l->in_from, len;
    struct header h;
    uint64_t be;

    if (have < sizeof(h))
        return 0;
    memcpy(&h, l->in + l->in_from, sizeof(h));
    if (!fits(l, &h))
        return lose(l, COLO_ERR_PROTOCOL, "a message that does not belong there", err);
    if (be64toh(h.number) != l->read_messages)
        return lose(l, COLO_ERR_PROTOCOL, "a message out of order", err);
    len = be32toh(h.length);
    if (have < sizeof(h) + len)
        return 0;
    l->in_from += (uint32_t)sizeof(h) + len;
    l->read_messages++;
    memset(ev, 0, sizeof(*ev));
    ev->type = (enum proxy_msg)h.type;
    ev->nic = h.nic;
    ev->data = body;
    ev->len = len;
    if (h.type == PROXY_MSG_HELLO) {
        if (!good_hello(l, body, len))
            return lose(l, COLO_ERR_PROTOCOL, "it belongs to another session", err);
        l->up = true;
    } else if (len == 8 && (h.type == PROXY_MSG_BARRIER || h.type == PROXY_MSG_MARK)) {
        memcpy(&be, body, sizeof(be));
        ev->checkpoint = be64toh(be);
    }
    return 1;
}

int proxy_link_next(struct proxy_link *l, struct proxy_link_event *ev, struct colo_err *err)
{
    ssize_t n;
    int rc;

    if (l->lost.cls != COLO_OK)
        return lose(l, COLO_OK, "", err);
    rc = shake(l, err);
    if (rc <= 0)
        return rc;
    for (;;) {
        rc = take(l, ev, err);
        if (rc < 0 || (rc > 0 && ev->type != PROXY_MSG_PING))
            return rc;
        if (rc > 0)
            continue;
        if (l->in_from > 0) {
            memmove(l->in, l->in + l->in_from, l->in_to - l->in_from);
            l->in_to -= l->in_from;
            l->in_from = 0;
        }
        n = gnutls_record_recv(l->tls, l->in + l->in_to, IN_BYTES - l->in_to);
        if (n == GNUTLS_E_AGAIN)
            return 0;
        if (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_REHANDSHAKE)
            continue;
        if (n <= 0)
            return tls_failed(l, (int)n, err);
        l->in_to += (uint32_t)n;
        l->heard = colo_now();
    }
}

/* ---- time ---- */

int proxy_link_advance(struct proxy_link *l, colo_time now, struct colo_err *err)
{
    if (l->lost.cls != COLO_OK)
        return lose(l, COLO_OK, "", err);
    if (now - l->heard >= l->cfg.silence)
        return lose(l, COLO_ERR_PEER_SILENT, "nothing was heard for too long", err);
    if (l->shaken && now - l->pinged >= l->cfg.silence / 5) {
        l->pinged = now;
        put_surely(l, PROXY_MSG_PING, "", 0);
    }
    return 0;
}

colo_time proxy_link_deadline(const struct proxy_link *l)
{
    colo_time silent = l->heard + l->cfg.silence, ping = l->pinged + l->cfg.silence / 5;

    return l->shaken && ping < silent ? ping : silent;
}

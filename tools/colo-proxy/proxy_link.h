/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The link between the proxies of a guest's two copies: one TCP connection under TLS 1.3 with a key
 * made for the session (PSK, with a fresh ECDHE exchange).  Messages have the format of
 * docs/specs/proxy-link.md; what breaks it, a number out of order included, ends the link.
 *
 * Nothing here blocks.  The caller polls proxy_link_fd and calls proxy_link_ready; what is sent is
 * collected and goes out with proxy_link_flush.  Once lost, a link stays lost.
 */
#ifndef PROXY_LINK_H
#define PROXY_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"
#include "colo_packet.h"

#define PROXY_KEY_BYTES   32
#define PROXY_FRAME_MAX   COLO_FRAME_MAX /* the longest frame that a link carries */
#define PROXY_MAX_NICS    16
#define PROXY_QUEUE_FULL  (4u << 20) /* proxy_link_full from here on */
#define PROXY_QUEUE_LIMIT (8u << 20) /* a frame that would go beyond is not taken */

enum proxy_msg {
    PROXY_MSG_HELLO = 1, /* session and role; first, both ways */
    PROXY_MSG_CLIENT,    /* P -> S: a client's frame, which the guest gets */
    PROXY_MSG_GUEST,     /* S -> P: a frame that the second copy sent */
    PROXY_MSG_BARRIER,   /* P -> S: the guest got what came before, before checkpoint N */
    PROXY_MSG_MARK,      /* S -> P: what follows is sent by a copy that is at checkpoint N */
    PROXY_MSG_PING,
};

struct proxy_link;

struct proxy_link_config {
    uint8_t key[PROXY_KEY_BYTES];
    uint8_t session[16];
    bool secondary;    /* listens; the other one connects */
    colo_time silence; /* nothing heard for so long: lost; 0 means 5 s */
};

/* What proxy_link_next found. */
struct proxy_link_event {
    enum proxy_msg type; /* HELLO: the link is up now */
    uint8_t nic;         /* CLIENT, GUEST */
    const uint8_t *data; /* the same: the frame, until the next call for this link */
    uint32_t len;
    uint64_t checkpoint; /* BARRIER, MARK */
};

/* Takes fd, a connected (or still connecting) TCP socket, also on failure. */
int proxy_link_new(int fd, const struct proxy_link_config *cfg, struct proxy_link **out,
                   struct colo_err *err);
void proxy_link_free(struct proxy_link *l); /* NULL is fine */

int proxy_link_fd(const struct proxy_link *l);
uint32_t proxy_link_events(const struct proxy_link *l); /* EPOLLIN, EPOLLOUT: what it waits for */
bool proxy_link_up(const struct proxy_link *l);         /* HELLOs were exchanged */

/*
 * The next message: 1 with *ev filled, 0 when there is none until the fd is readable again, -1 when
 * the link is lost (COLO_ERR_PEER_EOF, COLO_ERR_PEER_SILENT, COLO_ERR_PROTOCOL, COLO_ERR_LOCAL).
 */
int proxy_link_next(struct proxy_link *l, struct proxy_link_event *ev, struct colo_err *err);

/* False when the queue is at its limit: the frame is not taken. */
bool proxy_link_send_frame(struct proxy_link *l, enum proxy_msg type, uint8_t nic,
                           const uint8_t *frame, uint32_t len);
void proxy_link_send_number(struct proxy_link *l, enum proxy_msg type, uint64_t checkpoint);
bool proxy_link_full(const struct proxy_link *l); /* read less from where frames come */

/* Messages, HELLO and pings included: what one end has sent the other has read some time later. */
uint64_t proxy_link_sent(const struct proxy_link *l);
uint64_t proxy_link_read(const struct proxy_link *l);

/* Send what the socket takes; -1 when the link is lost. */
int proxy_link_flush(struct proxy_link *l, struct colo_err *err);

/* Time has passed: pings, notices silence.  -1 when the link is lost. */
int proxy_link_advance(struct proxy_link *l, colo_time now, struct colo_err *err);
colo_time proxy_link_deadline(const struct proxy_link *l);

/* ---- sockets ---- */

/*
 * Listen on a free port of `address` (numeric; NULL: any), on network device `device` (NULL: any).
 * *fd is non-blocking.
 */
int proxy_listen(const char *address, const char *device, int *fd, uint16_t *port,
                 struct colo_err *err);
/* Begin to connect; the host may be a name, which is looked up and may block for that. */
int proxy_connect(const char *host, uint16_t port, const char *device, int *fd,
                  struct colo_err *err);

#endif

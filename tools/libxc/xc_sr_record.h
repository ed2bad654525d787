/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Records: the framing that the libxc and the libxl stream share (type, length, body, padding).
 * Used in both directions and by both layers.
 */
#ifndef XC_SR_RECORD_H
#define XC_SR_RECORD_H

#include "xc_sr_channel.h"
#include "xc_sr_stream_format.h"

struct xc_sr_record {
    uint32_t type;
    uint32_t length; /* of data, without padding */
    void *data;      /* malloc'ed, NULL when length is 0 */
};
void xc_sr_record_free(struct xc_sr_record *rec); /* idempotent */

/* "PAGE_DATA", ..., or "type 0x..." (static buffer per thread) for messages. */
const char *xc_sr_record_name(uint32_t type);

/*
 * Read the next record's header; heartbeats are taken and passed over.  The body is the caller's
 * to read with xc_sr_read_body/xc_sr_read_padding.  A length above limit is COLO_ERR_PROTOCOL.
 */
int xc_sr_read_header(struct xc_sr_channel *ch, uint32_t limit, colo_time deadline,
                      struct xc_sr_rhdr *hdr, struct colo_err *err);
int xc_sr_read_padding(struct xc_sr_channel *ch, uint32_t length, colo_time deadline,
                       struct colo_err *err);

/* Read a whole record.  Memory grows with what has really arrived, not with what a header says. */
int xc_sr_read_record(struct xc_sr_channel *ch, uint32_t limit, colo_time deadline,
                      struct xc_sr_record *rec, struct colo_err *err);

/*
 * Is a record that is not a heartbeat buffered, or begun as far as its header?  True as well when
 * the stream has ended inside one: reading it tells.  Takes buffered heartbeats away.  Does not
 * wait; calls xc_sr_channel_pump.
 */
int xc_sr_record_pending(struct xc_sr_channel *ch, bool *pending, struct colo_err *err);

/*
 * Write one record whose body is the concatenation of iov (at most 1024 parts), padded.  Atomic
 * with respect to other writers of the channel.  The reading thread calls it between the records
 * that it reads, never inside one: it takes heartbeats away when they fill the buffer.
 */
int xc_sr_write_record(struct xc_sr_channel *ch, uint32_t type, const struct iovec *iov, int cnt,
                       colo_time deadline, struct colo_err *err);
int xc_sr_write_simple(struct xc_sr_channel *ch, uint32_t type, const void *body, uint32_t length,
                       colo_time deadline, struct colo_err *err);

#endif

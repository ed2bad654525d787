/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Device-model state: saved with xen-save-devices-state, loaded again and again with snapshot-load
 * from a tiny qcow2 image whose only snapshot's vmstate area we fill (docs/specs/device-state.md).
 */
#ifndef LIBXL_COLO_DEVSTATE_H
#define LIBXL_COLO_DEVSTATE_H

#include "libxl_qmp.h"

struct colo_devstate;

#define COLO_DEVSTATE_MAX ((size_t)256 << 20) /* no device state is larger; bounds the peer */

/*
 * dir is a directory on tmpfs, root-only; files in it are named after tag and are removed by close.
 * The qmp connection is borrowed.  Which commands this QEMU has is probed (query-commands); a QEMU
 * that has neither way to load is COLO_ERR_REFUSED "qemu-no-device-load".
 */
int colo_devstate_open(struct colo_qmp *q, const char *dir, const char *tag, bool for_load,
                       colo_time deadline, struct colo_devstate **out, struct colo_err *err);
/* Removes the image's node from QEMU (best effort), the files and frees. NULL is fine. */
void colo_devstate_close(struct colo_devstate *d);

/* The guest is stopped (QMP stop).  start lets QEMU save while the caller works; finish waits and
 * returns the state, malloc'ed. */
int colo_devstate_save_start(struct colo_devstate *d, colo_time deadline, struct colo_err *err);
int colo_devstate_save_finish(struct colo_devstate *d, colo_time deadline, void **buf, size_t *len,
                              struct colo_err *err);

/* Load a state that the other side's QEMU saved; QEMU is stopped and stays so. */
int colo_devstate_load(struct colo_devstate *d, const void *buf, size_t len, colo_time deadline,
                       struct colo_err *err);

/*
 * The qcow2 image, apart from any QEMU: write the metadata for a state area of at least `area`
 * bytes (1..COLO_DEVSTATE_MAX) to fd, an empty file, and size it.  Tells where in the file the
 * state goes and how large the file is; from the one to the other is the area.
 */
#define COLO_CKPT_SNAPSHOT "ckpt" /* the snapshot's name */
int colo_ckpt_image_write(int fd, size_t area, uint64_t *state_offset, uint64_t *file_size,
                          struct colo_err *err);

#endif

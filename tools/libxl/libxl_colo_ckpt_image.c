/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The image that snapshot-load reads a device state from: qcow2 version 2 with 64 KiB clusters, a
 * disk of one empty cluster and one internal snapshot.  A snapshot's vmstate area lies behind the
 * disk in the snapshot's own address space, at the first L1 entry that the disk does not use.
 *
 *   cluster 0  header                 4  snapshot table: one snapshot
 *           1  refcount table         5  the snapshot's L1: nothing, then the L2
 *           2  refcount block         6  the L2: one entry for each cluster of the area
 *           3  active L1: empty       7  the area, in one piece
 *
 * One L2 table and one refcount block cover more than a state may have, so there is one of each.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo_file.h"
#include "libxl_colo_devstate.h"

#define CLUSTER_BITS   16
#define CLUSTER        ((size_t)1 << CLUSTER_BITS)
#define AREA_FIRST     7 /* cluster */
#define L2_ENTRIES     (CLUSTER / 8)
#define BLOCK_ENTRIES  (CLUSTER / 2)
#define COPIED         (UINT64_C(1) << 63) /* the cluster has no other user */
#define VMSTATE_L1     1                   /* index: the disk ends within entry 0 */
#define L1_ENTRIES     2
#define SNAPSHOT_ID    "1"
#define SNAPSHOT_EXTRA 16

_Static_assert(COLO_DEVSTATE_MAX / CLUSTER <= L2_ENTRIES, "one L2 table covers every state");
_Static_assert(COLO_DEVSTATE_MAX / CLUSTER + AREA_FIRST <= BLOCK_ENTRIES,
               "so does a refcount block");

struct qcow2_header { /* version 2, big-endian */
    uint32_t magic;
    uint32_t version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_size;
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
};
_Static_assert(sizeof(struct qcow2_header) == 72, "qcow2 header");

struct qcow2_snapshot { /* then extra data, id, name; big-endian */
    uint64_t l1_table_offset;
    uint32_t l1_size;
    uint16_t id_str_size;
    uint16_t name_size;
    uint32_t date_sec;
    uint32_t date_nsec;
    uint64_t vm_clock_nsec;
    uint32_t vm_state_size; /* 0 would mean: a snapshot without a vmstate */
    uint32_t extra_data_size;
};
_Static_assert(sizeof(struct qcow2_snapshot) == 40, "qcow2 snapshot");

static void fill_header(void *cluster)
{
    struct qcow2_header h = {
        .magic = htobe32(UINT32_C(0x514649fb)), /* "QFI", 0xfb */
        .version = htobe32(2),
        .cluster_bits = htobe32(CLUSTER_BITS),
        .size = htobe64(CLUSTER),
        .l1_size = htobe32(L1_ENTRIES),
        .l1_table_offset = htobe64(3 * CLUSTER),
        .refcount_table_offset = htobe64(1 * CLUSTER),
        .refcount_table_clusters = htobe32(1),
        .nb_snapshots = htobe32(1),
        .snapshots_offset = htobe64(4 * CLUSTER),
    };

    memcpy(cluster, &h, sizeof(h));
}

static void fill_snapshot(unsigned char *cluster, size_t area)
{
    struct qcow2_snapshot s = {
        .l1_table_offset = htobe64(5 * CLUSTER),
        .l1_size = htobe32(L1_ENTRIES),
        .id_str_size = htobe16(strlen(SNAPSHOT_ID)),
        .name_size = htobe16(strlen(COLO_CKPT_SNAPSHOT)),
        .vm_state_size = htobe32((uint32_t)area),
        .extra_data_size = htobe32(SNAPSHOT_EXTRA),
    };
    uint64_t extra[2] = {htobe64(area), htobe64(CLUSTER)}; /* vmstate size again, disk size */

    _Static_assert(sizeof(extra) == SNAPSHOT_EXTRA, "extra data");
    memcpy(cluster, &s, sizeof(s));
    memcpy(cluster + sizeof(s), extra, sizeof(extra));
    memcpy(cluster + sizeof(s) + sizeof(extra), SNAPSHOT_ID, strlen(SNAPSHOT_ID));
    memcpy(cluster + sizeof(s) + sizeof(extra) + strlen(SNAPSHOT_ID), COLO_CKPT_SNAPSHOT,
           strlen(COLO_CKPT_SNAPSHOT));
}

int colo_ckpt_image_write(int fd, size_t area, uint64_t *state_offset, uint64_t *file_size,
                          struct colo_err *err)
{
    size_t clusters = area / CLUSTER + (area % CLUSTER != 0), i;
    unsigned char *image;
    uint64_t *l2;
    uint16_t *refs;
    int r;

    if (area == 0 || area > COLO_DEVSTATE_MAX)
        return colo_fail(err, COLO_ERR_LOCAL, "device-state-size",
                         "a device state area of %zu bytes", area);
    image = calloc(AREA_FIRST, CLUSTER);
    if (!image)
        return colo_fail_errno(err, ENOMEM, "checkpoint image");

    fill_header(image);
    *(uint64_t *)(image + 1 * CLUSTER) = htobe64(2 * CLUSTER);
    refs = (uint16_t *)(image + 2 * CLUSTER);
    for (i = 0; i < AREA_FIRST + clusters; i++)
        refs[i] = htobe16(1);
    fill_snapshot(image + 4 * CLUSTER, clusters * CLUSTER);
    ((uint64_t *)(image + 5 * CLUSTER))[VMSTATE_L1] = htobe64(6 * CLUSTER | COPIED);
    l2 = (uint64_t *)(image + 6 * CLUSTER);
    for (i = 0; i < clusters; i++)
        l2[i] = htobe64((AREA_FIRST + i) * CLUSTER | COPIED);

    r = colo_write_at(fd, image, AREA_FIRST * CLUSTER, 0);
    if (!r && ftruncate(fd, (off_t)((AREA_FIRST + clusters) * CLUSTER)))
        r = errno;
    free(image);
    if (r)
        return colo_fail_errno(err, r, "writing the checkpoint image");
    *state_offset = AREA_FIRST * CLUSTER;
    *file_size = (AREA_FIRST + clusters) * CLUSTER;
    return 0;
}

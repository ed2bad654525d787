/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo_file.h"

/* QEMU's file driver holds a byte for each permission that it uses (from 100) and for each that it
 * does not share (from 200); who wants the opposite finds the byte locked. */
#define QEMU_USES      100
#define QEMU_UNSHARED  200
#define QEMU_READ      0
#define QEMU_WRITE     1
#define QEMU_UNCHANGED 2
#define QEMU_RESIZE    3

#define ZEROES (256u << 10)

/* ---- opening ---- */

/* The name of the format that these first bytes belong to, or NULL. */
static const char *format_of(const uint8_t *b)
{
    static const struct {
        const char *name, *magic;
        size_t len, at;
    } formats[] = {
        {"qcow2", "QFI\xfb", 4, 0},     {"qed", "QED\0", 4, 0},
        {"vmdk", "KDMV", 4, 0},         {"vmdk", "COWD", 4, 0},
        {"vmdk", "# Disk Desc", 11, 0}, {"vhdx", "vhdxfile", 8, 0},
        {"vpc", "conectix", 8, 0},      {"vdi", "\x7f\x10\xda\xbe", 4, 64},
    };

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (!memcmp(b + formats[i].at, formats[i].magic, formats[i].len))
            return formats[i].name;
    return NULL;
}

static int check_format(const struct colo_target *t, const char *path, struct colo_err *err)
{
    uint8_t first[512] = {0};
    const char *format;

    if (pread(t->fd, first, sizeof(first), 0) < 0)
        return colo_fail_errno(err, errno, "%s cannot be read", path);
    format = format_of(first);
    if (!format)
        return 0;
    return colo_fail(err, COLO_ERR_REFUSED, "disk-format",
                     "%s is a %s image, and only raw files and block devices can be protected; "
                     "make it raw: qemu-img convert -O raw %s NEW",
                     path, format, path);
}

static int qemu_byte(int fd, int cmd, short type, off_t at)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

    if (fcntl(fd, cmd, &fl))
        return -1;
    return cmd == F_OFD_GETLK && fl.l_type != F_UNLCK;
}

/* As one that reads, writes and resizes, and that lets nobody else write or resize. */
static int lock_as_qemu(int fd)
{
    static const off_t mine[] = {QEMU_USES + QEMU_READ, QEMU_USES + QEMU_WRITE,
                                 QEMU_UNSHARED + QEMU_WRITE, QEMU_UNSHARED + QEMU_UNCHANGED,
                                 QEMU_UNSHARED + QEMU_RESIZE};
    static const off_t others[] = {QEMU_UNSHARED + QEMU_READ, QEMU_UNSHARED + QEMU_WRITE,
                                   QEMU_USES + QEMU_WRITE, QEMU_USES + QEMU_RESIZE};

    for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++)
        if (qemu_byte(fd, F_OFD_SETLK, F_RDLCK, mine[i]))
            return -1;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (qemu_byte(fd, F_OFD_GETLK, F_WRLCK, others[i]))
            return -1;
    return 0;
}

static int lock(const struct colo_target *t, const char *path, struct colo_err *err)
{
    if (flock(t->fd, LOCK_EX | LOCK_NB))
        return colo_fail(err, COLO_ERR_REFUSED, "disk-in-use",
                         "%s is in use: another colo-disk has it", path);
    if (!t->block && lock_as_qemu(t->fd))
        return colo_fail(err, COLO_ERR_REFUSED, "disk-in-use",
                         "%s is in use: another program, such as a guest's device model, has it",
                         path);
    return 0;
}

static int find_size(struct colo_target *t, const char *path, struct colo_err *err)
{
    struct stat st;

    if (fstat(t->fd, &st))
        return colo_fail_errno(err, errno, "%s", path);
    t->block = S_ISBLK(st.st_mode);
    if (!t->block && !S_ISREG(st.st_mode))
        return colo_fail(err, COLO_ERR_REFUSED, "disk-kind",
                         "%s is neither a file nor a block device", path);
    t->size = (uint64_t)st.st_size;
    if (t->block && ioctl(t->fd, BLKGETSIZE64, &t->size))
        return colo_fail_errno(err, errno, "the size of %s", path);
    if (t->size == 0)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-kind", "%s is empty", path);
    return 0;
}

int colo_target_open(struct colo_target *t, const char *path, bool raw, struct colo_err *err)
{
    struct stat st;
    int excl = stat(path, &st) == 0 && S_ISBLK(st.st_mode) ? O_EXCL : 0;

    memset(t, 0, sizeof(*t));
    t->fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | excl);
    if (t->fd < 0 && errno == EBUSY)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-in-use",
                         "%s is in use: mounted, or another program has it", path);
    if (t->fd < 0)
        return colo_fail_errno(err, errno, "%s cannot be opened", path);
    if (find_size(t, path, err) || lock(t, path, err) || (!raw && check_format(t, path, err))) {
        colo_target_close(t);
        return -1;
    }
    return 0;
}

void colo_target_close(struct colo_target *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

/* ---- requests ---- */

int colo_target_read(struct colo_target *t, void *buf, size_t len, uint64_t offset)
{
    ssize_t n = colo_read_at(t->fd, buf, len, offset);

    if (n < 0)
        return errno;
    if ((size_t)n < len && offset + (uint64_t)n < t->size)
        return EIO; /* somebody has cut the file */
    memset((uint8_t *)buf + n, 0, len - (size_t)n);
    return 0;
}

int colo_target_write(struct colo_target *t, const void *buf, size_t len, uint64_t offset)
{
    if (offset >= t->size)
        return 0;
    if (len > t->size - offset)
        len = t->size - offset;
    return colo_write_at(t->fd, buf, len, offset);
}

/* 0, or an errno; EOPNOTSUPP is remembered in *never. */
static int allocate(struct colo_target *t, int mode, uint64_t offset, uint64_t len, bool *never)
{
    if (__atomic_load_n(never, __ATOMIC_RELAXED))
        return EOPNOTSUPP;
    while (fallocate(t->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len)) {
        if (errno == EINTR)
            continue;
        if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV) {
            __atomic_store_n(never, true, __ATOMIC_RELAXED);
            return EOPNOTSUPP;
        }
        return errno == EINVAL ? EOPNOTSUPP : errno; /* a device's sectors are larger than this */
    }
    return 0;
}

static int write_zeroes(struct colo_target *t, uint64_t offset, uint64_t len)
{
    static const uint8_t zeroes[ZEROES];
    int r = 0;

    while (len > 0 && r == 0) {
        size_t n = len < ZEROES ? (size_t)len : ZEROES;

        r = colo_target_write(t, zeroes, n, offset);
        offset += n;
        len -= n;
    }
    return r;
}

int colo_target_zero(struct colo_target *t, uint64_t offset, uint64_t len, int flags)
{
    int r = EOPNOTSUPP;

    if (offset >= t->size)
        return 0;
    if (len > t->size - offset)
        len = t->size - offset;
    if (flags & COLO_ZERO_TRIM)
        r = allocate(t, FALLOC_FL_PUNCH_HOLE, offset, len, &t->no_punch);
    if (r == EOPNOTSUPP)
        r = allocate(t, FALLOC_FL_ZERO_RANGE, offset, len, &t->no_zero);
    if (r == EOPNOTSUPP && !(flags & COLO_ZERO_FAST))
        r = write_zeroes(t, offset, len);
    return r;
}

int colo_target_trim(struct colo_target *t, uint64_t offset, uint64_t len)
{
    int r = allocate(t, FALLOC_FL_PUNCH_HOLE, offset, len, &t->no_punch);

    return r == EOPNOTSUPP ? 0 : r;
}

int colo_target_flush(struct colo_target *t)
{
    int r;

    do
        r = fdatasync(t->fd);
    while (r && errno == EINTR);
    return r ? errno : 0;
}

int colo_target_extent(struct colo_target *t, uint64_t offset, uint64_t end, bool *data,
                       uint64_t *until)
{
    off_t at = -1;

    *data = true;
    *until = end;
    if (t->block || __atomic_load_n(&t->no_holes, __ATOMIC_RELAXED))
        return 0;
    at = lseek(t->fd, (off_t)offset, SEEK_DATA);
    if (at < 0 && errno == ENXIO) { /* no data from here on */
        *data = false;
        return 0;
    }
    if (at < 0 && errno != EINVAL && errno != EOPNOTSUPP)
        return errno;
    if (at < 0) {
        __atomic_store_n(&t->no_holes, true, __ATOMIC_RELAXED);
        return 0;
    }
    *data = (uint64_t)at == offset;
    if (*data)
        at = lseek(t->fd, (off_t)offset, SEEK_HOLE);
    if (at < 0)
        return errno == ENXIO ? 0 : errno;
    if ((uint64_t)at > offset && (uint64_t)at < end)
        *until = (uint64_t)at;
    return 0;
}

void colo_target_cache(struct colo_target *t, uint64_t offset, uint64_t len)
{
    (void)posix_fadvise(t->fd, (off_t)offset, (off_t)len, POSIX_FADV_WILLNEED);
}

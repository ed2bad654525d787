/* SPDX-License-Identifier: GPL-2.0-only */
/* The checkpoint image: its structure, and what qemu-img says about it when that is installed. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libxl_colo_devstate.h"

#define CLUSTER UINT64_C(65536)
#define COPIED  (UINT64_C(1) << 63)

struct image {
    char path[40];
    int fd;
    uint64_t state, size;
};

static void make(struct image *m, size_t area)
{
    struct colo_err err = {0};

    strcpy(m->path, "/tmp/test-ckpt-XXXXXX");
    m->fd = mkstemp(m->path);
    assert_true(m->fd >= 0);
    if (colo_ckpt_image_write(m->fd, area, &m->state, &m->size, &err) < 0)
        fail_msg("%s", err.msg);
}

static void drop(struct image *m)
{
    close(m->fd);
    unlink(m->path);
}

static uint64_t get(const struct image *m, uint64_t off, size_t width)
{
    unsigned char b[8];
    uint64_t v = 0;
    size_t i;

    assert_int_equal(pread(m->fd, b, width, (off_t)off), width);
    for (i = 0; i < width; i++)
        v = v << 8 | b[i];
    return v;
}

/* Walk from the header to the state as QEMU does. */
static void check(size_t area)
{
    struct image m;
    struct stat st;
    uint64_t snap, l1, l2, block, i, n = (area + CLUSTER - 1) / CLUSTER;
    char name[5] = {0};

    make(&m, area);
    assert_int_equal(fstat(m.fd, &st), 0);
    assert_int_equal(st.st_size, m.size);
    assert_int_equal(m.size - m.state, n * CLUSTER);
    assert_int_equal(get(&m, 0, 4), 0x514649fb);
    assert_int_equal(get(&m, 4, 4), 2);
    assert_int_equal(get(&m, 20, 4), 16);
    assert_int_equal(get(&m, 24, 8), CLUSTER);
    assert_int_equal(get(&m, 32, 4), 0);

    /* the active disk is empty */
    assert_int_equal(get(&m, 36, 4), 2);
    l1 = get(&m, 40, 8);
    assert_int_equal(get(&m, l1, 8) | get(&m, l1 + 8, 8), 0);

    /* each cluster of the file has one user */
    assert_int_equal(get(&m, 56, 4), 1);
    block = get(&m, get(&m, 48, 8), 8);
    for (i = 0; i < m.size / CLUSTER; i++)
        assert_int_equal(get(&m, block + 2 * i, 2), 1);
    if (i < CLUSTER / 2)
        assert_int_equal(get(&m, block + 2 * i, 2), 0);

    assert_int_equal(get(&m, 60, 4), 1);
    snap = get(&m, 64, 8);
    assert_int_equal(get(&m, snap + 8, 4), 2);
    assert_int_equal(get(&m, snap + 12, 2), 1);
    assert_int_equal(get(&m, snap + 14, 2), 4);
    assert_int_equal(get(&m, snap + 32, 4), n * CLUSTER);
    assert_int_equal(get(&m, snap + 36, 4), 16);
    assert_int_equal(get(&m, snap + 40, 8), n * CLUSTER);
    assert_int_equal(get(&m, snap + 48, 8), CLUSTER);
    assert_int_equal(get(&m, snap + 56, 1), '1');
    assert_int_equal(pread(m.fd, name, 4, (off_t)snap + 57), 4);
    assert_string_equal(name, COLO_CKPT_SNAPSHOT);

    l1 = get(&m, snap, 8);
    assert_int_equal(get(&m, l1, 8), 0);
    l2 = get(&m, l1 + 8, 8);
    assert_true(l2 & COPIED);
    l2 &= ~COPIED;
    for (i = 0; i < n; i++)
        assert_int_equal(get(&m, l2 + 8 * i, 8), (m.state + i * CLUSTER) | COPIED);
    if (i < CLUSTER / 8)
        assert_int_equal(get(&m, l2 + 8 * i, 8), 0);
    drop(&m);
}

static void test_structure(void **state)
{
    (void)state;
    check(1);
    check(65536);
    check(65537);
    check(4u << 20);
    check(COLO_DEVSTATE_MAX - 1);
    check(COLO_DEVSTATE_MAX);
}

static void test_refuses_sizes_that_it_cannot_hold(void **state)
{
    uint64_t a, b;
    struct colo_err err = {0};

    (void)state;
    assert_int_equal(colo_ckpt_image_write(-1, 0, &a, &b, &err), -1);
    assert_int_equal(colo_ckpt_image_write(-1, COLO_DEVSTATE_MAX + 1, &a, &b, &err), -1);
    assert_string_equal(err.reason, "device-state-size");
    assert_int_equal(colo_ckpt_image_write(-1, 1, &a, &b, &err), -1);
    assert_string_equal(err.reason, "local");
}

static void qemu_img_check(size_t area)
{
    struct image m;
    char cmd[200], out[2000] = "";
    FILE *p;
    size_t n;
    int status;

    make(&m, area);
    snprintf(cmd, sizeof(cmd), "qemu-img check -f qcow2 %s 2>&1 && qemu-img snapshot -l %s 2>&1",
             m.path, m.path);
    p = popen(cmd, "r");
    assert_non_null(p);
    n = fread(out, 1, sizeof(out) - 1, p);
    out[n] = 0;
    status = pclose(p);
    drop(&m);
    if (status != 0 || !strstr(out, "No errors were found") || !strstr(out, COLO_CKPT_SNAPSHOT))
        fail_msg("qemu-img says: %s", out);
}

static void test_qemu_img_finds_no_error(void **state)
{
    (void)state;
    if (system("command -v qemu-img >/dev/null") != 0) {
        print_message("qemu-img is not installed (package qemu-utils)\n");
        skip();
    }
    qemu_img_check(1);
    qemu_img_check(4u << 20);
    qemu_img_check(COLO_DEVSTATE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_refuses_sizes_that_it_cannot_hold),
        cmocka_unit_test(test_qemu_img_finds_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

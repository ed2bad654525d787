/* SPDX-License-Identifier: GPL-2.0-only */
/* What is on stable storage: the journal, torn and flipped at every byte, and the record. */
#include "testdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo_disk_recover.h"

#define DISK (1u << 20)

static struct td t;
static char path[128], copy[128];

static int fresh(void **state)
{
    (void)state;
    td_init(&t, DISK);
    snprintf(path, sizeof(path), "%s/journal", t.folder);
    snprintf(copy, sizeof(copy), "%s/copy", t.folder);
    return 0;
}

static int gone(void **state)
{
    (void)state;
    td_fini(&t);
    return 0;
}

/* ---- the journal ---- */

/* What a reader says: for each record its first block, how many, and the first byte of the data. */
struct heard {
    uint32_t n;
    struct {
        uint64_t block;
        uint32_t nr;
        int byte; /* -1: zeroes */
    } r[8];
};

static int hear(void *priv, uint64_t block, uint32_t nr, const void *data)
{
    struct heard *h = priv;

    assert_true(h->n < 8);
    h->r[h->n].block = block;
    h->r[h->n].nr = nr;
    h->r[h->n++].byte = data ? *(const uint8_t *)data : -1;
    return 0;
}

static uint64_t write_three(uint64_t *id)
{
    uint8_t data[2 * COLO_BLOCK];
    struct colo_journal j;
    uint64_t len;

    colo_journal_init(&j);
    tl_ok(colo_journal_create(&j, path, DISK, &t.err), &t.err);
    memset(data, 7, sizeof(data));
    tl_eq(colo_journal_append(&j, 5, 2, data), 0);
    tl_eq(colo_journal_append(&j, 9, 64, NULL), 0);
    memset(data, 8, sizeof(data));
    tl_eq(colo_journal_append(&j, 5, 1, data), 0);
    tl_eq(colo_journal_flush(&j), 0);
    *id = j.id;
    len = j.len;
    colo_journal_fini(&j);
    return len;
}

static int read_it(const char *file, uint64_t id, uint64_t least, struct heard *h,
                   struct colo_journal_found *found)
{
    int fd = open(file, O_RDONLY), rc;

    assert_true(fd >= 0);
    memset(h, 0, sizeof(*h));
    rc = colo_journal_read(fd, id, least, hear, h, found, &t.err);
    close(fd);
    return rc;
}

static void test_what_was_written_is_read(void **state)
{
    struct colo_journal_found found;
    struct heard h;
    uint64_t id, len = write_three(&id);

    (void)state;
    tl_ok(read_it(path, id, len, &h, &found), &t.err);
    tl_eq(h.n, 3);
    tl_eq(h.r[0].block, 5);
    tl_eq(h.r[0].nr, 2);
    tl_eq(h.r[0].byte, 7);
    tl_eq(h.r[1].nr, 64);
    assert_true(h.r[1].byte == -1);
    tl_eq(h.r[2].byte, 8);
    tl_eq(found.len, len);
    tl_eq(found.blocks, 67);
    tl_fails(read_it(path, id + 1, len, &h, &found), &t.err, COLO_ERR_PROTOCOL);
    tl_fails(read_it(path, id, len + 1, &h, &found), &t.err, COLO_ERR_PROTOCOL);
}

/* Each prefix ends at a whole record, and what is behind it is not looked at. */
static void test_torn_at_every_byte(void **state)
{
    struct colo_journal_found found;
    uint64_t id, len = write_three(&id), whole = 0;
    uint8_t *all = malloc(len);
    struct heard h;
    int fd = open(path, O_RDONLY);

    (void)state;
    assert_non_null(all);
    tl_eq(pread(fd, all, len, 0), len);
    close(fd);
    for (uint64_t cut = 0; cut < len; cut++) {
        fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        tl_eq(write(fd, all, cut), cut);
        close(fd);
        if (cut < 40) {
            tl_fails(read_it(copy, id, 0, &h, &found), &t.err, COLO_ERR_PROTOCOL);
            continue;
        }
        tl_ok(read_it(copy, id, 0, &h, &found), &t.err);
        assert_true(found.len <= cut && found.len >= whole);
        tl_eq(h.n, cut < 40 + 32 + 8192 ? 0 : cut < 40 + 32 + 8192 + 32 ? 1 : 2);
        whole = found.len;
        tl_fails(read_it(copy, id, found.len + 1, &h, &found), &t.err, COLO_ERR_PROTOCOL);
    }
    free(all);
}

static void test_flipped_at_every_byte(void **state)
{
    struct colo_journal_found found;
    uint64_t id, len = write_three(&id);
    struct heard h;
    uint8_t byte;
    int fd = open(path, O_RDWR);

    (void)state;
    for (uint64_t at = 0; at < len; at++) {
        tl_eq(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 1 << at % 8;
        tl_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
        /* all of it was durable, so this is damage and not a torn end */
        tl_fails(read_it(path, id, len, &h, &found), &t.err, COLO_ERR_PROTOCOL);
        assert_true(h.n < 3);
        byte ^= 1 << at % 8;
        tl_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    close(fd);
    tl_ok(read_it(path, id, len, &h, &found), &t.err);
}

/* A record at another place, or of another journal, is none. */
static void test_old_content_is_not_taken_for_new(void **state)
{
    struct colo_journal_found found;
    uint64_t id, other, len = write_three(&id);
    struct heard h;
    uint8_t *all = malloc(len);
    int fd = open(path, O_RDONLY);

    (void)state;
    tl_eq(pread(fd, all, len, 0), len);
    close(fd);
    tl_eq(write_three(&other), len);
    assert_true(other != id);
    fd = open(path, O_WRONLY);
    tl_eq(pwrite(fd, all + 40, len - 40, 40), len - 40);
    close(fd);
    tl_ok(read_it(path, other, 0, &h, &found), &t.err);
    tl_eq(h.n, 0);
    free(all);
}

/* ---- the record ---- */

static void test_a_record_is_whole_or_refused(void **state)
{
    struct colo_disk_record r = {.size = DISK,
                                 .state = COLO_DISK_FOLDING,
                                 .checkpoint = 77,
                                 .journal_id = UINT64_MAX - 5,
                                 .journal_len = 1234567},
                            got;
    char *text, *cut;
    size_t len;

    (void)state;
    snprintf(r.target, sizeof(r.target), "/a \"disk\"");
    snprintf(r.session, sizeof(r.session), "01234567-89ab-cdef-0123-456789abcdef");
    text = colo_disk_record_text(&r);
    assert_non_null(text);
    len = strlen(text);
    tl_ok(colo_disk_record_parse(text, len, &got, &t.err), &t.err);
    assert_memory_equal(&r, &got, sizeof(r));
    cut = malloc(len);
    for (size_t n = 0; n < len; n++) {
        memcpy(cut, text, n);
        tl_fails(colo_disk_record_parse(cut, n, &got, &t.err), &t.err, COLO_ERR_PROTOCOL);
        text[n] ^= 4;
        tl_fails(colo_disk_record_parse(text, len, &got, &t.err), &t.err, COLO_ERR_PROTOCOL);
        text[n] ^= 4;
    }
    free(cut);
    free(text);
}

static void test_names_of_records(void **state)
{
    char target[PATH_MAX], one[PATH_MAX], two[PATH_MAX], link[128];

    (void)state;
    snprintf(link, sizeof(link), "%s/link", t.folder);
    tl_eq(symlink(t.path, link), 0);
    tl_ok(colo_disk_record_path("/d", t.path, "state", target, one, &t.err), &t.err);
    tl_ok(colo_disk_record_path("/d", link, "state", target, two, &t.err), &t.err);
    tl_str_eq(one, two); /* it is the same file */
    tl_str_eq(target, t.path);
    tl_ok(colo_disk_record_path("/d", "/gone/disk", "state", target, two, &t.err), &t.err);
    assert_true(strcmp(one, two) != 0);
    tl_eq(strncmp(two, "/d/disk-", 8), 0);
}

/* ---- both: what a crash leaves, and what is made of it ---- */

/* A fold that cannot get on: the disk can be flushed, but not written any more.  Returns what the disk
 * was opened as before. */
static int stuck_folding(void)
{
    int readonly = open(t.path, O_RDONLY), saved;

    td_open(&t);
    td_put(&t, P, 0, DISK, 1);
    td_checkpoint(&t, 1);
    td_put(&t, P, 0, 65536, 2);
    td_put(&t, S, 512, 512, 3);
    saved = dup(t.d->target.fd);
    dup2(readonly, t.d->target.fd);
    close(readonly);
    tl_ok(colo_disk_takeover(t.d, 0, &t.err), &t.err);
    while (colo_disk_state(t.d) != COLO_DISK_FOLDING)
        usleep(1000);
    return saved;
}

static void leave_folding(void)
{
    close(stuck_folding());
    td_kill(&t);
    tl_eq(td_marked(&t), COLO_DISK_FOLDING);
}

static void check_recovered(void)
{
    uint8_t buf[8192];

    td_file(&t, buf, sizeof(buf), 0);
    tl_eq(buf[0], 1);
    tl_eq(buf[512], 3);
    tl_eq(buf[1023], 3);
    tl_eq(buf[1024], 1);
    tl_eq(buf[4096], 1);
}

static void test_a_cut_fold_is_finished(void **state)
{
    struct colo_journal_found found;
    struct colo_disk_report rep;
    uint8_t byte;

    (void)state;
    leave_folding();
    td_file(&t, &byte, 1, 0);
    tl_eq(byte, 2); /* the primary's, still */
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    tl_eq(rep.use, COLO_DISK_RECOVER);
    tl_eq(colo_disk_open(&t.cfg, &t.d, &t.err), -1); /* a new session must not overwrite that */
    tl_str_eq(t.err.reason, "disk-folding");
    tl_ok(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err);
    tl_eq(found.blocks, 16);
    tl_eq(td_marked(&t), -1);
    tl_eq(access(rep.journal_path, F_OK), -1);
    check_recovered();
    tl_ok(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err);
    tl_eq(found.blocks, 0);
}

static void test_the_next_server_finishes_it(void **state)
{
    (void)state;
    leave_folding();
    t.cfg.standalone = true;
    td_open(&t);
    td_is(&t, S, 512, 512, 3);
    tl_eq(colo_disk_write(t.d, P, "x", 1, 0, 0), ESHUTDOWN);
    check_recovered();
    td_put(&t, S, 0, 512, 9);
    tl_eq(colo_disk_flush(t.d, S), 0);
    td_is(&t, S, 0, 512, 9);
}

static void test_a_damaged_journal_changes_nothing(void **state)
{
    struct colo_journal_found found;
    struct colo_disk_report rep;
    uint8_t byte;
    int fd;

    (void)state;
    leave_folding();
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    fd = open(rep.journal_path, O_WRONLY);
    tl_eq(pwrite(fd, "x", 1, 40 + 32 + 9000), 1);
    close(fd);
    tl_fails(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err, COLO_ERR_PROTOCOL);
    tl_eq(td_marked(&t), COLO_DISK_FOLDING);
    td_file(&t, &byte, 1, 0);
    tl_eq(byte, 2);
    tl_ok(colo_disk_forget(t.state, t.path, &t.err), &t.err);
    tl_eq(td_marked(&t), -1);
}

/* What the guest writes meanwhile is newer than what the journal began with. */
static void test_the_newest_content_wins(void **state)
{
    struct colo_journal_found found;
    struct colo_disk_status st;
    uint8_t buf[8192];
    int saved = stuck_folding();

    (void)state;
    do { /* until it has tried, and waits before it tries again */
        usleep(1000);
        colo_disk_get_status(t.d, &st);
    } while (st.error.cls == COLO_OK);
    dup2(saved, t.d->target.fd);
    close(saved);
    td_put(&t, S, 700, 100, 9);
    tl_eq(colo_disk_zero(t.d, S, 4096, 4096, 0), 0);
    td_put(&t, S, DISK - 512, 512, 9); /* not in the journal */
    td_kill(&t);
    tl_eq(td_marked(&t), COLO_DISK_FOLDING);
    tl_ok(colo_disk_recover(t.state, t.path, &found, &t.err), &t.err);
    td_file(&t, buf, sizeof(buf), 0);
    tl_eq(buf[512], 3);
    tl_eq(buf[700], 9);
    tl_eq(buf[800], 3);
    tl_eq(buf[4096], 0);
    td_file(&t, buf, 512, DISK - 512);
    tl_eq(buf[0], 9);
}

/* Wherever it is killed before the journal is whole. */
static void test_killed_in_lockstep(void **state)
{
    struct colo_disk_report rep;

    (void)state;
    td_open(&t);
    td_checkpoint(&t, 1);
    td_put(&t, P, 0, 512, 1);
    td_kill(&t);
    tl_ok(colo_disk_inspect(t.state, t.path, &rep, &t.err), &t.err);
    tl_eq(rep.use, COLO_DISK_UNUSABLE);
    tl_has(rep.text, "lockstep");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        T(test_what_was_written_is_read),
        T(test_torn_at_every_byte),
        T(test_flipped_at_every_byte),
        T(test_old_content_is_not_taken_for_new),
        T(test_a_record_is_whole_or_refused),
        T(test_names_of_records),
        T(test_a_cut_fold_is_finished),
        T(test_the_next_server_finishes_it),
        T(test_a_damaged_journal_changes_nothing),
        T(test_the_newest_content_wins),
        T(test_killed_in_lockstep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_disk_recover.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "colo_disk_priv.h"

static int unusable(const struct colo_disk_record *r, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_REFUSED, "disk-unusable",
                     "%s is no guest's disk: the session that synchronised it ended in the state "
                     "%s; it needs a full sync",
                     r->target, colo_disk_state_name(r->state));
}

int colo_disk_resume(struct colo_target *t, const char *record, const char *journal,
                     const struct colo_disk_record *r, struct colo_journal_found *found,
                     struct colo_err *err)
{
    struct colo_disk_record done = *r;

    memset(found, 0, sizeof(*found));
    if (r->state == COLO_DISK_STANDALONE) {
        unlink(journal); /* all of it was on the disk */
        return 0;
    }
    if (r->state != COLO_DISK_FOLDING)
        return unusable(r, err);
    if (r->size != t->size)
        return colo_fail(err, COLO_ERR_REFUSED, "disk-size", "%s had another size when it was left",
                         r->target);
    if (colo_disk_replay(t, journal, r->journal_id, r->journal_len, found, err))
        return -1;
    done.state = COLO_DISK_STANDALONE;
    if (colo_disk_record_save(record, &done, err))
        return -1;
    unlink(journal);
    return 0;
}

static int find(const char *dir, const char *target, struct colo_disk_report *rep,
                struct colo_err *err)
{
    char full[PATH_MAX];

    memset(rep, 0, sizeof(*rep));
    if (!dir)
        dir = COLO_DISK_STATE_DIR;
    if (colo_disk_record_path(dir, target, "state", full, rep->record_path, err) ||
        colo_disk_record_path(dir, target, "journal", full, rep->journal_path, err))
        return -1;
    return 0;
}

int colo_disk_inspect(const char *dir, const char *target, struct colo_disk_report *rep,
                      struct colo_err *err)
{
    struct colo_err busy = {0};
    struct colo_target t;
    const char *state;

    if (find(dir, target, rep, err) ||
        colo_disk_record_load(rep->record_path, &rep->record, &rep->marked, err))
        return -1;
    if (colo_target_open(&t, target, true, &busy) == 0) {
        colo_target_close(&t);
    } else if (!strcmp(busy.reason, "disk-in-use")) {
        rep->use = COLO_DISK_SERVED;
        snprintf(rep->text, sizeof(rep->text), "in use%s%s",
                 rep->marked ? "; last known state: " : "",
                 rep->marked ? colo_disk_state_name(rep->record.state) : "");
        return 0;
    } else {
        *err = busy;
        return -1;
    }
    state = colo_disk_state_name(rep->record.state);
    if (!rep->marked) {
        snprintf(rep->text, sizeof(rep->text), "nothing is known of it: a disk like any other");
    } else if (rep->record.state == COLO_DISK_STANDALONE) {
        snprintf(rep->text, sizeof(rep->text),
                 "usable: a guest took over on it, all is on the disk");
    } else if (rep->record.state == COLO_DISK_FOLDING) {
        rep->use = COLO_DISK_RECOVER;
        snprintf(rep->text, sizeof(rep->text),
                 "not usable yet: a guest took over on it, and part of what it wrote is in the "
                 "journal; colo-disk recover brings that to the disk");
    } else {
        rep->use = COLO_DISK_UNUSABLE;
        snprintf(rep->text, sizeof(rep->text),
                 "unusable: its session ended in the state %s, so it is no guest's disk; a full "
                 "sync makes it one",
                 state);
    }
    return 0;
}

int colo_disk_recover(const char *dir, const char *target, struct colo_journal_found *found,
                      struct colo_err *err)
{
    struct colo_disk_report rep;
    struct colo_target t;
    int rc;

    memset(found, 0, sizeof(*found));
    if (find(dir, target, &rep, err) || colo_target_open(&t, target, true, err))
        return -1;
    rc = colo_disk_record_load(rep.record_path, &rep.record, &rep.marked, err);
    if (rc == 0 && rep.marked)
        rc = colo_disk_resume(&t, rep.record_path, rep.journal_path, &rep.record, found, err);
    if (rc == 0)
        rc = colo_disk_record_remove(rep.record_path, err);
    colo_target_close(&t);
    return rc;
}

int colo_disk_forget(const char *dir, const char *target, struct colo_err *err)
{
    struct colo_disk_report rep;
    struct colo_target t;
    int rc;

    if (find(dir, target, &rep, err) || colo_target_open(&t, target, true, err))
        return -1;
    rc = colo_disk_record_remove(rep.record_path, err);
    if (rc == 0)
        unlink(rep.journal_path);
    colo_target_close(&t);
    return rc;
}

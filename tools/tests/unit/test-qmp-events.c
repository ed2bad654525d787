/* SPDX-License-Identifier: GPL-2.0-only */
/* The QMP client and what comes in another order: events, late replies, those nobody waits for. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "qmpserver.h"

static bool is_nr(const struct colo_json *data, void *priv)
{
    return colo_json_get_int(data, "nr", -1) == *(int *)priv;
}

static void test_events_are_queued_and_matched(void **state)
{
    struct qs_fixture x;
    struct colo_err err = {0};
    int nr = 3;

    (void)state;
    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "events", "{\"n\":6}", qs_soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, qs_soon(), NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, qs_in_ms(1), &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, qs_soon(), NULL), 0);
    colo_qmp_drop_events(x.q, "ODD");
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", NULL, NULL, qs_in_ms(1), NULL), -1);
    nr = 4;
    assert_int_equal(colo_qmp_wait_event(x.q, "EVEN", is_nr, &nr, qs_soon(), NULL), 0);
    nr = 9;
    assert_int_equal(colo_qmp_cmd(x.q, "event-later", NULL, qs_soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "LATER", is_nr, &nr, qs_soon(), NULL), 0);
    qs_stop(&x);
}

static void test_oldest_events_are_dropped(void **state)
{
    struct qs_fixture x;
    int nr = 43;

    (void)state;
    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "events", "{\"n\":300}", qs_soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "ODD", is_nr, &nr, qs_in_ms(1), NULL), -1);
    nr = 44;
    assert_int_equal(colo_qmp_wait_event(x.q, "EVEN", is_nr, &nr, qs_soon(), NULL), 0);
    qs_stop(&x);
}

static void test_reply_after_its_deadline_is_passed_over(void **state)
{
    struct qs_fixture x;
    struct colo_json *ret;
    struct colo_err err = {0};

    (void)state;
    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_cmd(x.q, "nothing", NULL, qs_in_ms(5), NULL, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_TIMEOUT);
    assert_non_null(strstr(err.msg, "nothing"));
    assert_int_equal(colo_qmp_cmd(x.q, "late", NULL, qs_soon(), &ret, NULL), 0);
    assert_int_equal(colo_json_get_int(ret, "new", 0), 1);
    colo_json_free(ret);
    qs_echo(&x);
    qs_stop(&x);
}

static void test_posted_commands_replies_are_taken_away(void **state)
{
    struct qs_fixture x;
    int i, nr = 9;

    (void)state;
    qs_start(&x, NULL, -1);
    for (i = 0; i < 3; i++)
        assert_int_equal(colo_qmp_post(x.q, i % 2 ? "error" : "event-later", NULL, qs_soon(), NULL),
                         0);
    qs_echo(&x);
    assert_int_equal(colo_qmp_post(x.q, "event-later", NULL, qs_soon(), NULL), 0);
    for (i = 0; i < 3; i++)
        assert_int_equal(colo_qmp_wait_event(x.q, "LATER", is_nr, &nr, qs_soon(), NULL), 0);
    qs_echo(&x);
    qs_stop(&x);
}

struct lateness {
    struct colo_qmp *q;
    int times;
};

static bool when_late(void *priv)
{
    struct lateness *l = priv;

    if (++l->times < 3)
        return true; /* ask again */
    assert_int_equal(colo_qmp_urgent(l->q, "yank", "{\"instances\":[]}", qs_soon(), NULL), 0);
    return false;
}

static void test_a_late_command_is_told_of_and_something_urgent_overtakes_it(void **state)
{
    struct qs_fixture x;
    struct pollfd pfd = {.events = POLLIN};
    struct lateness l = {0};
    struct colo_json *ret;

    (void)state;
    qs_start(&x, NULL, -1);
    l.q = x.q;
    assert_true(colo_qmp_has_urgent(x.q));
    colo_qmp_on_late(x.q, 20 * COLO_MS, when_late, &l);
    qs_echo(&x); /* which is not late */
    assert_int_equal(l.times, 0);
    /* nor is a reply that nobody came for: the device state, while pages are sent */
    assert_int_equal(colo_qmp_start(x.q, "echo", "{\"say\":\"x\"}", qs_soon(), NULL), 0);
    pfd.fd = colo_qmp_fd(x.q);
    assert_int_equal(poll(&pfd, 1, 20000), 1);
    poll(NULL, 0, 40);
    assert_int_equal(colo_qmp_finish(x.q, qs_soon(), NULL, NULL), 0);
    assert_int_equal(l.times, 0);
    assert_int_equal(colo_qmp_cmd(x.q, "hang", NULL, qs_soon(), &ret, NULL), 0);
    assert_true(colo_json_get_bool(ret, "yanked", false));
    colo_json_free(ret);
    assert_int_equal(l.times, 3);
    colo_qmp_on_late(x.q, 0, NULL, NULL);
    qs_echo(&x);
    assert_int_equal(l.times, 3);
    qs_stop(&x);
}

static void test_events_are_taken_without_waiting(void **state)
{
    static const char *const both[] = {"LATER", "ODD", NULL}, *const none[] = {"OTHER", NULL};
    struct qs_fixture x;
    struct colo_json *data;
    int nr = 9;

    (void)state;
    qs_start(&x, NULL, -1);
    assert_int_equal(colo_qmp_next_event(x.q, both, &data, NULL), 0);
    assert_int_equal(colo_qmp_cmd(x.q, "events", "{\"n\":4}", qs_soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_next_event(x.q, none, &data, NULL), 0);
    for (int want = 1; want < 4; want += 2) {
        assert_int_equal(colo_qmp_next_event(x.q, both, &data, NULL), 1);
        assert_int_equal(colo_json_get_int(data, "nr", 0), want);
        colo_json_free(data);
    }
    assert_int_equal(colo_qmp_next_event(x.q, both, &data, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "EVEN", NULL, NULL, qs_soon(), NULL), 0);
    /* one that comes by itself, after the reply */
    assert_int_equal(colo_qmp_cmd(x.q, "event-later", NULL, qs_soon(), NULL, NULL), 0);
    assert_int_equal(colo_qmp_wait_event(x.q, "LATER", is_nr, &nr, qs_soon(), NULL), 0);
    assert_int_equal(colo_qmp_cmd(x.q, "die", NULL, qs_soon(), NULL, NULL), -1);
    assert_int_equal(colo_qmp_next_event(x.q, both, &data, NULL), -1);
    qs_stop(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_are_queued_and_matched),
        cmocka_unit_test(test_oldest_events_are_dropped),
        cmocka_unit_test(test_reply_after_its_deadline_is_passed_over),
        cmocka_unit_test(test_posted_commands_replies_are_taken_away),
        cmocka_unit_test(test_a_late_command_is_told_of_and_something_urgent_overtakes_it),
        cmocka_unit_test(test_events_are_taken_without_waiting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

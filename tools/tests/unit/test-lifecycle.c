/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What becomes of a guest: the decision tables of the monitor's lifecycle and of its recovery.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libxl_colo_lifecycle.h"
#include "libxl_colo_recover.h"

/* Each reason has an action of its own here, so that a mix-up shows. */
static const struct colo_life_policy mixed = {
    .on_poweroff = LIBXL_ACTION_ON_SHUTDOWN_DESTROY,
    .on_reboot = LIBXL_ACTION_ON_SHUTDOWN_RESTART,
    .on_crash = LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY,
    .on_watchdog = LIBXL_ACTION_ON_SHUTDOWN_PRESERVE,
    .on_soft_reset = LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME,
};

static void expect(const struct colo_life_policy *policy, int reason, enum colo_life_step step,
                   bool coredump)
{
    struct colo_life_plan p = colo_life_decide(policy, reason);

    assert_int_equal(p.step, step);
    assert_int_equal(p.coredump, coredump);
    assert_non_null(p.why);
}

static void each_reason_has_its_own_action(void **state)
{
    (void)state;
    expect(&mixed, LIBXL_SHUTDOWN_REASON_POWEROFF, COLO_LIFE_DESTROY, false);
    expect(&mixed, LIBXL_SHUTDOWN_REASON_REBOOT, COLO_LIFE_RESTART, false);
    expect(&mixed, LIBXL_SHUTDOWN_REASON_CRASH, COLO_LIFE_DESTROY, true);
    expect(&mixed, LIBXL_SHUTDOWN_REASON_WATCHDOG, COLO_LIFE_PRESERVE, false);
    expect(&mixed, LIBXL_SHUTDOWN_REASON_SOFT_RESET, COLO_LIFE_RENAME_RESTART, false);
}

static void each_action_has_its_own_step(void **state)
{
    static const struct {
        int action;
        enum colo_life_step step;
        bool coredump;
    } table[] = {
        {LIBXL_ACTION_ON_SHUTDOWN_DESTROY, COLO_LIFE_DESTROY, false},
        {LIBXL_ACTION_ON_SHUTDOWN_RESTART, COLO_LIFE_RESTART, false},
        {LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME, COLO_LIFE_RENAME_RESTART, false},
        {LIBXL_ACTION_ON_SHUTDOWN_PRESERVE, COLO_LIFE_PRESERVE, false},
        {LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY, COLO_LIFE_DESTROY, true},
        {LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART, COLO_LIFE_RESTART, true},
        {LIBXL_ACTION_ON_SHUTDOWN_SOFT_RESET, COLO_LIFE_DESTROY, false},
        {0, COLO_LIFE_DESTROY, false},
        {99, COLO_LIFE_DESTROY, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct colo_life_policy policy = {.on_crash = table[i].action};

        expect(&policy, LIBXL_SHUTDOWN_REASON_CRASH, table[i].step, table[i].coredump);
    }
}

static void a_suspended_guest_is_left_alone(void **state)
{
    (void)state;
    expect(&mixed, LIBXL_SHUTDOWN_REASON_SUSPEND, COLO_LIFE_LEAVE, false);
}

static void an_unknown_reason_destroys(void **state)
{
    (void)state;
    expect(&mixed, LIBXL_SHUTDOWN_REASON_UNKNOWN, COLO_LIFE_DESTROY, false);
    expect(&mixed, 255, COLO_LIFE_DESTROY, false);
}

static void what_is_undone_after_a_killed_session(void **state)
{
    static const struct {
        struct colo_recovery rec;
        enum colo_recover_what what;
    } table[] = {
        {{.domid = 0}, COLO_RECOVER_NOTHING},
        {{.domid = 5}, COLO_RECOVER_RUN_ON}, /* primary, or a takeover that is complete */
        {{.domid = 5, .logdirty = true, .suspended = true}, COLO_RECOVER_RUN_ON},
        {{.domid = 5, .destroy = true, .logdirty = true}, COLO_RECOVER_DESTROY},
        {{.domid = 0, .destroy = true}, COLO_RECOVER_DESTROY}, /* half built */
        {{.domid = 5, .restore_name = true}, COLO_RECOVER_TAKEOVER},
        /* the takeover has just begun, destroy is not yet cleared */
        {{.domid = 5, .restore_name = true, .destroy = true}, COLO_RECOVER_TAKEOVER},
        {{.domid = 0, .restore_name = true}, COLO_RECOVER_NOTHING},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(colo_recover_decide(&table[i].rec), table[i].what);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reason_has_its_own_action),
        cmocka_unit_test(each_action_has_its_own_step),
        cmocka_unit_test(a_suspended_guest_is_left_alone),
        cmocka_unit_test(an_unknown_reason_destroys),
        cmocka_unit_test(what_is_undone_after_a_killed_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* The states: their names, and which way one may go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libxl_colo_state.h"

#define S(name) COLO_STATE_##name

static void walk(enum colo_role role, const enum colo_state *path, size_t n)
{
    size_t i;

    for (i = 1; i < n; i++) {
        if (!colo_state_legal(role, path[i - 1], path[i]))
            fail_msg("%s: %s -> %s", colo_role_name(role), colo_state_name(path[i - 1]),
                     colo_state_name(path[i]));
    }
}
#define WALK(role, ...)                                \
    walk(role, (const enum colo_state[]){__VA_ARGS__}, \
         sizeof((const enum colo_state[]){__VA_ARGS__}) / sizeof(enum colo_state))

static void test_names_are_what_the_user_sees(void **state)
{
    int i, j;

    (void)state;
    assert_string_equal(colo_state_name(S(LOCKSTEP)), "LOCKSTEP");
    assert_string_equal(colo_state_name(S(CHECKPOINT_SUSPEND)), "CHECKPOINT_SUSPEND");
    assert_string_equal(colo_role_name(COLO_SECONDARY), "secondary");
    assert_string_equal(colo_trigger_name(COLO_TRIGGER_PERIOD), "period");
    for (i = 0; i < COLO_NR_STATES; i++) {
        assert_string_not_equal(colo_state_name((enum colo_state)i), "?");
        for (j = 0; j < i; j++)
            assert_string_not_equal(colo_state_name((enum colo_state)i),
                                    colo_state_name((enum colo_state)j));
    }
    for (i = 0; i < COLO_NR_TRIGGERS; i++)
        assert_string_not_equal(colo_trigger_name((enum colo_trigger)i), "?");
}

static void test_values_out_of_range_are_harmless(void **state)
{
    (void)state;
    assert_string_equal(colo_state_name((enum colo_state)COLO_NR_STATES), "?");
    assert_string_equal(colo_state_name((enum colo_state) - 1), "?");
    assert_string_equal(colo_role_name((enum colo_role)7), "?");
    assert_string_equal(colo_trigger_name((enum colo_trigger) - 1), "?");
    assert_false(colo_state_legal((enum colo_role)2, S(INIT), S(ENDED)));
    assert_false(colo_state_legal(COLO_PRIMARY, (enum colo_state)99, S(ENDED)));
    assert_false(colo_state_legal(COLO_PRIMARY, S(INIT), (enum colo_state)COLO_NR_STATES));
}

static void test_life_of_a_primary(void **state)
{
    (void)state;
    WALK(COLO_PRIMARY, S(INIT), S(DISK_SYNC), S(PRECOPY), S(CHECKPOINT_SUSPEND), S(CHECKPOINT_SEND),
         S(CHECKPOINT_APPLY), S(CHECKPOINT_RESUME), S(LOCKSTEP), S(CHECKPOINT_SUSPEND),
         S(CHECKPOINT_SEND), S(CHECKPOINT_APPLY), S(CHECKPOINT_RESUME), S(LOCKSTEP), S(UNPROTECTED),
         S(GUEST_DOWN), S(ENDED));
    WALK(COLO_PRIMARY, S(INIT), S(PRECOPY)); /* no disks */
}

static void test_life_of_a_secondary(void **state)
{
    (void)state;
    WALK(COLO_SECONDARY, S(INIT), S(DISK_SYNC), S(PRECOPY), S(CHECKPOINT_STAGE),
         S(CHECKPOINT_APPLY), S(CHECKPOINT_RESUME), S(LOCKSTEP), S(CHECKPOINT_SUSPEND),
         S(CHECKPOINT_STAGE), S(CHECKPOINT_APPLY), S(CHECKPOINT_RESUME), S(LOCKSTEP), S(TAKEOVER),
         S(UNPROTECTED), S(GUEST_DOWN), S(ENDED));
}

static void test_a_rebooted_guest_is_protected_anew(void **state)
{
    (void)state;
    WALK(COLO_PRIMARY, S(LOCKSTEP), S(GUEST_DOWN), S(UNPROTECTED), S(INIT), S(PRECOPY));
    WALK(COLO_PRIMARY, S(GUEST_DOWN), S(INIT));
}

static void test_every_state_has_a_way_out_and_ended_none(void **state)
{
    int role, from, to;

    (void)state;
    for (role = COLO_PRIMARY; role <= COLO_SECONDARY; role++) {
        for (to = 0; to < COLO_NR_STATES; to++)
            assert_false(colo_state_legal((enum colo_role)role, S(ENDED), (enum colo_state)to));
        for (from = 0; from < COLO_NR_STATES; from++) {
            if (from == S(ENDED) || (role == COLO_PRIMARY && from == S(CHECKPOINT_STAGE)) ||
                (role == COLO_PRIMARY && from == S(TAKEOVER)) ||
                (role == COLO_SECONDARY && from == S(CHECKPOINT_SEND)))
                continue;
            if (!colo_state_legal((enum colo_role)role, (enum colo_state)from, S(ENDED)))
                fail_msg("%s cannot end from %s", colo_role_name((enum colo_role)role),
                         colo_state_name((enum colo_state)from));
        }
    }
}

static void test_each_role_keeps_to_its_states(void **state)
{
    int from;

    (void)state;
    for (from = 0; from < COLO_NR_STATES; from++) {
        assert_false(colo_state_legal(COLO_PRIMARY, (enum colo_state)from, S(TAKEOVER)));
        assert_false(colo_state_legal(COLO_PRIMARY, (enum colo_state)from, S(CHECKPOINT_STAGE)));
        assert_false(colo_state_legal(COLO_SECONDARY, (enum colo_state)from, S(CHECKPOINT_SEND)));
    }
}

static void test_what_would_lose_or_double_a_guest_is_illegal(void **state)
{
    (void)state;
    /* no takeover of a copy that was never whole */
    assert_false(colo_state_legal(COLO_SECONDARY, S(INIT), S(TAKEOVER)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(PRECOPY), S(TAKEOVER)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(DISK_SYNC), S(TAKEOVER)));
    /* nothing is applied that was not staged first */
    assert_false(colo_state_legal(COLO_SECONDARY, S(LOCKSTEP), S(CHECKPOINT_APPLY)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(CHECKPOINT_SUSPEND), S(CHECKPOINT_APPLY)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(PRECOPY), S(CHECKPOINT_APPLY)));
    /* the copy does not run alone without a takeover, nor falls back into lock-step after one */
    assert_false(colo_state_legal(COLO_SECONDARY, S(LOCKSTEP), S(UNPROTECTED)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(TAKEOVER), S(LOCKSTEP)));
    assert_false(colo_state_legal(COLO_SECONDARY, S(UNPROTECTED), S(LOCKSTEP)));
    /* the primary does not resume before the secondary was sent the checkpoint */
    assert_false(colo_state_legal(COLO_PRIMARY, S(CHECKPOINT_SEND), S(CHECKPOINT_RESUME)));
    assert_false(colo_state_legal(COLO_PRIMARY, S(CHECKPOINT_SUSPEND), S(LOCKSTEP)));
    assert_false(colo_state_legal(COLO_PRIMARY, S(UNPROTECTED), S(LOCKSTEP)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_what_the_user_sees),
        cmocka_unit_test(test_values_out_of_range_are_harmless),
        cmocka_unit_test(test_life_of_a_primary),
        cmocka_unit_test(test_life_of_a_secondary),
        cmocka_unit_test(test_a_rebooted_guest_is_protected_anew),
        cmocka_unit_test(test_every_state_has_a_way_out_and_ended_none),
        cmocka_unit_test(test_each_role_keeps_to_its_states),
        cmocka_unit_test(test_what_would_lose_or_double_a_guest_is_illegal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * What a guest's configuration wants when the guest has shut down, as under stock xl.
 */
#include "libxl_colo_lifecycle.h"

#include <libxl.h>

static struct colo_life_plan plan(enum colo_life_step step, bool coredump, const char *why)
{
    return (struct colo_life_plan){.step = step, .coredump = coredump, .why = why};
}

static struct colo_life_plan plan_action(int action, const char *why)
{
    switch (action) {
    case LIBXL_ACTION_ON_SHUTDOWN_DESTROY:
        return plan(COLO_LIFE_DESTROY, false, why);
    case LIBXL_ACTION_ON_SHUTDOWN_RESTART:
        return plan(COLO_LIFE_RESTART, false, why);
    case LIBXL_ACTION_ON_SHUTDOWN_RESTART_RENAME:
        return plan(COLO_LIFE_RENAME_RESTART, false, why);
    case LIBXL_ACTION_ON_SHUTDOWN_PRESERVE:
        return plan(COLO_LIFE_PRESERVE, false, why);
    case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_DESTROY:
        return plan(COLO_LIFE_DESTROY, true, why);
    case LIBXL_ACTION_ON_SHUTDOWN_COREDUMP_RESTART:
        return plan(COLO_LIFE_RESTART, true, why);
    case LIBXL_ACTION_ON_SHUTDOWN_SOFT_RESET:
        return plan(COLO_LIFE_DESTROY, false,
                    "a soft reset is not supported after protection: destroying the domain");
    default:
        return plan(COLO_LIFE_DESTROY, false,
                    "its configuration names an unknown action: destroying the domain");
    }
}

struct colo_life_plan colo_life_decide(const struct colo_life_policy *policy, int reason)
{
    switch (reason) {
    case LIBXL_SHUTDOWN_REASON_POWEROFF:
        return plan_action(policy->on_poweroff, "the guest has powered off");
    case LIBXL_SHUTDOWN_REASON_REBOOT:
        return plan_action(policy->on_reboot, "the guest reboots");
    case LIBXL_SHUTDOWN_REASON_CRASH:
        return plan_action(policy->on_crash, "the guest has crashed");
    case LIBXL_SHUTDOWN_REASON_WATCHDOG:
        return plan_action(policy->on_watchdog, "the guest's watchdog has fired");
    case LIBXL_SHUTDOWN_REASON_SOFT_RESET:
        return plan_action(policy->on_soft_reset, "the guest asks for a soft reset");
    case LIBXL_SHUTDOWN_REASON_SUSPEND:
        /* xl save, xl migrate: whoever suspended it looks after it from now on. */
        return plan(COLO_LIFE_LEAVE, false, "the guest has been suspended");
    default:
        return plan(COLO_LIFE_DESTROY, false,
                    "the guest has shut down for an unknown reason: destroying the domain");
    }
}

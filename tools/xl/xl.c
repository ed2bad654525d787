/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The dispatcher: our subcommands here, everything else to the host's stock xl, untouched.
 */
#include "xl.h"

#include <stdio.h>
#include <string.h>

static bool always(int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    return true;
}

static const struct command {
    const char *name;
    bool (*ours)(int argc, char *const *argv);
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"remus", xl_remus_is_colo, xl_main_remus,
     "With --colo: keep a second copy of a running guest on another host"},
    {"migrate-receive", xl_receive_is_colo, xl_main_migrate_receive, NULL},
    {"colo-status", always, xl_main_colo_status, "Show the guests that are protected, or one"},
    {"colo-checkpoint", always, xl_main_colo_checkpoint, "Make a checkpoint of a guest now"},
    {"colo-stop", always, xl_main_colo_stop, "End the protection of a guest, which runs on"},
    {"colo-failover", always, xl_main_colo_failover,
     "On the second host: take a guest over because the first is dead"},
};
#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *find(const char *name)
{
    size_t i;

    for (i = 0; i < NR_COMMANDS; i++) {
        if (!strcmp(name, commands[i].name))
            return &commands[i];
    }
    return NULL;
}

/* `xl help`: stock's, and then ours.  `xl help COMMAND`: whoever has the command. */
static int help(int argc, char **argv)
{
    char *our_help[3] = {NULL, (char[]){"--help"}, NULL};
    const struct command *c = argc > 2 ? find(argv[2]) : NULL;
    size_t i;
    int rc;

    if (c && strcmp(c->name, "migrate-receive") != 0) {
        our_help[0] = argv[2];
        return c->run(2, our_help);
    }
    if (argc > 2)
        return xl_passthrough(argv);
    fflush(stdout);
    rc = xl_stock_run(argv);
    printf("\nxen-colo:\n\n");
    for (i = 0; i < NR_COMMANDS; i++) {
        if (commands[i].help)
            printf(" %-20s%s\n", commands[i].name, commands[i].help);
    }
    return rc;
}

int main(int argc, char **argv)
{
    const struct command *c;
    int i = 1, g;

    /* Stock's global options: those in front of our commands mean nothing to them, but -N. */
    while (i < argc && argv[i][0] == '-' && argv[i][1] &&
           strspn(argv[i] + 1, "vftTN") == strlen(argv[i] + 1))
        i++;
    if (i == argc)
        return xl_passthrough(argv);
    if (i == 1 && !strcmp(argv[1], "help"))
        return help(argc, argv);
    c = find(argv[i]);
    if (!c || !c->ours(argc - i, argv + i))
        return xl_passthrough(argv);
    for (g = 1; g < i; g++) {
        if (strchr(argv[g], 'N')) {
            fprintf(stderr, "xl: -N is not for %s; xl remus --colo has --dry-run\n", c->name);
            return XL_REFUSED;
        }
    }
    return c->run(argc - i, argv + i);
}

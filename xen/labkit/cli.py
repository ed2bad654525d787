# SPDX-License-Identifier: GPL-2.0-only
"""xen/lab: the subcommands."""

import argparse
import os
import subprocess
import sys

from . import console, image, lab
from .errors import LabError
from .lab import Lab


def parser():
    top = argparse.ArgumentParser(prog="lab", description="Real Xen hosts in QEMU TCG machines.")
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, help, action, run=True):
        one = sub.add_parser(name, help=help, description=help)
        one.set_defaults(action=action)
        if run:
            one.add_argument("--run", default=os.environ.get("LAB_RUN", "default"), metavar="NAME",
                             help="which run (default: $LAB_RUN or 'default')")
        return one

    add("build", "download packages and build the images", lambda a: image.build(), run=False)
    up = add("up", "build what is missing and boot the hosts", do_up)
    up.add_argument("-n", type=int, default=2, metavar="N", help="hosts (2)")
    up.add_argument("--mem", type=int, default=2048, metavar="MiB", help="memory of a host (2048)")
    up.add_argument("--dom0-mem", type=int, default=768, metavar="MiB", help="memory of dom0 (768)")
    up.add_argument("--cpus", type=int, default=1, help="processors of a host and of its dom0 (1)")
    up.add_argument("--die-with-parent", action="store_true",
                    help="take the run down when the calling process ends")
    up.add_argument("--no-push", action="store_true", help="do not install the staged programs")
    add("down", "stop everything that belongs to the run", lambda a: Lab(a.run).down())
    add("status", "what is up", do_status).add_argument("--all", action="store_true")
    run = add("run", "run a command in a host's dom0", do_run)
    run.add_argument("-t", dest="tty", action="store_true", help="with a terminal")
    run.add_argument("host")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD…")
    one = add("console", "a host's serial console (leave with Ctrl-])", do_console)
    one.add_argument("host")
    one = add("kill", "power cut", lambda a: Lab(a.run)[a.host].kill())
    one.add_argument("host")
    add("push", "install build/stage into every running dom0", lambda a: Lab(a.run).push())
    pull = add("pull", "copy a file or folder out of a dom0", do_pull)
    pull.add_argument("host")
    pull.add_argument("path")
    pull.add_argument("target", nargs="?", default=".")
    client = add("client", "run a command as the client on the guests' segment", do_client)
    client.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD…")
    for wire, text in (("link", "the hosts' private link"), ("lan", "the guests' segment")):
        one = add(wire, f"cut or mend {text}, without a sign to either end", do_wire)
        one.add_argument("what", choices=["cut", "mend"])
        one.add_argument("hosts", nargs="*", help="(all)")
        one.set_defaults(wire=wire)
    guest = add("guest", "start a guest: boot it, or restore a saved one", do_guest)
    guest.add_argument("host")
    guest.add_argument("name")
    guest.add_argument("--boot", action="store_true", help="boot it for real")
    guest.add_argument("--ip", default="10.78.0.10")
    guest.add_argument("--memory", type=int, default=128)
    guest.add_argument("--vcpus", type=int, default=1)
    guest.add_argument("--vga", choices=["none", "stdvga"], default="none")
    watch = add("_watch", argparse.SUPPRESS, lambda a: lab.watch(a.run, a.pid))
    watch.add_argument("pid", type=int)
    return top


def do_up(args):
    one = Lab(args.run).up(n=args.n, mem=args.mem, cpus=args.cpus, dom0_mem=args.dom0_mem,
                           die_with=os.getppid() if args.die_with_parent else None,
                           push=not args.no_push)
    print(one.status(), end="")


def do_status(args):
    if args.all:
        for one in lab.runs():
            print(one.status(), end="")
        return 0
    one = Lab(args.run)
    print(one.status(), end="")
    return 0 if one.is_up() else 3


def _words(args):
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise LabError("which command?")
    return words


def do_run(args):
    host = Lab(args.run)[args.host]
    process = host.popen(_words(args), tty=args.tty)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return 130


def do_console(args):
    return console.attach(Lab(args.run)[args.host].machine.serial)


def do_pull(args):
    Lab(args.run)[args.host].pull(args.path, args.target)


def do_client(args):
    return subprocess.run(Lab(args.run).client.argv(_words(args))).returncode


def do_wire(args):
    one = Lab(args.run)
    action = getattr(one, f"{args.wire}_{args.what}")
    action(*args.hosts)


def do_guest(args):
    from .guest import GuestConfig
    one = Lab(args.run)
    config = GuestConfig(name=args.name, ip=args.ip, memory=args.memory, vcpus=args.vcpus, vga=args.vga)
    guest = (one.create if args.boot else one.restore_snapshot)(args.host, config)
    print(guest.ask("status"))


def main(argv):
    args = parser().parse_args(argv)
    try:
        return args.action(args) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130

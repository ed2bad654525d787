# SPDX-License-Identifier: GPL-2.0-only
"""The stage (hosts and a guest) and what is done around each test.

E2E_ATTACH=NAME uses the lab run of that name, which is up, and leaves it up.
"""

import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import pytest  # noqa: E402

from support.log import Memory  # noqa: E402
from support.stage import Stage  # noqa: E402

from labkit import paths  # noqa: E402
from labkit.protect import sessions  # noqa: E402

FAILED = paths.REPO / "build" / "e2e" / "failed"

# Cheap and basic first; what cuts power side by side, so that hosts boot while others are used.
ORDER = ["preflight", "garbage", "lockstep", "power_cut", "link_cut", "killed", "signals",
         "takeover", "handover", "network", "interop", "life", "shapes"]


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.module.__name__.removeprefix("test_")
        return ORDER.index(name) if name in ORDER else len(ORDER)
    items.sort(key=place)


@pytest.fixture(scope="session")
def shared_stage(request):
    attach = os.environ.get("E2E_ATTACH")
    shutil.rmtree(FAILED, ignore_errors=True)
    stage = request.session.stage = Stage(attach or os.environ.get("E2E_RUN", "e2e"))
    if attach:
        stage.attach()
        yield stage
        return
    stage.up()
    try:
        yield stage
    finally:
        stage.down()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    stage = getattr(item.session, "stage", None)
    if report.failed and stage and stage.lab.is_up():
        item.failed = True
        report.sections.extend(stage.evidence())
        keep(item, report)


def keep(item, report):
    """A file for each failure: there at once, and not lost among others."""
    FAILED.mkdir(parents=True, exist_ok=True)
    text = report.longreprtext + "".join(f"\n==== {title}\n{body}" for title, body in report.sections)
    (FAILED / f"{item.module.__name__}.{item.name}.txt".replace("/", "_")).write_text(text)


@pytest.fixture
def stage(shared_stage, request):
    """The stage with two hosts that are up; afterwards it must be clean."""
    shared_stage.ready()
    yield shared_stage
    if getattr(request.node, "failed", False):
        shared_stage.wreck()
        return
    try:
        shared_stage.tidy()
    except BaseException:
        request.node.failed = True
        # the evidence is taken before everything is thrown away
        for title, text in shared_stage.evidence():
            print(f"==== {title}\n{text}")
        shared_stage.wreck()
        raise


class World:
    """A guest that runs on p; s is the other host."""

    def __init__(self, stage, p, s, guest):
        self.stage, self.p, self.s, self.guest = stage, p, s, guest
        self.lab = stage.lab
        self.memory = Memory(guest)
        self.protection = None      # of the lockstep fixture

    def protect(self, *options, **more):
        """Protect the guest and wait for the first checkpoint."""
        one = self.start(*options, **more)
        one.wait_protected()
        return one

    def start(self, *options, **more):
        return self.stage.protect(self.guest.name, self.p, self.s, *options, **more)

    def turn(self):
        """After a takeover: the survivor's host is the primary from now on."""
        self.p, self.s = self.s, self.stage.partner(self.s)

    def taken_over(self, protection, deadline=60):
        """The guest is the secondary's now and runs there; returns its status."""
        protection.wait_taken_over(deadline)
        assert set(self.s.domains()) == {self.guest.name}
        self.stage.home = self.s.name
        # the name comes first, then the announcements
        status = protection.wait_status(lambda s: s["state"] == "UNPROTECTED", deadline,
                                        "the end of the takeover", peer=True)
        assert status["role"] == "secondary", status
        assert "took over" in status["policy"] and status["takeover_ns"] > 0, status
        return status

    def unprotected(self, protection, deadline=60):
        """Protection has ended and the guest is still the primary's; returns its status."""
        protection.wait_end(deadline)
        assert set(self.p.domains()) == {self.guest.name}
        status = sessions(self.p)[self.guest.name]
        assert (status["role"], status["state"]) == ("primary", "UNPROTECTED"), status
        assert not status["protected"] and status["last_reason"] and status["last_error"], status
        return status

    def nothing_at(self, host, guests=()):
        """Nothing of a session is left there: no process, file, port, domain or node."""
        self.stage.nothing_at(host, guests)

    def only_the_guest(self):
        """Nothing of the session is left on either host, and the guest is well."""
        self.nothing_at(self.s)
        self.nothing_at(self.p, [self.guest.name])
        self.memory.check()


@pytest.fixture
def world(stage):
    """A guest that is not protected."""
    stage.end_kept()
    return World(stage, *stage.have_guest())


@pytest.fixture
def lockstep(stage):
    """A guest that is protected, with checkpoints only on request, by a session that the test may
    end: a first sync takes long, so a session that is still whole is used again."""
    one = World(stage, *stage.have_guest())
    one.protection = stage.kept_protection() or one.protect("-i", "600000")
    stage.kept = one.protection
    return one

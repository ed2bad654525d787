# xen-colo: see README.md for the two commands to start with, `make help` for all of them.
# SPDX-License-Identifier: GPL-2.0-only

B := build
comma := ,

MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

.DEFAULT_GOAL := all

# ---------------------------------------------------------------------------------------------
# Goals that work before anything is configured. Those that test or show something first bring the
# machine what it needs, then call make again for the goals further down.

before_configure := help deps demo check check-unit check-fuzz check-e2e check-long check-valgrind \
                    bench-proxy bench-disk format lint clean distclean

.PHONY: $(before_configure)

help:
	@echo 'make             configure and build'
	@echo 'make demo        from nothing to a protected guest that survives a power cut'
	@echo 'make check       every test: check-unit, check-fuzz and check-e2e'
	@echo 'make check-long  the end-to-end tests that take minutes, and the disk under millions of requests'
	@echo 'make check-valgrind   the unit tests under valgrind'
	@echo 'make bench-compare   packets a second through the compare engine'
	@echo "make bench-proxy     the proxy beside QEMU's colo-compare and a plain bridge"
	@echo "make bench-disk      the secondary's disk beside nbdkit file and QEMU's replication driver"
	@echo 'make install     honours PREFIX and DESTDIR'
	@echo 'make stage       install into build/stage, with the test helpers, for the lab'
	@echo 'make deps        install the Debian packages that all this needs (as root)'
	@echo 'make format, make lint          source layout; static analysis'
	@echo 'make clean, make distclean      remove what was built; remove build/'
	@echo
	@echo 'T=PATTERN picks unit tests and fuzz targets (T=test-save-%), PYTEST_ARGS end-to-end tests.'

deps:
	tools/bootstrap build test lab

demo:
	@tools/bootstrap build lab
	@$(MAKE) stage
	xen/demo

# Each part leaves its counts in build/check/; check adds them up whatever failed.  The lab's images,
# which take minutes the first time, are built meanwhile: the lab waits for that, or does it itself.
RUN_CHECK := /usr/bin/python3 -B tools/tests/run-check

check:
	@rm -f $(B)/check/*.counts
	@tools/bootstrap build test lab
	@mkdir -p $(B); nice -n 15 xen/lab build >$(B)/lab-images.log 2>&1 & images=$$!; \
	trap 'kill $$images 2>/dev/null' EXIT; trap 'exit 130' INT TERM HUP; \
	for part in unit fuzz e2e; do $(MAKE) run-check-$$part || :; done; wait $$images; \
	$(RUN_CHECK) sum unit fuzz e2e

check-unit check-fuzz:
	@rm -f $(B)/check/$(@:check-%=%).counts
	@tools/bootstrap build test
	@$(MAKE) run-$@

check-e2e:
	@rm -f $(B)/check/e2e.counts
	@tools/bootstrap build test lab
	@$(MAKE) run-check-e2e

check-long:
	@rm -f $(B)/check/disk.counts $(B)/check/long.counts
	@tools/bootstrap build test lab
	@for part in disk long; do $(MAKE) run-check-$$part || :; done; $(RUN_CHECK) sum disk long

check-valgrind:
	@tools/bootstrap build test dev
	@$(MAKE) run-$@

bench-proxy bench-disk:
	@tools/bootstrap build bench
	@$(MAKE) run-$@

SOURCES_IN_GIT = $$(git ls-files 'tools/*.c' 'tools/*.h' 'stubdom/*.c' 'stubdom/*.h' 'xen/*.c')

format:
	@tools/bootstrap dev
	@files="$(SOURCES_IN_GIT)"; [ -z "$$files" ] || clang-format -i $$files

lint:
	@tools/bootstrap build test dev
	@$(MAKE) run-lint

clean:
	rm -rf $(filter-out $(B)/config.mk $(B)/config.h $(B)/lab,$(wildcard $(B)/* $(B)/.[!.]*))

distclean:
	rm -rf $(B)

# ---------------------------------------------------------------------------------------------
# Everything below needs build/config.mk, which make brings up to date by itself.

ifneq ($(filter-out $(before_configure),$(or $(MAKECMDGOALS),all)),)
include $(B)/config.mk
endif
include Config.mk

$(B)/config.mk: configure
	@CC='$(CC)' ./configure $(CONFIGURE_ARGS) >$(B).log 2>&1 || { cat $(B).log; rm -f $(B).log; exit 1; }
	@tail -n 1 $(B).log; mv $(B).log $(B)/configure.log

LIB_SRC  := $(sort $(wildcard tools/libxc/*.c tools/libxl/*.c))
# All of the proxy but its main(), for the program, its tests and benchmarks.
PROXY_LIB_SRC := $(sort $(filter-out %/proxy_main.c,$(wildcard tools/colo-proxy/*.c)))
PROXY_MAIN := tools/colo-proxy/proxy_main.c
DM_SRC   := tools/colo-dm/colo_dm.c
# The disk's engine and control, for the program, the plugin and the tests.
DISK_MAIN := tools/colo-disk/disk_main.c
DISK_PLUGIN_SRC := tools/colo-disk/disk_plugin.c
DISK_LIB_SRC := $(sort $(filter-out $(DISK_MAIN) $(DISK_PLUGIN_SRC),$(wildcard tools/colo-disk/*.c)))
XL_SRC   := $(sort $(wildcard tools/xl/*.c))
UNIT_ALL := $(sort $(wildcard tools/tests/unit/*.c))
FUZZ_ALL := $(sort $(wildcard tools/tests/fuzz/*.c))
E2E_SRC  := $(sort $(wildcard tools/tests/e2e/*.c))
BENCH_SRC := $(sort $(wildcard tools/bench/*.c))

T ?= %
name_of = $(basename $(notdir $(1)))
UNIT_TESTS  := $(filter $(T),$(call name_of,$(filter tools/tests/unit/test-%,$(UNIT_ALL))))
# What stands in for functions of Xen's libraries is only in the tests that ask for it.
UNIT_FAKE   := tools/tests/unit/preflightlib.c
UNIT_HELP   := $(filter-out tools/tests/unit/test-% $(UNIT_FAKE),$(UNIT_ALL))
FUZZ_TESTS  := $(filter $(T),$(call name_of,$(filter tools/tests/fuzz/fuzz-%,$(FUZZ_ALL))))
FUZZ_HELP   := $(filter-out tools/tests/fuzz/fuzz-% tools/tests/fuzz/mkseeds.c,$(FUZZ_ALL))
FUZZ_SEEDER := $(wildcard tools/tests/fuzz/mkseeds.c)
E2E_HELPERS := $(E2E_SRC:tools/tests/e2e/%.c=$(B)/e2e/%)

# Tests that also run under ThreadSanitizer, beside those that are named for their threads.  Not the
# monitor's: in the process that they fork a SIGTERM is lost once in some hundred runs, which does
# not happen without the sanitizer.
TSAN_TESTS := test-control test-devstate
TSAN_RUN := $(sort $(filter test-%-threads $(TSAN_TESTS),$(UNIT_TESTS)))

LIB    := $(B)/libxencolo.so.$(SO_MAJOR)
XL     := $(if $(XL_SRC),$(B)/xl)
PROXY  := $(B)/colo-proxy
DM     := $(B)/colo-dm
DISK   := $(B)/colo-disk
DISK_PLUGIN := $(B)/nbdkit-colo-disk-plugin.so

# Where ld.so does not look, xl says itself where its library is installed.
LD_SO_DIRS := /lib /usr/lib /usr/local/lib /lib/%-linux-gnu /usr/lib/%-linux-gnu /usr/local/lib/%-linux-gnu
XL_RPATH   := $(addprefix -Wl$(comma)-rpath$(comma),$(filter-out $(LD_SO_DIRS),$(libdir)))

MANS   := $(if $(POD2MAN),$(patsubst docs/man/%.pod,$(B)/man/%,$(wildcard docs/man/*.pod)))

.PHONY: all
all: $(LIB) $(B)/libxencolo.a $(B)/libcoloproxy.a $(XL) $(PROXY) $(DM) $(DISK) $(DISK_PLUGIN) $(MANS)
	@:

# ---------------------------------------------------------------------------------------------
# Compilation. Objects of one kind live under build/KIND/, at their source's path.

# V=1 shows the commands.
quiet = $(if $(V),,@printf '  %-5s %s\n' $(1) '$(2)';)

# $(call keep,TEXT): rewrite the target with TEXT only when it differs, so that what depends on
# it is rebuilt exactly when the text changes.
keep = @mkdir -p $(@D); echo '$(1)' | cmp -s - $@ || echo '$(1)' >$@

.PHONY: FORCE
FORCE:

# $(call kind,KIND,COMPILER,FLAGS,LIBRARY)
define kind
$(B)/$(1)/.flags: FORCE
	$$(call keep,$(2) $(3))

$(B)/$(1)/.objects: FORCE
	$$(call keep,$(LIB_SRC) $(PROXY_LIB_SRC) $(DISK_LIB_SRC))

$(B)/$(1)/tools/%.o: tools/%.c $(B)/$(1)/.flags
	@mkdir -p $$(@D)
	$$(call quiet,CC,$$<$(if $(filter-out obj,$(1)), [$(1)]))$(2) $(3) -MMD -MP -c -o $$@ $$<

$(4): $(LIB_SRC:%.c=$(B)/$(1)/%.o) $(B)/$(1)/.objects
	$$(call quiet,AR,$$@)rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)

$(dir $(4))libcoloproxy.a: $(PROXY_LIB_SRC:%.c=$(B)/$(1)/%.o) $(B)/$(1)/.objects
	$$(call quiet,AR,$$@)rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)

$(dir $(4))libcolodisk.a: $(DISK_LIB_SRC:%.c=$(B)/$(1)/%.o) $(B)/$(1)/.objects
	$$(call quiet,AR,$$@)rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)

DEPS += $$(patsubst %.c,$(B)/$(1)/%.d,$(LIB_SRC) $(PROXY_LIB_SRC) $(PROXY_MAIN) $(DM_SRC) \
    $(DISK_LIB_SRC) $(DISK_MAIN) $(DISK_PLUGIN_SRC) $(XL_SRC) $(UNIT_ALL) $(FUZZ_ALL) $(E2E_SRC) \
    $(BENCH_SRC))
endef

UNIT_CFLAGS := -Itools/tests/unit $(CMOCKA_CFLAGS) $(LIBNBD_CFLAGS)

$(eval $(call kind,obj,$(CC),$(COLO_CFLAGS) $$(if $$(findstring /unit/,$$<),$(UNIT_CFLAGS)),$(B)/libxencolo.a))
$(eval $(call kind,asan,$(CC),$(SAN_CFLAGS) $(ASAN_FLAGS) $(UNIT_CFLAGS),$(B)/asan/libxencolo.a))
$(eval $(call kind,tsan,$(CC),$(SAN_CFLAGS) $(TSAN_FLAGS) $(UNIT_CFLAGS),$(B)/tsan/libxencolo.a))
$(eval $(call kind,fuzz,$(CLANG),$(SAN_CFLAGS) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link \
    -Itools/tests/fuzz,$(B)/fuzz/libxencolo.a))
$(eval $(call kind,clang,$(CLANG),$(COLO_CFLAGS),$(B)/clang/libxencolo.a))

-include $(wildcard $(DEPS))

# $(call shared,DIR,COMPILER): the shared library and xl under DIR. The library is linked from
# the whole of the static one.
define shared
$(1)/libxencolo.so.$(SO_MAJOR): $(1)/libxencolo.a
	$$(call quiet,LD,$$@)$(2) -shared -Wl,-soname,$$(@F) $(COLO_LDFLAGS) -o $$@ \
	    -Wl,--whole-archive $$< -Wl,--no-whole-archive $(DEPS_LIBS)
	@ln -sf $$(@F) $(1)/libxencolo.so
endef
$(eval $(call shared,$(B),$(CC)))
$(eval $(call shared,$(B)/clang,$(CLANG)))

$(B)/.xl-rpath: FORCE
	$(call keep,$(XL_RPATH))

$(B)/xl: $(XL_SRC:%.c=$(B)/obj/%.o) $(LIB) $(B)/.xl-rpath
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) $(XL_RPATH) -o $@ $(filter %.o,$^) -L$(B) -lxencolo \
	    $(DEPS_LIBS)

$(B)/clang/xl: $(XL_SRC:%.c=$(B)/clang/%.o) $(B)/clang/libxencolo.so.$(SO_MAJOR)
	$(call quiet,LD,$@)$(CLANG) $(COLO_LDFLAGS) -o $@ $(filter %.o,$^) -L$(B)/clang -lxencolo \
	    $(DEPS_LIBS)

# Stands on nothing of libxencolo but errors and JSON.
$(B)/colo-proxy: $(PROXY_MAIN:%.c=$(B)/obj/%.o) $(B)/libcoloproxy.a $(B)/libxencolo.a
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $^ $(DEPS_LIBS)

$(B)/clang/colo-proxy: $(PROXY_MAIN:%.c=$(B)/clang/%.o) $(B)/clang/libcoloproxy.a $(B)/clang/libxencolo.a
	$(call quiet,LD,$@)$(CLANG) $(COLO_LDFLAGS) -o $@ $^ $(DEPS_LIBS)

$(B)/colo-dm: $(DM_SRC:%.c=$(B)/obj/%.o)
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $^

$(B)/clang/colo-dm: $(DM_SRC:%.c=$(B)/clang/%.o)
	$(call quiet,LD,$@)$(CLANG) $(COLO_LDFLAGS) -o $@ $^

# Where the program finds its plugin.
$(B)/disk-dirs.h: FORCE
	$(call keep,#define COLO_PLUGIN_DIR "$(libdir)/xen-colo")

$(foreach k,obj asan tsan fuzz clang,$(B)/$(k)/tools/colo-disk/disk_serve.o): $(B)/disk-dirs.h

$(B)/colo-disk: $(DISK_MAIN:%.c=$(B)/obj/%.o) $(B)/libcolodisk.a $(B)/libxencolo.a
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $^ $(DEPS_LIBS)

$(B)/clang/colo-disk: $(DISK_MAIN:%.c=$(B)/clang/%.o) $(B)/clang/libcolodisk.a $(B)/clang/libxencolo.a
	$(call quiet,LD,$@)$(CLANG) $(COLO_LDFLAGS) -o $@ $^ $(DEPS_LIBS)

# What it calls of nbdkit is in the program that loads it.
$(DISK_PLUGIN): $(DISK_PLUGIN_SRC:%.c=$(B)/obj/%.o) $(B)/libcolodisk.a $(B)/libxencolo.a
	$(call quiet,LD,$@)$(CC) -shared $(filter-out -Wl$(comma)-z$(comma)defs,$(COLO_LDFLAGS)) \
	    -Wl,--exclude-libs,ALL -o $@ $^ $(DEPS_LIBS)

$(B)/clang/nbdkit-colo-disk-plugin.so: $(DISK_PLUGIN_SRC:%.c=$(B)/clang/%.o) $(B)/clang/libcolodisk.a \
    $(B)/clang/libxencolo.a
	$(call quiet,LD,$@)$(CLANG) -shared $(filter-out -Wl$(comma)-z$(comma)defs,$(COLO_LDFLAGS)) \
	    -Wl,--exclude-libs,ALL -o $@ $^ $(DEPS_LIBS)

$(B)/man/%: docs/man/%.pod
	@mkdir -p $(@D)
	$(call quiet,POD,$<)$(POD2MAN) --utf8 --errors=die --name='$(basename $(@F))' \
	    --section='$(patsubst .%,%,$(suffix $(@F)))' --center=xen-colo --release='$(VERSION)' $< $@

# ---------------------------------------------------------------------------------------------
# Tests. Building goes on past errors (-k); run-check counts what could not be built as failed.

# $(call unit_test,KIND,DIR,FLAGS,LIBRARIES): each unit test is one program, DIR/NAME.
define unit_test
$(2)/%: $(B)/$(1)/tools/tests/unit/%.o $(UNIT_HELP:%.c=$(B)/$(1)/%.o) $(4)
	@mkdir -p $$(@D)
	$$(call quiet,LD,$$@)$(CC) $(3) -o $$@ $$(filter %.o,$$^) $(4) $(DEPS_LIBS) \
	    $(CMOCKA_LIBS) -Wl,--as-needed $(LIBNBD_LIBS)

$(2)/test-preflight $(2)/test-preflight-host: $(B)/$(1)/tools/tests/unit/preflightlib.o
endef
$(eval $(call unit_test,obj,$(B)/unit,$(COLO_LDFLAGS),$(B)/libcolodisk.a $(B)/libcoloproxy.a $(B)/libxencolo.a))
$(eval $(call unit_test,asan,$(B)/asan/unit,$(ASAN_FLAGS),$(B)/asan/libcolodisk.a $(B)/asan/libcoloproxy.a $(B)/asan/libxencolo.a))
$(eval $(call unit_test,tsan,$(B)/tsan/unit,$(TSAN_FLAGS),$(B)/tsan/libcolodisk.a $(B)/tsan/libcoloproxy.a $(B)/tsan/libxencolo.a))

UNIT_PROGRAMS := $(UNIT_TESTS:%=$(B)/unit/%) $(UNIT_TESTS:%=$(B)/asan/unit/%) \
                 $(TSAN_RUN:%=$(B)/tsan/unit/%)

.PHONY: build-unit build-unit-plain check-build-clang run-check-unit run-check-valgrind
build-unit: all check-build-clang $(UNIT_PROGRAMS)
	@:

build-unit-plain: $(UNIT_TESTS:%=$(B)/unit/%)
	@:

check-build-clang: $(B)/clang/libxencolo.so.$(SO_MAJOR) $(B)/clang/colo-proxy $(B)/clang/colo-disk $(B)/clang/colo-dm \
    $(B)/clang/nbdkit-colo-disk-plugin.so $(if $(XL_SRC),$(B)/clang/xl)

run-check-unit:
	@$(MAKE) -k build-unit; $(RUN_CHECK) --built $$? unit $(UNIT_PROGRAMS)

# The models of the disk, for minutes.
DISK_LONG := $(B)/unit/test-disk-model $(B)/unit/test-disk-nbd

.PHONY: run-check-disk
run-check-disk:
	@$(MAKE) -k all $(DISK_LONG); $(RUN_CHECK) --built $$? disk $(DISK_LONG)

run-check-valgrind:
	@$(MAKE) -k build-unit-plain; \
	$(RUN_CHECK) --built $$? valgrind $(UNIT_TESTS:%=$(B)/unit/%)

FUZZ_LIBS := $(B)/fuzz/libcolodisk.a $(B)/fuzz/libcoloproxy.a $(B)/fuzz/libxencolo.a

$(B)/fuzz/bin/%: $(B)/fuzz/tools/tests/fuzz/%.o $(FUZZ_HELP:%.c=$(B)/fuzz/%.o) $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) \
	    $(FUZZ_LIBS) $(DEPS_LIBS)

# The seeder is an ordinary program: mkseeds DIR writes DIR/TARGET/NAME files with our own writers.
$(B)/fuzz/mkseeds: $(B)/obj/tools/tests/fuzz/mkseeds.o $(FUZZ_HELP:%.c=$(B)/obj/%.o) $(B)/libcolodisk.a \
    $(B)/libxencolo.a
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(DEPS_LIBS)

$(B)/fuzz/seeds/.made: $(B)/fuzz/mkseeds
	@rm -rf $(@D) && mkdir -p $(@D)
	$(call quiet,SEEDS,$(@D))$< $(@D) && touch $@

.PHONY: build-fuzz run-check-fuzz
build-fuzz: $(FUZZ_TESTS:%=$(B)/fuzz/bin/%) $(if $(FUZZ_SEEDER),$(B)/fuzz/seeds/.made)
	@:

run-check-fuzz:
	@$(MAKE) -k build-fuzz; \
	$(RUN_CHECK) --built $$? --seconds $(FUZZ_SECONDS) fuzz $(FUZZ_TESTS:%=$(B)/fuzz/bin/%)

# Benchmarks are ordinary programs: build/bench/NAME.
$(B)/bench/%: $(B)/obj/tools/bench/%.o $(B)/libcoloproxy.a $(B)/libxencolo.a
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $(filter %.o,$^) $(B)/libcoloproxy.a \
	    $(B)/libxencolo.a $(DEPS_LIBS)

$(B)/bench/bench-nbd: DEPS_LIBS += -Wl,--as-needed $(LIBNBD_LIBS)

.PHONY: bench-compare run-bench-proxy run-bench-disk
bench-compare: $(B)/bench/bench-compare
	@$<

run-bench-proxy: $(PROXY) $(B)/bench/bench-frames $(B)/bench/bench-traffic
	@tools/bench/bench-proxy

run-bench-disk: $(DISK) $(DISK_PLUGIN) $(B)/bench/bench-nbd
	@tools/bench/bench-disk

$(B)/e2e/%: $(B)/obj/tools/tests/e2e/%.o $(B)/libcoloproxy.a $(LIB)
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(CC) $(COLO_LDFLAGS) -o $@ $(filter %.o %.a,$^) -L$(B) -lxencolo $(DEPS_LIBS)

# The lab takes far longer than the build, so a broken build is not tried on it.
.PHONY: run-check-e2e run-check-long
run-check-e2e run-check-long:
	@$(MAKE) -k stage; $(RUN_CHECK) --built $$? $(@:run-check-%=%) -- $(PYTEST_ARGS)

# ---------------------------------------------------------------------------------------------
# Source layout, size and static analysis.

.PHONY: run-lint
run-lint:
	@files="$(SOURCES_IN_GIT)"; [ -n "$$files" ] || exit 0; failed=0; \
	clang-format --dry-run -Werror $$files || failed=1; \
	wc -l $$files | awk '$$2 != "total" && $$1 > 500 { print $$2 ": " $$1 " lines, more than 500"; bad = 1 } \
	    END { exit bad }' || failed=1; \
	printf '%s\n' $$files | grep '^tools/.*\.c$$' | xargs -P "$$(nproc)" -n 2 sh -c \
	    'clang-tidy --quiet "$$@" -- $(BASE_CFLAGS) $(UNIT_CFLAGS) -Itools/tests/fuzz 2>/dev/null' lint || failed=1; \
	tools/lint-reasons || failed=1; \
	tools/lint-spdx || failed=1; \
	exit $$failed

# ---------------------------------------------------------------------------------------------
# Installation. `install -C` leaves files alone that are already the same.

INSTALL_PROGRAM := install -C -m 0755
INSTALL_DATA    := install -C -m 0644
D = $(DESTDIR)

# $(call put,COMMAND,FILES,DIR): install FILES, if there are any, into DIR.
put = $(if $(strip $(2)),install -d '$(D)$(3)' && $(1) $(2) '$(D)$(3)/')

COMPLETIONS = $(datadir)/bash-completion/completions

# $(call not_over,FILE,WORD): stop before FILE is overwritten, unless it holds WORD, as ours does.
not_over = @if [ -z '$(DESTDIR)' ] && [ -e '$(1)' ] && ! grep -q '$(2)' '$(1)'; then \
    echo 'install: $(1) is not from xen-colo (the host'"'"'s own?): choose another PREFIX' >&2; exit 1; fi

.PHONY: install stage
install: all
	$(call not_over,$(sbindir)/xl,libxencolo)
	$(call not_over,$(COMPLETIONS)/xl,xen-colo)
	$(call put,$(INSTALL_PROGRAM),$(XL) $(PROXY) $(DM) $(DISK),$(sbindir))
	$(call put,$(INSTALL_DATA),$(DISK_PLUGIN),$(libdir)/xen-colo)
	install -d '$(D)$(libdir)'
	$(INSTALL_DATA) $(LIB) '$(D)$(libdir)/libxencolo.so.$(SO_MAJOR).$(SO_MINOR)'
	ln -sf libxencolo.so.$(SO_MAJOR).$(SO_MINOR) '$(D)$(libdir)/libxencolo.so.$(SO_MAJOR)'
	ln -sf libxencolo.so.$(SO_MAJOR) '$(D)$(libdir)/libxencolo.so'
	$(foreach m,$(MANS),$(call put,$(INSTALL_DATA),$(m),$(mandir)/man$(patsubst .%,%,$(suffix $(m)))) &&) :
	$(call put,$(INSTALL_PROGRAM),$(wildcard tools/hotplug/Linux/*),$(scriptdir))
	$(call put,$(INSTALL_DATA),config/bash-completion/xl,$(COMPLETIONS))
	$(call put,$(INSTALL_DATA),$(wildcard config/systemd/*),$(unitdir))
	$(call put,$(INSTALL_DATA),config/xl.conf.colo,$(datadir)/doc/xen-colo/examples)
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" -eq 0 ]; then ldconfig; fi

# The lab's hosts get this tree as it is; the helpers are for the end-to-end tests only.
STAGE := $(CURDIR)/$(B)/stage

stage: $(E2E_HELPERS)
	@$(MAKE) install DESTDIR='$(STAGE)' PREFIX=/usr/local sysconfdir=/etc >$(B)/stage.log || \
	    { cat $(B)/stage.log; exit 1; }
	@if [ -n '$(E2E_HELPERS)' ]; then install -d $(STAGE)/usr/local/lib/xen-colo/tests && \
	    $(INSTALL_PROGRAM) $(E2E_HELPERS) $(STAGE)/usr/local/lib/xen-colo/tests/; fi

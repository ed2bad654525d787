# SPDX-License-Identifier: GPL-2.0-only
# How things are compiled. The host's part (directories, libraries) is build/config.mk, from configure.

# Major and minor of the library's ABI; the major is in the soname.
SO_MAJOR := 0
SO_MINOR := 1

# make's built-in default for CC gives way to what configure found; the user's choice wins over both.
ifeq ($(origin CC),default)
CC := $(or $(CONFIG_CC),gcc)
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
            -Werror
INCLUDES := -I$(B) -Itools/libxc -Itools/libxl -Itools/colo-proxy -Itools/colo-disk
BASE_CFLAGS := -std=gnu11 -D_GNU_SOURCE $(WARNINGS) -g $(INCLUDES) $(DEPS_CFLAGS)

# What is installed.
COLO_CFLAGS := $(BASE_CFLAGS) -O2 -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2 $(CFLAGS)
COLO_LDFLAGS := -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,--as-needed $(LDFLAGS)

# What only the tests run. _FORTIFY_SOURCE hides calls from the sanitizers, so it stays out.
SAN_CFLAGS  := $(BASE_CFLAGS) -O1 -fno-omit-frame-pointer
ASAN_FLAGS  := -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN_FLAGS  := -fsanitize=thread
FUZZ_FLAGS  := -fsanitize=address,undefined -fno-sanitize-recover=all

# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 6

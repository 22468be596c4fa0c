#!/bin/sh
# sanitized.sh BUILD COMMAND...: run a command with the sanitized core of BUILD.
# The address sanitizer must be loaded before Python is; Python's own leaks are none of ours, and the
# tests that watch memory want a small quarantine.
set -eu
build=$1
shift
runtime=$(${CC:-cc} -print-file-name=libasan.so)
[ -e "$runtime" ] || { echo "no address sanitizer for ${CC:-cc} here" >&2; exit 1; }
exec env LD_PRELOAD="$runtime:$(${CC:-cc} -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=4:abort_on_error=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    PYTHONMALLOC=malloc FASTFORK_EXPECT_DEBUG=1 PYTHONPATH="$build" "$@"

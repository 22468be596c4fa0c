#!/bin/sh
# sanitized.sh BUILD COMMAND...: run a command with the sanitized core of BUILD, build/asan or
# build/tsan.  A sanitizer must be loaded before Python is.
set -eu
build=$(cd "$1" && pwd)   # servers of tests are started elsewhere
shift

library() {
    file=$(${CC:-cc} -print-file-name="$1")
    [ -e "$file" ] || { echo "${CC:-cc} has no $1 here" >&2; exit 1; }
    echo "$file"
}

case $build in
*tsan)
    # A process that has found a race goes on, and its exit status tells of it, which the tests see.
    exec env LD_PRELOAD="$(library libtsan.so)" \
        TSAN_OPTIONS=die_after_fork=0:exitcode=66:${TSAN_OPTIONS:-} PYTHONPATH="$build" "$@" ;;
*)
    # Python's own leaks are none of ours, and the tests that watch memory want a small quarantine.
    exec env LD_PRELOAD="$(library libasan.so):$(library libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=4:abort_on_error=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        PYTHONMALLOC=malloc FASTFORK_EXPECT_DEBUG=1 PYTHONPATH="$build" "$@" ;;
esac

#!/bin/sh
# sanitized.sh BUILD COMMAND...: run a command with the sanitized core of BUILD, build/asan or
# build/tsan, and fail if any process had something to report, whether or not the command saw it.
# A sanitizer must be loaded before Python is.
set -eu
build=$(cd "$1" && pwd)   # servers of tests are started elsewhere
shift

library() {
    file=$(${CC:-cc} -print-file-name="$1")
    [ -e "$file" ] || { echo "${CC:-cc} has no $1 here" >&2; exit 1; }
    echo "$file"
}

reports=$(mktemp -d)
chmod 1777 "$reports"   # servers may become other users
trap 'rm -r "$reports"' EXIT
status=0
case $build in
*tsan)
    # A process that has found a race goes on, and its exit status tells of it, which the tests see.
    library=$(library libtsan.so)
    env LD_PRELOAD="$library" \
        TSAN_OPTIONS="die_after_fork=0:exitcode=66:log_path=$reports/report:${TSAN_OPTIONS:-}" \
        PYTHONPATH="$build" "$@" || status=$? ;;
*)
    # Undefined behaviour is an illegal instruction, so that there is one library that reports.
    # Greenlet throws C++ exceptions, which the sanitizer only knows of if libstdc++ is there first.
    # Python's own leaks are none of ours, and the tests that watch memory want a small quarantine.
    asan=detect_leaks=0:quarantine_size_mb=4:abort_on_error=1:handle_sigill=1
    library=$(library libasan.so)
    throws=$(library libstdc++.so.6)
    env LD_PRELOAD="$library:$throws" ASAN_OPTIONS="$asan:log_path=$reports/report" \
        PYTHONMALLOC=malloc FASTFORK_EXPECT_DEBUG=1 PYTHONPATH="$build" "$@" || status=$? ;;
esac
for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "$report:"
    cat "$report"
    [ $status != 0 ] || status=1
done
exit $status

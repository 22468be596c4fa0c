#!/bin/sh
# newer.sh PYTHON FLAG...: run the suite, with these flags of pytest, on the newest CPython of this
# machine other than the given one, in .venvs/.  Says so and succeeds if there is none.
# Without the tests that only repeat what they find on any interpreter: the long tables of requests,
# and those that mostly wait.
set -eu
given=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
shift
for version in 3.14 3.13 3.12; do
    [ "$version" = "$given" ] && continue
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        "$python" -c 'import venv, ensurepip' 2>/dev/null || continue
        venv=.venvs/$version
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check \
            'setuptools>=77' 'cython>=3.1' 'greenlet>=3.2'
        "$venv/bin/pip" install --quiet --disable-pip-version-check \
            --no-build-isolation -e '.[test]'
        "$venv/bin/python" -m compileall -q fastfork
        echo "on $("$venv/bin/python" -V):"
        exec "$venv/bin/pytest" "$@" \
            tests/unit tests/core tests/wire tests/process tests/fuzz/test_fuzz.py \
            --ignore=tests/core/test_replay.py --ignore=tests/core/test_reader.py \
            --ignore=tests/core/test_keepalive.py --ignore=tests/core/test_framing.py \
            --ignore=tests/wire/test_corpus.py --ignore=tests/wire/test_attacks.py \
            --ignore=tests/wire/test_timeouts.py \
            --ignore=tests/process/test_chaos.py --ignore=tests/process/test_recycling.py \
            --ignore=tests/process/test_liveness.py --ignore=tests/process/test_identity.py \
            --ignore=tests/process/test_rough.py --ignore=tests/process/test_boot.py \
            --ignore=tests/process/test_status.py --ignore=tests/process/test_scoreboard.py \
            --ignore=tests/process/test_workers.py --ignore=tests/process/test_upgrade.py \
            --ignore=tests/process/test_services.py --ignore=tests/process/test_commands.py \
            --ignore=tests/process/test_example.py --ignore=tests/process/test_configuration.py \
            --ignore=tests/unit/test_roster_model.py --ignore=tests/unit/test_import_nova.py \
            --ignore=tests/unit/test_import_gunicorn.py --ignore=tests/unit/test_oslo_ini.py
    done
done
echo "no interpreter newer than $given here"

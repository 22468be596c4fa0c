# make serve    build, and serve the demo application on 127.0.0.1:8000 with 4 workers
# make example  build, and run the four services of examples/nova_like and their client
# make test     build, and run the whole test suite
# They make what they need in .venv; nothing but python3 (venv and headers), a C compiler and make is
# expected to be there.

PYTHON ?= python3
BIN = .venv/bin
SOURCES = setup.py pyproject.toml fastfork/__init__.py fastfork/_core.pyx fastfork/_core.pxd \
          $(wildcard fastfork/core/*.pxi)
FUZZ_SECONDS ?= 600
STRESS_SECONDS ?= 600
CHAOS_SECONDS ?= 60
# Most tests wait for processes most of the time: a few files of them at once.
SIDE_BY_SIDE = -n 4 --dist loadfile --no-loadscope-reorder -m 'not alone'
PIP_INSTALL = pip install --quiet --disable-pip-version-check

.PHONY: serve example test test-release test-debug test-newer lint types debug asan tsan fuzz chaos \
        stress docs bench perf-check perf-baseline wheel clean

serve: .venv/built
	$(BIN)/fastfork serve fastfork.demo:app -w 4 -b 127.0.0.1:8000

# With CHECK=1 the services are stopped after the client, otherwise by Ctrl-C.
example: .venv/pasted
	$(BIN)/python examples/nova_like/run.py $(if $(CHECK),--check)

test: test-release test-debug test-newer

# Compiled to bytecode, because tests start a thousand servers and the environment may forbid Python
# to remember what it has compiled.
test-release: .venv/tested
	$(BIN)/python -m compileall -q fastfork
	$(BIN)/pytest tests bench/micro --benchmark-disable $(SIDE_BY_SIDE)
	$(BIN)/pytest tests/process -m alone

# The same core with its live-object counters: they must be back at zero after every test.  Only
# where somebody looks at them; the long tables of the release build bring nothing new.
test-debug: debug
	FASTFORK_EXPECT_DEBUG=1 PYTHONPATH=$(CURDIR)/build/debug $(BIN)/pytest \
	    tests/core tests/fuzz/test_fuzz.py tests/wire/test_gone.py $(SIDE_BY_SIDE) \
	    --ignore=tests/core/test_reader.py --ignore=tests/core/test_keepalive.py \
	    --ignore=tests/core/test_framing.py

# The newest other interpreter that this machine has, if it has one.
test-newer:
	sh tests/newer.sh $(PYTHON) $(SIDE_BY_SIDE)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/needs: .venv/bin/python pyproject.toml
	$(BIN)/$(PIP_INSTALL) 'setuptools>=77' 'cython>=3.1' 'greenlet>=3.2'
	touch $@

.venv/built: .venv/needs $(SOURCES)
	$(BIN)/$(PIP_INSTALL) --no-build-isolation -e .
	touch $@

.venv/pasted: .venv/built
	$(BIN)/$(PIP_INSTALL) --no-build-isolation -e '.[paste]'
	touch $@

# Also all that .venv/built is, so that the core is compiled once.
.venv/tested: .venv/needs $(SOURCES)
	$(BIN)/$(PIP_INSTALL) --no-build-isolation -e '.[test]'
	touch .venv/built $@

debug: build/debug/built

build/debug/built: .venv/tested $(SOURCES) $(wildcard fastfork/*.py)
	FASTFORK_DEBUG=1 $(BIN)/python setup.py -q build --build-base build/debug/temp --build-lib build/debug
	touch $@

# Address and undefined-behaviour sanitizers under the core and wire tests.
asan: build/asan/built
	sh tests/sanitized.sh build/asan $(BIN)/pytest tests/core tests/wire tests/fuzz

# Does the lookout, a thread, look at what the loop is changing?  Under the thread sanitizer: the
# tests of what it does, and the stress program.
tsan: build/tsan/built
	sh tests/sanitized.sh build/tsan $(BIN)/pytest tests/wire/test_gather.py tests/wire/test_pieces.py \
	    tests/process/test_handoff.py
	sh tests/sanitized.sh build/tsan $(BIN)/python tests/process/stress.py --seconds $(STRESS_SECONDS)

# Mutated requests for ten minutes, under the same sanitizers.
fuzz: build/asan/built
	sh tests/sanitized.sh build/asan $(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

# Workers killed at random under load, for a minute of each kind.
chaos: .venv/tested
	FASTFORK_CHAOS_SECONDS=$(CHAOS_SECONDS) $(BIN)/pytest -s tests/process/test_chaos.py \
	    tests/process/test_outliving.py::test_only_those_of_a_killed_worker_are_lost

# Connections under load for ten minutes, while workers are reloaded, scaled and replaced: fails if
# one is lost.
stress: .venv/tested
	$(BIN)/python tests/process/stress.py --seconds $(STRESS_SECONDS) $(ARGS)

build/asan/built: .venv/tested $(SOURCES) $(wildcard fastfork/*.py)
	FASTFORK_DEBUG=1 FASTFORK_ASAN=1 $(BIN)/python setup.py -q build --build-base build/asan/temp --build-lib build/asan
	touch $@

build/tsan/built: .venv/tested $(SOURCES) $(wildcard fastfork/*.py)
	FASTFORK_TSAN=1 $(BIN)/python setup.py -q build --build-base build/tsan/temp --build-lib build/tsan
	touch $@

lint: .venv/tested
	$(BIN)/$(PIP_INSTALL) -e '.[lint]' --no-build-isolation
	$(BIN)/ruff check fastfork tests bench examples setup.py
	PATH=$(BIN):$$PATH $(BIN)/cython-lint --max-line-length 100 fastfork/_core.pyx fastfork/_core.pxd fastfork/core

types: .venv/tested
	$(BIN)/$(PIP_INSTALL) -e '.[lint]' --no-build-isolation
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --ignore-missing-stub --ignore-disjoint-bases fastfork._core

# What is written from the settings table, docs/configuration.md and the JSON schema.
docs: .venv/built
	$(BIN)/python -m fastfork.describe docs

bench:
	$(MAKE) -C bench

# Fails when a request takes 2 % more instructions than in bench/results/instructions.json;
# perf-baseline stores them anew.
perf-check perf-baseline:
	$(MAKE) -C bench $@

wheel: .venv/needs
	$(BIN)/$(PIP_INSTALL) build
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv .venvs build dist bench/.venv bench/build *.egg-info
	rm -f fastfork/_core.c fastfork/_core.html fastfork/*.so

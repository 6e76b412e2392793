# Two commands are all a newcomer needs: `make run` and `make test`. `make help` lists the rest.
# A fresh machine needs Python 3.11 or newer, make and git; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := app tests tools samples
# as many test processes as cores, but four at most, for some load the OCR models; a file's tests stay together, and
# files come in the order that tests/conftest.py gives
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# the vendors' own SDKs, and proofs that take minutes or the whole machine, have targets of their own
SUITE := $(PYTEST) --ignore tests/vendors --ignore tests/money --ignore tests/reliability
# claims about money that the suite proves as well; `make money-test` runs them again and counts them
MONEY_SUITES := tests/store/test_invariants.py tests/store/test_volumes.py tests/commands/test_reconcile.py \
	tests/commands/test_export.py tests/api/test_billing.py tests/api/test_idempotency.py
# pytest's exit code where ARGS chose none of a call's tests
NOTHING_CHOSEN := 5
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --no-strip-extras \
	--allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# the vendors' own SDKs, in a folder of their own: they serve tests as clients and oracles, and pin old libraries
VENDOR_SDKS := alibabacloud-contactcenterai20240603 alibabacloud-tea-openapi bce-python-sdk qianfan==0.4.12.3 \
	spark_ai_python

.PHONY: help run test check format lint types contracts sizes coverage fmt lock clean bench ocr-accuracy \
	vendors-test money-test reliability

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/.ready-run  ## start the gateway, setting it up the first time
	@$(BIN)/tuwen serve

test: $(VENV)/.ready-test  ## run the suite; ARGS="-k picture" narrows it
	@$(SUITE) $(ARGS)

check: format lint types contracts sizes coverage  ## everything that must hold before a commit

format: $(VENV)/.ready-test
	@$(BIN)/ruff format --check $(SOURCES)

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.ready-test
	@$(BIN)/mypy

contracts: $(VENV)/.ready-test
	@$(BIN)/lint-imports

sizes: $(VENV)/.ready-test
	@$(BIN)/python tools/check_sizes.py $(SOURCES)

coverage: $(VENV)/.ready-test
	@$(SUITE) --cov --cov-report=json:.coverage.json --cov-report=
	@$(BIN)/python tools/check_coverage.py .coverage.json

fmt: $(VENV)/.ready-test  ## format the code and mend what ruff can mend
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

lock: $(VENV)/.ready-test  ## choose versions anew and pin them with their hashes
	@$(BIN)/pip install --quiet pip-tools
	$(PIP_COMPILE) --upgrade -o requirements.lock pyproject.toml
	$(PIP_COMPILE) --upgrade --only-build-deps --build-deps-for editable -c requirements.lock \
		-o requirements-build.lock pyproject.toml
	$(PIP_COMPILE) --upgrade --extra test -c requirements.lock -c requirements-build.lock \
		-o requirements-test.lock pyproject.toml
	printf '%s\n' $(VENDOR_SDKS) | $(PIP_COMPILE) --upgrade --no-emit-options --pip-args "--only-binary :all:" \
		-o requirements-vendors.lock -
	echo openai==2.54.0 | $(PIP_COMPILE) --upgrade -c requirements.lock -o requirements-openai-2.54.lock -

vendors-test: $(VENV)/.ready-vendors  ## every vendor beside its own SDK; a line per claim
	@$(PYTEST) --quiet tests/vendors $(ARGS)

# TUWEN_KILLS=8 kills fewer gateways; without CHECKS, a folder of black-box checks, the proofs of our own remain
money-test: $(VENV)/.ready-test  ## kills, races, outages: a line per proof; CHECKS=folder of runners
	@tools/services.sh
	@CHECKS="$(CHECKS)" TUWEN_SEQUENCES=5000 $(PYTEST) --maxprocesses 2 --dist load --maxschedchunk 1 --quiet \
		-m "not alone" tests/money $(MONEY_SUITES) $(ARGS) || [ $$? = $(NOTHING_CHOSEN) ]
	@$(BIN)/pytest --quiet -m alone tests/money $(ARGS) || [ $$? = $(NOTHING_CHOSEN) ]

# without CHECKS, a folder of black-box checks, the proofs of our own remain
reliability: $(VENV)/.ready-test  ## faults, storms: a line per proof; CHECKS=folder of runners
	@tools/services.sh
	@[ -n "$(CHECKS)" ] || echo "CHECKS names no folder of black-box checks: only the proofs of our own run."
	@CHECKS="$(CHECKS)" $(BIN)/pytest --quiet tests/reliability $(ARGS)

ocr-accuracy: $(VENV)/.ready-test  ## character accuracy and seconds of each sample picture
	@$(BIN)/python -m tests.bench.ocr_accuracy

bench: $(VENV)/.ready-test  ## CPU, rates, memory beside nginx; TOOLS=folder of loadgen.c
	@[ -f "$(TOOLS)/loadgen.c" ] || { echo "make bench needs TOOLS=folder, where loadgen.c, fake_upstream.c and mkbody.py lie"; exit 1; }
	@$(BIN)/python -m tests.bench.side_by_side "$(TOOLS)" $(ARGS)

clean:  ## remove .venv and all caches; data/ stays
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

$(VENV)/.ready-run: requirements.lock requirements-build.lock pyproject.toml
	@tools/setup.sh run
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready-run requirements-test.lock requirements-openai-2.54.lock
	@tools/setup.sh test
	@touch $@

$(VENV)/.ready-vendors: $(VENV)/.ready-test requirements-vendors.lock
	@tools/setup.sh vendors
	@touch $@

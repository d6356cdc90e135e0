# make setup   a virtual environment in .venv with crosstok in it; nothing to do when nothing changed
# make demo    the demo: move a small model to another tokenizer, compare, leave a usable folder
# make test    lint, types and the whole test suite
# make search  the tests again, properties on examples that were not drawn before
# make test-versions   the core of the tests under the lowest versions of pyproject.toml and the newest
# make docs    the documentation as a site, in site/
# make docs-serve   the same while you write, at http://127.0.0.1:8000
# make report-check   the HTML pages in headless Chromium, by axe; needs a Chromium and npm

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test test-versions search docs docs-serve report-check

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "1/4 making the virtual environment .venv"
	@$(PYTHON) -m venv .venv
	@echo "2/4 installing torch (a large download)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@echo "3/4 installing crosstok and its development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)
	@echo "4/4 done: $(BIN)/crosstok --help, or make demo"

demo: setup
	$(BIN)/crosstok demo --output out/demo

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

search: setup
	HYPOTHESIS_PROFILE=search OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# What depends most on the versions of other packages. VERSIONS says where torch comes from.
CORE := tests/alignment tests/tokenizers tests/chats tests/objectives tests/transplants \
	tests/inference tests/recipes tests/cli/test_spellings.py tests/jobs/test_transfer.py
VERSIONS ?= --torch-backend cpu

test-versions: setup
	for kind in lowest-direct highest; do \
		echo "$$kind: installing"; \
		$(BIN)/uv venv --quiet --clear --python $(BIN)/python out/versions/$$kind && \
		$(BIN)/uv pip install --quiet --python out/versions/$$kind/bin/python \
			--resolution $$kind $(VERSIONS) '.[lora,eval,plots,tests]' && \
		echo "$$kind: testing" && \
		OMP_NUM_THREADS=1 out/versions/$$kind/bin/python -m pytest -q $(CORE) || exit 1; \
	done

report-check: setup
	$(BIN)/python benchmarks/report_check.py --output out/report-check

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dirty

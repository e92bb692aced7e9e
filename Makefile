# Each target sets itself up on a bare machine: Python 3.11 or later is all it needs. The environment is .venv.
PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/installed

.PHONY: demo test lint tables docs clean

demo: $(INSTALLED)  ## the main job on scikit-learn's digits: a table and a figure in minutes
	for memory in random dm; do \
		$(BIN)/harness run cl --dataset digits --steps 5 --memory $$memory --preset quick --set orders=0-2 \
			--model convnet-d2-w32 --out runs/demo --quiet || exit $$?; \
	done
	$(BIN)/harness table runs/demo/cl-digits-*
	$(BIN)/harness plot runs/demo/cl-digits-* --figure cl-accuracy -o runs/demo/cl-accuracy.png

test: lint  ## what has to pass: style, types, tests (warnings are errors)
	$(BIN)/pytest -n auto --durations 20

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: $(INSTALLED)  ## the tables of docs/, from the committed rows
	$(BIN)/python scripts/write_tables.py

docs: $(INSTALLED)  ## the documentation as a site in site/; a broken link fails
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	mkdir -p .site && ln -sfn $(foreach page,README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs results,../$(page)) .site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs/demo .site site

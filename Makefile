# Every target sets up .venv by itself; ./do does the work and runs without make.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock
.NOTPARALLEL:

PYTHON ?= python3
LOCK = uv pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-header --no-emit-index-url --no-annotate

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 16

demo: ## make a small log with planted campaigns, scan it, show what was found
	@$(PYTHON) do demo

test: ## run the quick tests; ARGS='-k name' passes more to pytest
	@$(PYTHON) do test $(ARGS)

check: ## run what CI runs: lint, format, types, every test and doctest
	@$(PYTHON) do check

bench: ## measure speed and detection quality
	@$(PYTHON) do bench

lock: ## pin the dependencies of pyproject.toml anew, with hashes (needs uv)
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) pyproject.toml --group dev --group ml -c requirements-dev.txt -o requirements-ml.txt
	$(LOCK) pyproject.toml --group dev --group services -c requirements-dev.txt -o requirements-services.txt
	$(LOCK) --group gateways -o requirements-gateways.txt

# make run: the app. make test: every test but the long ones. Both set up what they need in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long lint

run: .venv/ready
	$(BIN)/streamlit run streamlit_app.py

test: .venv/ready-tests lint
	$(BIN)/python -m pytest

test-long: .venv/ready-tests
	$(BIN)/python -m pytest -m long

lint: .venv/ready-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/ready-tests: .venv/ready tests/requirements.txt
	$(BIN)/pip install --quiet -r tests/requirements.txt
	touch $@

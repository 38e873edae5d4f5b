# Everything runs in .venv, which README's second command makes.
BIN := .venv/bin

.PHONY: check test fuzz bench screenshots recording

check:  ## lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test:
	$(BIN)/pytest

fuzz:  ## hostile input to all that reads any; FUZZ_SECONDS (60) a fuzzer
	$(BIN)/python -m tests.fuzz

bench:  ## every benchmark prints its table and its machine; an hour on an idle machine
	$(BIN)/python -m tests.bench

screenshots:  ## from a real demo run; needs rsvg-convert (Debian: librsvg2-bin)
	$(BIN)/python -m tests.screenshots
	$(BIN)/python -m tests.screenshots_commands
	$(BIN)/python -m tests.screenshots_explore
	$(BIN)/python -m tests.screenshots_ranks

recording:  ## screenshots/explorer.gif, the climb to the cliff; needs rsvg-convert
	$(BIN)/python -m tests.recording

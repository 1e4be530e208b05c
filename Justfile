# The one door to the project's tooling, for people and for CI.

set shell := ["bash", "-euo", "pipefail", "-c"]

python := env("PYTHON", "python")

# List the recipes
default:
    @just --list

# Run the sample system: two languages, four runtimes, one instance killed on the way
demo *args:
    {{python}} -m pillion_cli demo {{args}}

# Run all tests; extra arguments go to pytest
test *args:
    {{python}} -m pytest {{args}}

# Run the fast tests only
unit *args:
    {{python}} -m pytest tests/unit {{args}}

# Run the contract suites against every component
conformance *args:
    {{python}} -m pytest tests/conformance {{args}}

# Run the system tests on the standard library's event loop instead of uvloop
test-asyncio *args:
    PILLION_LOOP=asyncio {{python}} -m pytest {{args}}

# Lint, types and import layers
check:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .
    {{python}} -m mypy
    lint-imports

# Put the code into its one format
format:
    {{python}} -m ruff check --fix .
    {{python}} -m ruff format .

# Measure against peers in the same run: just bench, just bench streaming, just bench registry
bench *args:
    {{python}} -m tests.bench {{args}}

# Write the reference pages that are made from the code
docs:
    {{python}} -m pillion_cli components -o markdown > docs/reference/components.md

# Build the wheel and the source archive
build:
    {{python}} -m pip wheel --no-deps --wheel-dir dist .

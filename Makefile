# What there is to do. The doing is in Rust: `cargo xtask --help`.

# Outside of the checkout, so that a fresh clone finds what was built before.
export CARGO_TARGET_DIR ?= $(or $(KWASM_CACHE),$(HOME)/.cache/kwasm)/target

# Cargo takes what another checkout built there for this one's, unless the sources are newer.
ifneq ($(file <$(CARGO_TARGET_DIR)/checkout),$(CURDIR))
$(shell mkdir -p '$(CARGO_TARGET_DIR)' && find . -name '*.rs' -exec touch {} + && echo '$(CURDIR)' >'$(CARGO_TARGET_DIR)/checkout')
endif

.PHONY: help demo demo-down test test-long check bench images setup preflight
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: preflight ## KWasm on a real cluster of this machine, and wasm pods' logs (root, Debian 12)
	@cargo xtask demo up

demo-down: ## take the demo away again
	@cargo xtask demo down

test: preflight ## every test, on a real cluster (root, Debian 12)
	@cargo xtask test

test-long: preflight ## the same with loops and campaigns in full length, about an hour (root, Debian 12)
	@cargo xtask test --long

check: ## formatting, lints, generated files, unit tests
	@cargo xtask check

bench: preflight ## how fast and how big, with Linux containers beside (root, Debian 12)
	@cargo xtask bench

images: ## the container images, as archives below ~/.cache/kwasm/images
	@cargo xtask images

setup: preflight ## install the Debian packages that are missing (root)
	@cargo xtask setup

# Built in a second: an unsuitable machine hears so before it builds anything.
preflight:
	@command -v cc >/dev/null || { echo 'kwasm: Rust has no linker here: apt-get install gcc libc6-dev' >&2; exit 1; }
	@cargo run --quiet --package kwasm-preflight

# Two commands matter most: `make run` and `make test`.

# The lock is made for 3.11; newer ones are not tested.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV ?= .venv
BIN := $(VENV)/bin
EXAMPLE := examples/movie-reviews

# A changed lock or changed metadata means another environment; settings of tools, from
# [tool.ruff] to the end of the file, do not.
LOCK_SUM := $(shell sed '/^\[tool.ruff\]/,$$d' requirements/lock.txt $(EXAMPLE)/pyproject.toml pyproject.toml \
	| cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-$(LOCK_SUM)

SEED ?=
WORKSPACE ?= runs/movie-reviews$(if $(SEED),-seed-$(SEED))

SOAK_RECORD := $(CURDIR)/runs/soak/record.jsonl
TRL_CURVES := $(CURDIR)/runs/trl/curves.json

SOURCES := operator trainer examples tests benchmarks images scripts
FILES := $$(git ls-files --cached --others --exclude-standard)
SHELL_SCRIPTS := .ci/run scripts/install.sh scripts/check_generated.sh scripts/test.sh
GENERATED := docs/reference docs/benchmarks.md crds $(addprefix charts/rlhf-operator/,dashboards definitions values.yaml values.schema.json)

# Most tests hold one core, or wait; files share what they have trained, or their cluster.
TWO_FILES := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Containers often set it. Without byte code each start of a rank compiles 4,000 modules: 21 CPU seconds in place of 10.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: install
install: $(INSTALLED) ## Make .venv with everything pinned; does nothing if it is up to date
	@echo "environment: $(VENV) is up to date"

$(INSTALLED):
	@PYTHON='$(PYTHON)' scripts/install.sh '$(VENV)' '$@'

.PHONY: run
run: install ## Align a small policy on real human ratings, on this machine [SEED=n]
	$(BIN)/python -m movie_reviews.build
	$(BIN)/rlhf run $(EXAMPLE)/rlhfrun.yaml --workspace $(WORKSPACE) $(if $(SEED),--set spec.seed=$(SEED))

.PHONY: test
test: install ## Lint, type-check, verify, and run all tests
	@MAKE='$(MAKE)' scripts/test.sh lint type verify test-unit test-local test-trainer test-operator test-cluster

.PHONY: test-unit
test-unit: $(INSTALLED) ## Run the tests that need seconds
	$(BIN)/python -m pytest $(TWO_FILES) tests/unit

.PHONY: test-local
test-local: $(INSTALLED) ## Run the tests of `rlhf run` with real processes, mostly stand-ins
	$(BIN)/python -m pytest tests/local

.PHONY: test-trainer
test-trainer: $(INSTALLED) ## Run the tests with real training on CPU, 1 and 2 ranks
	$(BIN)/python -m pytest $(TWO_FILES) tests/trainer

.PHONY: test-resume
test-resume: $(INSTALLED) ## Kill phases at 20 moments each and compare what becomes of them, bit for bit
	RLHF_TEST_RESUME_POINTS=10 $(BIN)/python -m pytest tests/trainer/resume/test_resume.py

.PHONY: test-full
test-full: $(INSTALLED) ## Run every phase under all of ZeRO, LoRA, critic, ranks, offload and precision
	RLHF_TEST_MATRIX=all $(BIN)/python -m pytest tests/trainer/matrix tests/trainer/phases/test_outcomes.py

.PHONY: test-gpu
test-gpu: $(INSTALLED) ## Run the tests that need a GPU; those of FlashAttention 2 need flash-attn, too
	$(BIN)/python -m pytest tests/trainer/gpu

.PHONY: test-operator
test-operator: $(INSTALLED) ## Run the operator on a real control plane, some of it with real pods
	@# Shown here, as it takes minutes; where it cannot be done the tests are skipped, and say so.
	-PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness build
	@# What a cluster leaves behind can be told only while no other is there.
	$(BIN)/python -m pytest tests/operator/harness ; alone=$$?; \
		$(BIN)/python -m pytest $(TWO_FILES) --ignore=tests/operator/harness tests/operator && exit $$alone

.PHONY: test-cluster
test-cluster: $(INSTALLED) ## Install the chart, train the examples in pods, ask Prometheus about it
	$(BIN)/python -m pytest tests/cluster

.PHONY: test-crashes
test-crashes: $(INSTALLED) ## Let the operator die, and a leader freeze, at each single write of whole runs
	RLHF_TEST_CRASH_STRIDE=1 RLHF_TEST_FREEZE_STRIDE=1 $(BIN)/python -m pytest \
		tests/operator/recovery/test_crash_points.py tests/operator/leader/test_late_writes.py

.PHONY: soak
soak: $(INSTALLED) ## Break everything many times and write docs/reliability.md anew
	rm -f $(SOAK_RECORD) && mkdir -p $(dir $(SOAK_RECORD))
	RLHF_TEST_RECORD=$(SOAK_RECORD) $(MAKE) --no-print-directory test-resume test-crashes
	RLHF_TEST_RECORD=$(SOAK_RECORD) $(BIN)/python -m pytest -m fault tests
	RLHF_TEST_RECORD=$(SOAK_RECORD) RLHF_TEST_FAULT_ROUNDS=10 RLHF_TEST_OUTAGE_SECONDS=60 \
		$(BIN)/python -m pytest tests/operator/faults tests/operator/leader/test_failover.py
	$(BIN)/python scripts/reliability.py $(SOAK_RECORD) docs/reliability.md

.PHONY: compare-trl
compare-trl: $(INSTALLED) ## Run PPO by TRL and by ours, three seeds each, and write docs/trl.md anew
	rm -f $(TRL_CURVES) && mkdir -p $(dir $(TRL_CURVES))
	RLHF_TEST_TRL_CURVES=$(TRL_CURVES) $(BIN)/python -m pytest tests/trainer/against_trl/three_seeds.py || \
		{ $(BIN)/python scripts/trl_page.py $(TRL_CURVES) docs/trl.md; exit 1; }
	$(BIN)/python scripts/trl_page.py $(TRL_CURVES) docs/trl.md

.PHONY: bench
bench: bench-ppo bench-formats bench-supervised bench-plan bench-operator docs ## Measure speed and memory on CPU, beside TRL, and the operator; three quarters of an hour

.PHONY: bench-ppo
bench-ppo: $(INSTALLED) ## Measure PPO beside TRL's, and its distance to the machine's limit
	$(BIN)/python benchmarks/ppo_against_trl.py

.PHONY: bench-formats
bench-formats: $(INSTALLED) ## Measure PPO in 32 and in 16 bits
	$(BIN)/python benchmarks/ppo_formats.py

.PHONY: bench-supervised
bench-supervised: $(INSTALLED) ## Measure SFT and the reward model beside TRL's
	$(BIN)/python benchmarks/supervised_against_trl.py

.PHONY: bench-plan
bench-plan: $(INSTALLED) ## Hold the memory plan against what real phases hold
	$(BIN)/python benchmarks/plan_memory.py

.PHONY: bench-operator
bench-operator: $(INSTALLED) ## Measure the operator with up to 1,000 live and 10,000 finished runs
	$(BIN)/python benchmarks/operator_scale.py

.PHONY: bench-revisions
bench-revisions: $(INSTALLED) ## Measure PPO of this tree beside that of an older one: BEFORE=folder
	$(BIN)/python benchmarks/ppo_revisions.py --before $(BEFORE)

.PHONY: bench-gpu
bench-gpu: $(INSTALLED) ## Measure training and decoding on a GPU; flash-attn is needed, too
	mkdir -p runs/gpu
	for what in training decoding; do for attention in SDPA FlashAttention2; do \
		$(BIN)/torchrun benchmarks/gpu_$$what.py --attention $$attention \
			--results runs/gpu/$$what-$$attention.json || exit 1; \
	done; done

.PHONY: control-plane
control-plane: $(INSTALLED) ## Start a real Kubernetes on this machine and print its KUBECONFIG
	PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness up --nodes 1 --kwok 5

.PHONY: control-plane-down
control-plane-down: $(INSTALLED) ## End it and give everything back
	PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness down

.PHONY: cluster
cluster: $(INSTALLED) ## Start a cluster with operator, Prometheus and data, to train in pods
	PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness cluster

.PHONY: cluster-down
cluster-down: $(INSTALLED) ## End it; nothing is left
	PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness down local

.PHONY: images
images: $(INSTALLED) ## Build the images of the operator and, for CPU, of the trainer; needs root
	PYTHONPATH=tests/harness $(BIN)/python -m rlhf_harness images

.PHONY: lint
lint: $(INSTALLED) ## Check style, layers, spelling and shell scripts
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/codespell $(FILES)
	$(BIN)/python scripts/check_files.py $(FILES)
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/hadolint images/*/Containerfile

.PHONY: fmt
fmt: $(INSTALLED) ## Format, and fix what can be fixed
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.PHONY: type
type: $(INSTALLED) ## Check types, strictly
	$(BIN)/mypy

.PHONY: generate
generate: docs ## Write every generated file
	$(BIN)/python scripts/generate_crds.py
	$(BIN)/python scripts/generate_dashboards.py
	$(BIN)/python scripts/generate_chart.py

.PHONY: docs
docs: $(INSTALLED) ## Write the reference pages from the code
	$(BIN)/python scripts/generate_docs.py
	$(BIN)/python scripts/generate_benchmarks.py

.PHONY: verify
verify: generate ## Fail if a generated file is not what the code says
	@scripts/check_generated.sh $(GENERATED)

.PHONY: lock
lock: ## Pin the newest versions that pyproject.toml allows; needs uv
	uv pip compile pyproject.toml --extra operator --extra trainer --extra example --extra dev \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 \
		--upgrade -o requirements/lock.txt

.PHONY: clean
clean: ## Remove caches; environment, data and runs stay
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist

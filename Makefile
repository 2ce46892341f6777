PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help install demo browser test test-slow test-backends test-addons test-lowest lint \
	benchmark-training-step benchmark-input benchmark-retrieval benchmark-million \
	benchmark-verification \
	benchmark-checkpoints benchmark-galleries benchmark-large-gallery \
	benchmark-classes benchmark-sharded-classes \
	benchmark-workers benchmark-extraction benchmark-corpus benchmark-serving benchmark-against-torch soak fuzz dist clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-25s %s\n", $$1, $$2 }' Makefile

install: .venv/installed ## Make .venv and install keras_dml in it

.venv/installed: setup.py
	@test -x .venv/bin/pip \
		|| $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo 'keras_dml needs Python 3.10 or newer, and $(PYTHON) is not:' \
		'name another, as in make install PYTHON=python3.12' >&2; exit 1; }
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -e .
	touch $@

# The programs of experiments/ need more than the package does, and the tests also what
# they compare with.
.venv/installed-experiments: .venv/installed
	.venv/bin/pip install --quiet -e '.[experiments]'
	touch $@

.venv/installed-test: .venv/installed-experiments
	.venv/bin/pip install --quiet -e '.[test]'
	touch $@

demo: .venv/installed-experiments ## Train on the glyphs, which need no download, and print Recall@K
	.venv/bin/python -m experiments.train --config=experiments/configs/glyphs.py \
		--output_dir=saved_models/glyphs

# Files of tests go to processes, one a core, each with a TensorFlow of its own.
# In the order of the files; sorted by their number of tests the longest would be last.
PYTEST = python -m pytest -n auto --maxprocesses 4 --dist loadfile \
	--no-loadscope-reorder --durations 30 --durations-min 10

test: .venv/installed-test ## Run the default tests
	.venv/bin/$(PYTEST)

browser: ## Install Chromium (on Debian, as root), in which the search page is tested
	command -v chromium || command -v chromium-browser || { apt-get update -q \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -q -y chromium; }

# These tests wait for programs half of the time, so two cores have work for three. The
# longest files come first, so that the processes end at about the same time.
test-slow: .venv/installed-test ## Run the tests that take minutes (SLOW=... picks marked ones)
	.venv/bin/$(PYTEST) -n 3 -m '$(SLOW)' tests/test_documentation.py tests/experiments tests

SLOW = slow

# With other backends and versions come other warnings than the default tests excuse.
OTHER_PYTEST = $(PYTEST) -W default

BACKEND_TESTS = tests/layers tests/losses tests/optimizers \
	tests/models/test_embedding_model.py tests/models/test_classifier.py \
	tests/models/test_hub_backbone.py tests/models/test_cross_batch_memory.py \
	tests/models/test_fine_tuned_transformer.py \
	tests/models/test_pixel_preprocessing.py \
	tests/models/test_pixel_normalization.py \
	tests/models/checkpoints/test_torch_weights.py \
	tests/models/trunks/test_efficientnet_lite.py \
	tests/training/test_freeze_trunk.py tests/training/test_freeze_batch_norm.py \
	tests/training/test_imprint_class_weights.py

JAX_TRUNKS = $(addprefix tests/models/trunks/test_, \
	resnet50.py googlenet.py bn_inception.py hub.py)

# The other trunks have no operations that one backend has and another has not. JAX
# compiles each operation for each shape: most of the time, and less without optimizing.
test-backends: .venv/installed-test ## Test layers, losses, models and SGD on JAX and PyTorch
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
		.venv/bin/$(OTHER_PYTEST) $(BACKEND_TESTS) $(JAX_TRUNKS)
	KERAS_BACKEND=torch .venv/bin/$(OTHER_PYTEST) $(BACKEND_TESTS)

# TensorFlow Addons needs a TensorFlow and a Python of its time.
ADDONS_PYTHON ?= python3.11

.venv-addons/installed: setup.py
	@test -x .venv-addons/bin/pip \
		|| $(ADDONS_PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' 2>/dev/null \
		|| { echo 'TensorFlow Addons needs Python 3.10 or 3.11, and $(ADDONS_PYTHON) is not:' \
		'name another, as in make test-addons ADDONS_PYTHON=python3.10' >&2; exit 1; }
	test -x .venv-addons/bin/pip || $(ADDONS_PYTHON) -m venv .venv-addons
	.venv-addons/bin/pip install --quiet -e '.[addons,experiments,faiss]' \
		'pytest>=8' 'pytest-xdist>=3.7' 'hypothesis>=6.100'
	touch $@

test-addons: .venv-addons/installed ## Test on TensorFlow 2.15, beside TensorFlow Addons
	.venv-addons/bin/$(OTHER_PYTEST) tests/layers tests/losses tests/optimizers \
		tests/training tests/serving tests/models/test_embedding_model.py \
		tests/models/test_pixel_normalization.py tests/models/trunks/test_conv4.py \
		tests/models/test_pixel_preprocessing.py tests/evaluation/test_embed.py \
		tests/evaluation/test_retrieval_evaluation.py tests/test_ops.py \
		tests/data/test_class_balanced_batches.py tests/experiments/test_addons.py \
		tests/test_documentation.py::test_moving_off_addons_gives_the_same_before_and_after

# The oldest version of every package that setup.py allows; TensorFlow 2.15 has
# test-addons. Without faiss, which needs a newer NumPy.
LOWEST = $(shell sed -nE 's/^ *"([A-Za-z_-]+)>=([0-9.]+)[",].*/\1==\2/p' setup.py \
	| grep -E '^(numpy|scikit-learn|threadpoolctl|annoy|absl-py|matplotlib|pillow|fonttools|scipy|ml_collections|safetensors)==')

.venv-lowest/installed: setup.py
	test -x .venv-lowest/bin/pip || $(ADDONS_PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet -e '.[experiments,safetensors]' \
		'tensorflow==2.18.0' 'keras==3.8.0' $(LOWEST) \
		'pytest>=8' 'pytest-xdist>=3.7' 'hypothesis>=6.100'
	touch $@

test-lowest: .venv-lowest/installed ## Test on the oldest TensorFlow and Keras that setup.py allows
	.venv-lowest/bin/$(OTHER_PYTEST) tests/layers tests/losses tests/optimizers \
		tests/models/test_classifier.py tests/training/test_step_decay.py

lint: .venv/installed-test ## Check style, types, and which room imports which
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PYTHONPATH=. .venv/bin/lint-imports

benchmark-training-step: .venv/installed-test ## Time a training step of the model against its trunk's
	.venv/bin/python -m tests.benchmarks.benchmark_training_step

benchmark-input: .venv/installed-test ## Time the input pipeline
	.venv/bin/python -m tests.benchmarks.benchmark_input_pipeline

benchmark-retrieval: .venv/installed-test ## Time retrieval, exact and through indexes; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_retrieval
	.venv/bin/python -m tests.benchmarks.benchmark_indexes

benchmark-million: .venv/installed-test ## Time Recall@K of a million embeddings, for an hour; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_million

benchmark-verification: .venv/installed-test ## Time accept rates over all pairs; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_verification

benchmark-galleries: .venv/installed-test ## Time the search of galleries to 100,000 images; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_galleries

benchmark-large-gallery: .venv/installed-test ## Build and search a gallery of a million images; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_large_gallery

benchmark-checkpoints: .venv/installed-test ## Time checkpoints and Keras's; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_checkpoints

benchmark-classes: .venv/installed-test ## Time and weigh the sampled softmax, to a million classes
	.venv/bin/python -m tests.benchmarks.benchmark_classes

benchmark-sharded-classes: .venv/installed-test ## Time class weights split over devices, on JAX
	KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=4 \
		.venv/bin/python -m tests.benchmarks.benchmark_sharded_classes

benchmark-workers: .venv/installed-test ## Time two workers on this machine against one process
	.venv/bin/python -m tests.benchmarks.benchmark_workers

# By default glibc gives large blocks back to the system at once, and PyTorch, which
# frees its tensors, would spend half its time on getting them anew.
benchmark-extraction: .venv/installed-test ## Time the embedding of a folder, here and in PyTorch
	MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=2000000000 .venv/bin/python -m tests.benchmarks.benchmark_extraction

benchmark-corpus: .venv/installed-test ## Time embedding on Ray; write BENCHMARKS.md
	.venv/bin/python -m tests.benchmarks.benchmark_corpus

benchmark-serving: .venv/installed-test ## Time the exported model, from bytes and from pixels
	.venv/bin/python -m tests.benchmarks.benchmark_serving

benchmark-against-torch: .venv/installed-test ## Train beside pytorch-metric-learning: recall and time
	.venv/bin/python -m tests.benchmarks.benchmark_training_in_torch \
		--config=experiments/configs/glyphs.py --config.epochs=3

soak: .venv/installed-test ## Kill training runs at random and compare how they end
	.venv/bin/python -m tests.soak.soak

fuzz: .venv/installed-test ## Read 100,000 damaged images through the loader and an exported model
	.venv/bin/python -m tests.fuzz.fuzz_images

dist: install ## Build the wheel in dist/
	.venv/bin/pip wheel --no-deps --wheel-dir dist .

clean: ## Delete the virtual environments and everything built
	rm -rf .venv .venv-addons .venv-lowest build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

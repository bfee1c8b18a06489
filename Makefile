# make course   set everything up, execute every chapter, bind the book
# make test     set everything up, run every test
# make demo PHOTO=photo.jpg   restore a photo of yours, into build/demo
# make lab      open JupyterLab
# make book     bind the committed notebooks into the book
# make clean    remove what these made

PYTHON ?= python3
PROFILE ?= cpu
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# PyTorch: the CPU build where no NVIDIA GPU is seen. Set TORCH to choose, for example
#   make course TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
TORCH_VERSION := 2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
NEEDS_CPU_BUILD := $(filter Linux-0,$(shell uname -s 2>/dev/null)-$(GPU))

.PHONY: course test demo lab book clean

course: $(VENV)/.installed
	@status=0; \
	$(BIN)/vartutor run --profile $(PROFILE) --out build/course || status=$$?; \
	$(BIN)/vartutor book --notebooks build/course || status=$$?; \
	exit $$status

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/vartutor check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests notebooks -n 2 --dist loadfile \
		--nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg

demo: $(VENV)/.installed
	@test -f "$(PHOTO)" || { echo "make demo: say which photo, as in make demo PHOTO=photo.jpg" >&2; exit 2; }
	$(BIN)/vartutor upscale "$(PHOTO)" --model detail --out build/demo

lab: $(VENV)/.installed
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate notebooks/00_start_here.ipynb

book: $(VENV)/.installed
	$(BIN)/vartutor book

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache

# The stamp comes last, so that an interrupted installation starts again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
ifdef TORCH
	$(PIP) $(TORCH)
else ifneq ($(NEEDS_CPU_BUILD),)
	@echo "no GPU seen: installing the CPU build of PyTorch $(TORCH_VERSION)"
	@$(PIP) "torch==$(TORCH_VERSION)+cpu" 2>$(VENV)/torch.log \
		|| $(PIP) "torch==$(TORCH_VERSION)+cpu" --extra-index-url $(CPU_INDEX)
else
	$(PIP) "torch==$(TORCH_VERSION)"
endif
	$(PIP) --constraint constraints.txt --editable ".[notebooks,book,test]"
	@touch $@

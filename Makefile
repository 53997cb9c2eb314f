# The front door: every target installs what is missing, configures, builds and runs. `make help` lists them.

CXX = g++
LLVM = 14
WERROR = $(if $(CI),ON,OFF)
CUDA = auto
MPI = $(if $(CI),ON,AUTO)
BUILD = build
JOBS = $(shell nproc)
DEMO = tools/examples/shakespeare-small
PREFIX = /usr/local
DESTDIR =
PROMPT = ROMEO:
SEED = 4
SECONDS = 60
TEXTS = 2000
SANITIZE = address,undefined
ALL =

compiler = $(if $(filter g++,$(CXX)),gcc) $(if $(filter clang++,$(CXX)),clang)
packages = @LLVM=$(LLVM) tools/setup/packages.sh build $(compiler) $(if $(filter ON,$(MPI)),mpi)
configure = @tools/setup/configure.sh
release = CMAKE_BUILD_TYPE=Release BDH_CUDA=$(CUDA) BDH_MPI=$(MPI) BDH_WERROR=$(WERROR)
compile = @cmake --build $(BUILD) -j $(JOBS) --target
run_tests = @ctest --test-dir $(BUILD) -j $(JOBS) --output-on-failure $(if $(CI),--verbose)
sources = find bdh kernels tests bench tools \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' \)

.PHONY: all install demo demo-train test sanitize fuzz soak parity browser bench size minimal arm gpu gpu-build cuda-check lint package presets clean help
.DEFAULT_GOAL = all
export NO_INSTALL

all: ## build the bdh command: build/bdh
	$(packages)
	$(configure) $(BUILD) $(CXX) $(release)
	$(compile) bdh_command

demo: all ## let a small trained model write some Shakespeare
	@$(BUILD)/bdh generate $(DEMO) --prompt "$(PROMPT)" --echo --max-new-tokens 200 --temperature 0.6 --seed $(SEED)
	@printf '\nTry next:\n'
	@printf '  make demo PROMPT=JULIET: SEED=1\n'
	@printf '  %s chat %s\n' $(BUILD)/bdh $(DEMO)
	@printf '  %s inspect %s\n' $(BUILD)/bdh $(DEMO)

install: all ## install library, headers, command and examples: PREFIX=/usr/local DESTDIR=
	$(compile) bdh_shared
	@DESTDIR='$(DESTDIR)' cmake --install $(BUILD) --prefix '$(PREFIX)' >/dev/null

demo-train: all ## train a small model on Shakespeare for a minute or two, and let it write
	@rm -rf $(BUILD)/demo-train
	$(BUILD)/bdh train --options tools/examples/demo-train.json --out $(BUILD)/demo-train
	@printf '\n'
	@$(BUILD)/bdh generate $(BUILD)/demo-train/final --prompt "$(PROMPT)" --echo --max-new-tokens 300 --temperature 0.6 --seed $(SEED)
	@printf '\nIts curve: %s\nTry next:\n' $(BUILD)/demo-train/training.svg
	@printf '  %s train --out %s --resume --steps 2000\n' $(BUILD)/bdh $(BUILD)/demo-train
	@printf '  %s checkpoints %s\n' $(BUILD)/bdh $(BUILD)/demo-train

test: ## build and run the tests
	$(packages) test
	$(configure) $(BUILD) $(CXX) $(release) BDH_TESTS=ON
	$(compile) bdh_all_tests
	$(run_tests)

# Kernels are optimized all the same; the rest would take twice as long to compile.
sanitized = CMAKE_BUILD_TYPE=Debug BDH_WERROR=ON BDH_TESTS=ON BDH_SANITIZE=$(SANITIZE) BDH_EMULATOR=$(if $(CI),OFF,ON) \
	BDH_FUZZ=$(if $(filter clang++-address%,$(CXX)-$(SANITIZE)),ON,OFF)

sanitize: BUILD = build-sanitize$(if $(filter thread,$(SANITIZE)),-thread)
sanitize: ## the tests again, with ASan and UBSan; SANITIZE=thread: those of threads, with TSan; in CI without the emulated kernels
	$(packages) test
	$(configure) $(BUILD) $(CXX) $(sanitized)
	$(compile) bdh_all_tests
	$(run_tests)

fuzz: BUILD = build-$(if $(CI),sanitize,fuzz)
fuzz: CXX = clang++
fuzz: ## feed every reader hostile files, SECONDS=60 each; in CI the objects of make sanitize are taken
	$(packages) $(if $(CI),test)
	$(configure) $(BUILD) $(CXX) $(if $(CI),$(sanitized),CMAKE_BUILD_TYPE=RelWithDebInfo BDH_TOOLS=OFF BDH_FUZZ=ON BDH_SANITIZE=$(SANITIZE))
	$(compile) bdh_fuzzers
	@tests/fuzz/run.sh $(BUILD) $(SECONDS)

soak: ## what takes minutes each: the fuzzers, SECONDS=60 each, raw HTTP too; kills and attacks, 20 times as many; all of NEON, ASan
	$(packages) test
	$(configure) $(BUILD) $(CXX) $(release) BDH_TESTS=ON
	$(compile) bdh_tests bdh_command
	BDH_SOAK=20 $(BUILD)/bdh_tests --test-case='*killed*,*terminated*,*mutated*,*at once*,*at the same time*'
	python3 tests/fuzz/http_fuzz.py --bdh $(BUILD)/bdh $(DEMO) --seconds $(SECONDS)
	@$(MAKE) arm ALL=1
	@$(MAKE) fuzz
	@$(MAKE) sanitize CXX=clang++ CI=

parity: ## compare with PyTorch, safetensors, tokenizers, transformers, onnxruntime and peft
	$(packages) test parity
	$(configure) $(BUILD) $(CXX) $(release) BDH_TESTS=ON
	$(compile) bdh_command bdh_tests
	@tests/parity/run.sh $$(tools/setup/python.sh) $(BUILD) $(DEMO) $(TEXTS)

browser: all ## drive the page of bdh serve in Chromium
	@tools/setup/packages.sh browser
	@/usr/bin/python3 tests/browser/page_test.py --bdh $(BUILD)/bdh $(DEMO) $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS))

bench: ## measure kernels and paths against their limits and peers
	$(packages) bench
	$(configure) $(BUILD) $(CXX) $(release) BDH_BENCH=ON
	$(compile) bdh_bench_command
	@bench/run.sh $(BUILD) $(DEMO)

size: ## how small: files, memory and start of a minimal build and of a full one
	@$(MAKE) minimal BUILD=build-minimal
	$(packages)
	$(configure) $(BUILD) $(CXX) $(release)
	$(compile) bdh_command bdh_shared
	@bench/size/run.sh $(BUILD) build-minimal $(DEMO) $(CXX)

minimal: BUILD = build-minimal
minimal: ## loading and generation alone, as small as they go: build-minimal/libbdh.a and an example
	$(packages)
	$(configure) $(BUILD) $(CXX) BDH_MINIMAL=ON BDH_WERROR=$(WERROR)
	$(compile) all

arm: BUILD = build-arm
arm: ## 64-bit Arm, on an emulated processor: tests of the kernels and the minimal example; ALL=1: every test of the library
	$(packages) test arm
	@tests/arm/run.sh $(BUILD) $(if $(ALL),all)

gpu: ## on a GPU machine: tests, sanitizers and bench, and their record
	@[ -n "$(GPU_BUILD)$(CMAKE_PREFIX_PATH)" ] || LLVM=$(LLVM) tools/setup/packages.sh build test $(compiler)
	@GPU_BUILD=$(GPU_BUILD) tools/gpu/run.sh $(DEMO)

gpu-build: ## binaries for make gpu GPU_BUILD=build-gpu on another machine
	$(packages) test
	@tools/gpu/build.sh build-gpu

cuda-check: BUILD = build-cuda-check
cuda-check: ## compile for sm_80 and sm_90a without a warning; no hot kernel may spill
	$(packages)
	$(configure) $(BUILD) $(CXX) CMAKE_BUILD_TYPE=Release BDH_WERROR=ON BDH_TOOLS=OFF 'BDH_CUDA=80;90a'
	$(compile) bdh_cuda
	@tools/gpu/resources.sh $(BUILD) $(if $(CI),$(BUILD),bench/results)/cuda_resources.txt

lint: BUILD = build-lint
lint: ## check format, scripts and, with clang-tidy, what changed of late and some of what includes it; ALL=1: every source
	$(packages) test bench lint
	$(configure) $(BUILD) $(CXX) BDH_CUDA=off BDH_TESTS=ON BDH_BENCH=ON CMAKE_DISABLE_PRECOMPILE_HEADERS=ON
	@$(sources) -print0 | xargs -0 clang-format-$(LLVM) --dry-run -Werror
	@shellcheck -S warning .ci/run tools/*/*.sh bench/*.sh bench/*/*.sh tests/*/*.sh
	@tools/setup/tidy.sh $(BUILD) clang-tidy-$(LLVM) $(if $(ALL),all)

package: BUILD = build-package
package: ## a Debian package and an archive, for every GPU where nvcc is: libraries, headers, bdh command, examples
	$(packages) package
	$(configure) $(BUILD) $(CXX) CMAKE_BUILD_TYPE=Release BDH_CUDA=$(if $(filter auto,$(CUDA)),$(if $(shell command -v nvcc),all,off),$(CUDA)) BDH_WERROR=$(WERROR)
	$(compile) all
	@cd $(BUILD) && cpack -G "TGZ$$(command -v dpkg-shlibdeps >/dev/null && echo ';DEB')" --config CPackConfig.cmake >/dev/null
	@for deb in $(BUILD)/bdh_*.deb; do [ ! -f "$$deb" ] || tests/install/check_package.sh "$$deb"; done
	@ls $(BUILD)/bdh*.tar.gz $(BUILD)/bdh*.deb 2>/dev/null

presets: ## for editors and cmake --preset: link tools/setup/presets.json to where CMake looks
	@[ -L CMakeUserPresets.json ] || ln -s tools/setup/presets.json CMakeUserPresets.json
	@cmake --list-presets

clean: ## remove everything that was built
	@rm -rf build build-*

help: ## this list
	@printf 'make TARGET [CUDA=all] [MPI=ON] [CXX=clang++] [WERROR=ON] [NO_INSTALL=1]\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@printf '\nCUDA is compiled for the GPUs that the driver reports, and not at all where there is none: CUDA=all for every\n'
	@printf 'architecture, CUDA=90a for one, CUDA=off for none. Objects are kept in ccache, shared by clones.\n'
	@printf 'MPI=ON installs Open MPI, with which several processes train together; without it they do where it is there.\n'
	@printf 'What is missing is installed with apt (NO_INSTALL=1 only names it).\n'

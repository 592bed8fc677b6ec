#!/usr/bin/env bash
# Compares the samples per second of a training with PyTorch's: a multi-layer perceptron, batches of 256 and 4,096 rows, and a
# convolutional network for images of 28x28 pixels, batches of 256; one thread and all.
#
# usage: bench-training.sh [OPTION]...
#
# Options are passed to scripts/bench-training/compare.py: --rows N, --epochs N. The first run installs PyTorch into .tools/pytorch (5 GB: the
# wheels of PyPI come with the libraries of a GPU, which are not used).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'bench-training: %s\n' "$*"; }

. scripts/python-environments.sh

python=$(python_311)
environment .tools/pytorch "torch==2.11.0" "numpy==2.4.6"
"${CARGO:-cargo}" build --release --locked --package rekindle-training --example training_speed
.tools/pytorch/bin/python scripts/bench-training/compare.py target/release/examples/training_speed "$@"

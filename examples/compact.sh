#!/usr/bin/env bash
# Makes the default weights, `compact`, again: examples/compact.sh DATASET RUNS
# DATASET is a folder of cinesynth ingest with all sources in it; docs/experiments/0006 says which.
# Three hours of training on two cores with bf16 matrix units, added up from those runs. Called again, it goes on where
# it was stopped.
set -euo pipefail
data=$1 runs=$2 preset=${PRESET:-compact}

train() { # STAGE RUN [more]
  cinesynth train "$1" --preset "$preset" --dataset "$data" --run "$runs/$2" "${@:3}"
}

with_codec() { # RUN: what diffusion models see is encoded and moved by the first run
  mkdir -p "$runs/$1"
  cp -n "$runs"/first/{vae,motion}.{json,safetensors} "$runs/$1"
}

steps() { # STAGE STEPS RATE COPIES
  echo "--set training.$1.steps=$2 --set training.$1.learning_rate=$3 --set training.$1.affine_copies=$4"
}

# vae, motion, anatomy, dynamics, and the decoder once more on noisy latents
train all first --set training.anatomy.affine_copies=8 --set training.dynamics.affine_copies=1
for run in anatomy anatomy-longer dynamics; do with_codec "$run"; done
# shellcheck disable=SC2046
{
  train anatomy anatomy --initial "$runs/first" $(steps anatomy "${STEPS:-2400}" 6.0e-4 8)
  train anatomy anatomy-longer --initial "$runs/anatomy" $(steps anatomy "${STEPS:-2000}" 6.0e-4 20)
  train dynamics dynamics --initial "$runs/first" $(steps dynamics "${STEPS:-2600}" 8.0e-4 3)
}

mkdir -p "$runs/last"
cp "$runs"/first/{vae,motion}.{json,safetensors} "$runs"/anatomy-longer/anatomy.{json,safetensors} \
  "$runs"/dynamics/dynamics.{json,safetensors} "$runs/last"
[[ -e $runs/weights ]] || cinesynth bundle "$runs/last" --dataset "$data" --out "$runs/weights"
cinesynth score --dataset "$data" --weights "$runs/weights" --split test --count "${COUNT:-200}" --frames 2 --no-match-volumes

#!/usr/bin/env bash
# Makes the default weights, `compact`, again: examples/compact.sh DATASET RUNS
# DATASET is a folder of cinesynth ingest with all sources in it; docs/experiments/ says which (0006, 0007, 0010
# and 0030). Three to four hours of training on two cores with bf16 matrix units. The same command resumes.
set -euo pipefail
data=$1 runs=$2 preset=${PRESET:-compact}

train() { # STAGE RUN [more]
  cinesynth train "${1//_/-}" --preset "$preset" --dataset "$data" --run "$runs/$2" "${@:3}"
}

with_codec() { # RUN: the diffusion models are trained on the codec and the residual motion of the first run
  mkdir -p "$runs/$1"
  cp -n "$runs"/first/{vae,residual_motion}.{json,safetensors} "$runs/$1"
}

steps() { # STAGE STEPS RATE COPIES
  echo "--set training.$1.steps=$2 --set training.$1.learning_rate=$3 --set training.$1.affine_copies=$4"
}

# vae, residual_motion, anatomy_diffusion, motion_diffusion, then the decoder on noisy latents and the texture network
train all first --set training.anatomy_diffusion.affine_copies=8 --set training.motion_diffusion.affine_copies=1
for run in anatomy anatomy-longer motion; do with_codec "$run"; done
# shellcheck disable=SC2046
{
  train anatomy_diffusion anatomy --initial "$runs/first" $(steps anatomy_diffusion "${STEPS:-2400}" 6.0e-4 8)
  train anatomy_diffusion anatomy-longer --initial "$runs/anatomy" $(steps anatomy_diffusion "${STEPS:-2000}" 6.0e-4 20)
  train motion_diffusion motion --initial "$runs/first" $(steps motion_diffusion "${STEPS:-2600}" 8.0e-4 3)
}

mkdir -p "$runs/last"
cp "$runs"/first/{vae,residual_motion}.{json,safetensors} "$runs"/anatomy-longer/anatomy_diffusion.{json,safetensors} \
  "$runs"/motion/motion_diffusion.{json,safetensors} "$runs/last"
for stage in decoder texture; do # presets may do without
  for file in "$runs/first/$stage".{json,safetensors}; do [[ ! -e $file ]] || cp "$file" "$runs/last"; done
done
[[ -e $runs/weights ]] || cinesynth bundle "$runs/last" --dataset "$data" --out "$runs/weights"
cinesynth score --dataset "$data" --weights "$runs/weights" --split test --count "${COUNT:-200}" --frames 2 --no-match-volumes

#!/usr/bin/env bash
# MONAI leaves a structure that was missed out of the mean HD95, and one that was invented out of the mean Dice.
#
# Tool:     MONAI 1.6.1 (HausdorffDistanceMetric, DiceMetric)
# Expected: A structure that is not found has an infinite HD95, as the plain Hausdorff distance (percentile=None) says;
#           one that is found where there is none has Dice 0.
# Seen:     percentile=95 gives nan where either mask is empty, and means leave nan out: the worse model below, which
#           misses one of two hearts, has the better HD95. Dice of an invented structure is nan too
#           (ignore_empty=True).
# Matters:  Right ventricles are often missed at base and apex. A model that gives up on hard cases wins by HD95, and
#           false positives cost no Dice.
# Source:   https://github.com/Project-MONAI/MONAI/issues/9095 (open): the linear interpolation of torch.quantile makes
#           inf - inf = nan
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    monai==1.6.1 torch==2.13.0 nibabel==5.4.2 numpy==2.3.5 scipy==1.17.1
export PATH="$work/venv/bin:$PATH"
cd "$work"

python -W ignore - <<'PY'
import math

import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric


def heart(shift=0):
    """Background and one structure: 1 2 X Y."""
    mask = torch.zeros(20, 20)
    mask[5:15, 2 + shift : 12 + shift] = 1
    return torch.stack([1 - mask, mask])[None]


NOTHING = torch.stack([torch.ones(20, 20), torch.zeros(20, 20)])[None]


def mean(metric, pairs):
    for predicted, true in pairs:
        metric(predicted, true)
    return metric.aggregate().item()


def hd(percentile, *pairs):
    return mean(HausdorffDistanceMetric(percentile=percentile), pairs)


def dice(*pairs):
    return mean(DiceMetric(include_background=False), pairs)


good, poor, missed, invented = (heart(1), heart()), (heart(4), heart()), (NOTHING, heart()), (heart(), NOTHING)
single = HausdorffDistanceMetric(percentile=95, reduction="none")
single(*missed)
print("missed: Hausdorff", hd(None, missed), "HD95", single.aggregate().item())
assert math.isinf(hd(None, missed)) and math.isnan(single.aggregate().item())
print("mean HD95: finds both", hd(95, good, poor), "misses one", hd(95, good, missed))
assert hd(95, good, poor) == 2.5 and hd(95, good, missed) == 1
print("mean Dice: good", dice(good), "good and invented", dice(good, invented), "good and missed", dice(good, missed))
assert dice(good, invented) == dice(good) and math.isclose(dice(good, missed), dice(good) / 2, rel_tol=1e-6)
print("As described.")
PY

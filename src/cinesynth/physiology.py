"""The limits and reference values of human hearts, each defined only here.

Units: millilitres, grams, milliseconds, millimetres. Ranges are ``(least, most)``.
Three kinds of limit differ on purpose: what a request may ask for, what a dataset's quality control accepts without
comment, and the least that a generated or detected heartbeat must show.
"""

from __future__ import annotations

# --- What a request may ask for ---------------------------------------------------------------------------------

EDV_RANGE_ML = (20.0, 600.0)
"""End-diastolic volume of a ventricle."""
ESV_SHARE_RANGE = (0.05, 0.97)
"""ESV over EDV: ejection fractions of 95 % down to 3 %."""
MYO_MASS_RANGE_G = (20.0, 600.0)
"""Mass of the LV myocardium."""
SLICE_RANGE = (3, 24)
"""Short-axis slices that cover a heart."""

# --- Reference values -------------------------------------------------------------------------------------------

MYO_G_PER_ML = 1.05
"""Density of myocardium (Lorenz et al., 1999)."""
LV_BY_DIAGNOSIS = {
    "NOR": ((129.5, 28.2), (49.0, 14.2), (62.5, 5.8)),
    "HCM": ((131.9, 33.8), (39.6, 16.4), (69.9, 9.1)),
    "MINF": ((180.7, 44.9), (125.6, 38.7), (30.9, 8.0)),
    "DCM": ((283.1, 50.8), (228.6, 52.1), (19.7, 8.2)),
    "RV": ((114.7, 36.5), (49.9, 19.9), (56.9, 7.2)),
}
"""LV EDV (mL), ESV (mL) and EF (%) by diagnosis: mean and standard deviation over all 150 ACDC patients."""
USUAL_CYCLE_MS = 900.0
"""Cycle length of a resting heart at 67 beats a minute."""
USUAL_SYSTOLE_FRACTION = 0.38
"""End systole as a fraction of the cycle at that rate."""
SYSTOLE_FRACTION_RANGE = (0.30, 0.45)
"""End systole as a fraction of the cycle in clinical cines."""
MYO_ES_SHARE_RANGE = (0.95, 1.25)
"""Myocardial volume at ES over that at ED; .97-1.17 in half of 218 annotated subjects (ACDC, M&Ms, Najman)."""

# --- What quality control accepts without comment ----------------------------------------------------------------

LV_RANGES = ((40.0, 450.0), (8.0, 400.0), (8.0, 85.0))
"""LV EDV (mL), ESV (mL) and EF (%) where the diagnosis is unknown. ACDC spans 49-374 mL, 19-334 mL and 10-82 %."""
RV_EDV_RANGE_ML = (40.0, 350.0)
"""RV EDV. ACDC and M&Ms span 47-306 mL."""
MYO_RANGE_ML = (30.0, 350.0)
"""Myocardial volume at ED, 32-368 g. ACDC and M&Ms span 33-326 mL."""
MYO_ES_PERCENT_RANGE = (70.0, 150.0)
"""Myocardial volume at ES in percent of that at ED. Muscle keeps its volume, the slices through it do not:
ACDC and M&Ms span 75-147 %."""
FRAMES_IN_CYCLE_RANGE = (10, 100)
"""Frames of a whole cycle: fewer cannot show a beat, more are several beats. ACDC has 12-35, other sets up to 90."""
FRAME_TIME_RANGE_MS = (10.0, 150.0)
"""Time between the frames of a cine; a header with another value carries a placeholder."""
SLICE_STEP_RANGE_MM = (3.0, 12.5)
"""Distance between slices. ACDC, M&Ms and Najman span 3.8-10 mm."""

MIN_ENCLOSED = 0.8
"""Fraction of the LV's outline that touches myocardium, between base and apex: .89 and more in ACDC, M&Ms, Sunnybrook
and Najman."""

# --- What no cine shows, and quality control refuses -------------------------------------------------------------

FIELD_OF_VIEW_MM = (35.0, 600.0)
"""Edges of an image in the plane. The sets at hand span 145-480 mm; the heart of an infant has 35, a bore 600."""
STACK_MM = (20.0, 250.0)
"""What a stack covers through the plane. The sets at hand span 40-154 mm."""
ANY_EDV_ML = (10.0, 1000.0)
"""EDV of any LV, of infants too, in voxels of any believable size. The sets at hand span 49-612 mL."""
MIN_MEAN_ENCLOSED = 0.7
"""Mean of the enclosed fractions over the slices between base and apex; .98 and more in the sets at hand, .54 and less
where labels have each other's numbers."""
MAX_RV_DISTANCE_MM = 10.0
"""Distance between RV and myocardium: they touch in every labelled subject."""

# --- The least a heartbeat must show -----------------------------------------------------------------------------

MAX_ES_SHARE = 0.99
"""Largest ESV over EDV of a generated heart: an EF of 1 % is less than any heart that supports life."""
MIN_MYO_ES_SHARE = 0.7
"""Smallest myocardial volume at ES over that at ED of a generated heart; annotated subjects span .75-1.47."""
MIN_DETECTED_EDV_ML = 15.0
"""Smallest EDV of an LV that a model detects in a cine: anything smaller is something else. ACDC begins at 49 mL."""
MAX_DETECTED_ES_SHARE = 0.95
"""Largest ESV over EDV at which a detected LV counts as beating: no ACDC patient ejects less than 10 %."""

"""Are generated hearts any good: a cohort compared with real subjects, as one report with a verdict on every question.

How a number gets into the report::

    cases.py       reads patients and generated hearts as one `Case`
    measure.py     runs every `Measurer` on every heart, in parallel and cached: named arrays, NaN where unknown
    a section      compares the arrays of three sets (synthetic, train, held-out) and gives `Metric`s with a judgement
    report.py      writes them as ``index.html`` and ``report.json``

`evaluate.section_specs` lists the sections: `control`, `realism`, `temporal`, `anatomy`, `memorisation`, `segmenter`
and `codec`. Each has a ``section_spec`` (what to measure) and an ``_evaluate`` (what to compare).

To add a metric:

1. Measure one heart: a function ``(Case) -> dict of arrays`` and its `Measurer`. Change its ``identity`` whenever its
   numbers change, or old ones are taken from the cache. Measurers of images are in `radiomic`, `networks` and `codec`;
   of volumes and motion in `motion`; of contours in `contours`; label overlap is in `agreement`.
2. Compare sets: `comparison.one_sided_test` for a number that can be worse, `comparison.two_sided_test` for one that
   can differ, `comparison.Comparison` for a statistic of a whole set, `temporal.MotionLimit` for what any human heart
   keeps. Intervals and distances come from `statistics`.
3. Return the `Metric` from the section it belongs to. Where it has no value, say why: `Metric.unknown`.
   A metric of anatomy counts in the ``comparisons`` of its section, which divide the level of each test.
4. Test it with a planted defect (``tests/evaluation/test_planted.py``): it must fail, and real hearts must pass.
5. Describe it in ``docs/reference/evaluation-metrics.md``.

`score` uses the same measurers on hearts that it generates for held-out patients; `evaluate.write_card` writes
a model card.
"""

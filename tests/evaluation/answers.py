"""A question asked of three sets of hearts, in this process; no heart is measured twice alike."""

from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import Measured, Measurer, Values, measure
from cinesynth.evaluation.section import Measurements, Section, SectionSpec

_known: dict[tuple[object, ...], Values] = {}


def answer(question: SectionSpec, synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> Section:
    sets = (synthetic, train, held_out)
    return question.evaluate(Measurements(*(_measured(cases, question) for cases in sets), *sets))


def _measured(cases: CaseSet, question: SectionSpec) -> Measured:
    values: Values = {}
    for measurer in question.measurers:
        values |= _values(cases, measurer)
    return Measured(cases.title, cases.names, values)


def _values(cases: CaseSet, measurer: Measurer) -> Values:
    address = (cases.key, cases.names, measurer.name, measurer.identity)
    if address not in _known:
        _known[address] = measure(cases, [measurer], workers=1).values
    return _known[address]

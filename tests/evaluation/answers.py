"""A question asked of three sets of hearts, in this process."""

from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import measure
from cinesynth.evaluation.question import Evidence, Question
from cinesynth.evaluation.section import Section


def answer(question: Question, synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> Section:
    sets = (synthetic, train, held_out)
    return question.answer(Evidence(*(measure(s, question.measurers, workers=1) for s in sets), *sets))

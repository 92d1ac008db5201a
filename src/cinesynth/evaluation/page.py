"""The page: verdicts first, then what was compared, then every question with its numbers and their yardsticks."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from cinesynth.evaluation.report import Report, Verdict, number
from cinesynth.evaluation.section import Judgement, Listing, Measure, Picture, Section

COLUMNS = ("measure", "value", "people", "limit", "verdict", "hearts")
WORDS = {"pass": "pass", "warn": "warn", "fail": "fail", None: "not judged"}


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing else."""
    template = Template(
        (resources.files("cinesynth") / "reports" / "templates" / "evaluation.html").read_text(encoding="utf-8")
    )
    about = report.about
    return template.substitute(
        title=escape(f"Evaluation of {about['synthetic']['folder']}"),
        subtitle=escape(_subtitle(about)),
        overall=_badge(report.judgement),
        verdicts="\n".join(_verdict(place, verdict) for place, verdict in enumerate(report.verdicts)),
        cautions="\n".join(f'<p class="notice">{escape(text)}</p>' for text in about.get("cautions", ())),
        compared="\n".join(_pairs(_compared(about))),
        command=escape(str(about["command"])),
        sections="\n".join(_section(place, section) for place, section in enumerate(report.sections)),
        glossary="\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in GLOSSARY),
    )


def _subtitle(about: Mapping[str, Any]) -> str:
    real, made = about["real"], about["synthetic"]
    return (
        f"{made['cases']} hearts of {made['folder']} beside {real['train']['people']} training and "
        f"{real['held_out']['people']} held-out people of {real['folder']}"
    )


def _badge(judgement: Judgement | None) -> str:
    return f'<span class="badge {judgement or "none"}">{WORDS[judgement]}</span>'


def _verdict(place: int, verdict: Verdict) -> str:
    link = f'<a href="#section-{place}">{escape(verdict.title)}</a>'
    return f"<tr><th>{link}</th><td>{_badge(verdict.judgement)}</td><td>{escape(verdict.decided_by)}</td></tr>"


def _compared(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    real, made, grid = about["real"], about["synthetic"], about["grid"]
    yield "generated", _made(made)
    yield "reference", f"train split of {real['folder']}: {_people(real['train'])}"
    yield "floor", f"{real['held_out']['split']} split of {real['folder']}: {_people(real['held_out'])}"
    x, y, _ = grid["size"]
    yield "grid", f"{x} x {y} voxels of {' x '.join(f'{s:g}' for s in grid['spacing_mm'])} mm, acquired slices"
    yield "data", f"SHA-256 {real['data_hash']} (manifest of {real['folder']}), {made['key']} (cases)"
    for name, digest in about["networks"].items():
        yield f"{name} given", f"SHA-256 {digest}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield "seed", f"{about['seed']} for every subsample, division and bootstrap"
    yield "made", f"{about['made']} on {about['machine']}"


def _made(made: Mapping[str, Any]) -> str:
    if made["kind"] != "cohort":
        return f"{made['kind']}: {_people(made)}"
    frames = " or ".join(map(str, made["frames"]))
    weights = made["weights"]
    by = f"weights {weights.get('preset', '')} with SHA-256 {weights.get('sha256', 'unknown')}"
    return f"{made['cases']} cases of {frames} frames, {made['accepted']} accepted, {by}"


def _people(part: Mapping[str, Any]) -> str:
    counts = "; ".join(_counts(part[kind]) for kind in ("datasets", "vendors", "diagnoses"))
    return f"{part['people']} people, {part['whole_cycles']} with a whole cycle ({counts})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _pairs(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    for name, text in pairs:
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"


def _section(place: int, section: Section) -> str:
    found = [m for m in section.measures if not m.missing]
    missing = [m for m in section.measures if m.missing]
    parts = [
        f'<section id="section-{place}">',
        f"<h2>{escape(section.title)} {_badge(section.judgement)}</h2>",
        f'<p class="lead">{escape(section.question)}</p>',
        *(f'<p class="quiet">{escape(note)}</p>' for note in section.notes),
        _measures(found) if found else "",
        *_missing(missing),
        *map(_picture, section.pictures),
        *map(_listing, section.listings),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _measures(measures: Sequence[Measure]) -> str:
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "\n".join(f"<tr>{''.join(_cells(m))}</tr>" for m in measures)
    return f'<table class="measures">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'


def _cells(m: Measure) -> Iterator[str]:
    interval = "" if m.low is None else f'<span class="quiet">{number(m.low)} to {number(m.high)}</span>'
    unit = f' <span class="unit">{escape(m.unit)}</span>' if m.unit else ""
    detail = f'<span class="quiet">{escape(m.detail)}</span>' if m.detail else ""
    contents = (
        f"{escape(m.name)}{detail}",
        f"<b>{number(m.value)}</b>{unit}{interval}",
        number(m.floor),
        escape(m.limit) or "-",
        _badge(m.judgement),
        number(m.count),
    )
    for name, content in zip(COLUMNS, contents, strict=True):
        yield f'<td class="{name}" data-label="{name}">{content}</td>'


def _missing(measures: Sequence[Measure]) -> Iterator[str]:
    """What could not be measured, by reason; a reason may be a defect itself."""
    reasons: dict[tuple[str, Judgement | None], list[str]] = {}
    for m in measures:
        reasons.setdefault((m.missing, m.judgement), []).append(m.name)
    if reasons:
        rows = "".join(
            f"<li><b>{escape(', '.join(names))}</b>: {escape(reason)}{f' {_badge(verdict)}' if verdict else ''}</li>"
            for (reason, verdict), names in reasons.items()
        )
        yield f'<div class="missing"><h3>Not measured, and why</h3>\n<ul>{rows}</ul></div>'


def _picture(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode("ascii"), escape(picture.caption)
    source = f"data:image/png;base64,{data}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def _listing(listing: Listing) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in listing.columns)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in listing.rows)
    caption = escape(listing.caption)
    return f'<h3>{caption}</h3>\n<div class="wide"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _cell(value: object) -> str:
    kind = ' class="number"' if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{escape(number(value))}</td>"


# --- The words of a report, for a reader who meets them for the first time -------------------------------------------


GLOSSARY = (
    ("ED, ES", "end diastole, where the left ventricle is fullest, and end systole, where it is smallest"),
    ("EDV, ESV, EF", "volume of the LV at ED and at ES in mL, and the share of EDV that is ejected"),
    ("LV, RV, MYO", "cavity of the left ventricle, of the right ventricle, and the myocardium of the left one"),
    ("train, held-out", "people whose hearts the weights may have seen, and people whom nothing was trained on"),
    ("people", "the same number of held-out people against train, or of people's own cycles: the best to expect"),
    ("limit", "the rule of the verdict; its numbers come from people, or from physiology where it says so"),
    ("hearts", "how many hearts the number rests on"),
    ("interval", "below a value: bootstrap interval of 95 %, over hearts"),
    ("random division", "real people of both splits dealt anew into two groups: how far groups of people lie apart"),
    ("Frechet distance, fd-", "distance of two normal distributions fitted to features; fd- names the features"),
    ("MMD", "maximum mean discrepancy, a distance of distributions without a bias from small numbers"),
    ("FVD", "Frechet distance of the features of one video network (I3D); of no other network"),
    ("pass, warn, fail", "no reason to object; look; the hearts have a defect that people do not have"),
)

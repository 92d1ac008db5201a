"""The words of a report, for a reader who meets them for the first time."""

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

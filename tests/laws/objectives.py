"""Every objective, with the settings that the laws are tested under. A new one joins by a line."""

from crosstok.objectives import ALM, DSKD, GOLD, ULD, CrossEntropy, HiddenStates, MinED, Strict

DIVERGENCES = [
    ALM(),
    ALM(temperature=100.0, max_slope=None),
    ALM(temperature=float("inf")),
    ALM(divergence="total_variation"),
    ALM(divergence="total_variation", temperature=float("inf"), keep_open_tail=True),
    ALM(debias=False, min_boundary_mass=0.0),
    Strict(),
    Strict(top_k=3, temperature=2.0),
    Strict(top_k=None, divergence="forward_kl"),
    Strict(divergence="jensen_shannon"),
    GOLD(),
    GOLD(beta=0.0, matched_weight="vocabulary"),
    GOLD(beta=1.0, matched_weight=0.7, temperature=2.0),
    GOLD(hybrid=False),
    GOLD(hybrid=False, temperature=0.5),
    ULD(),
    ULD(alignment="bytes", temperature=2.0),
    MinED(one_hot=False),
    HiddenStates(),
]
"""Zero where the student equals the teacher, and a function of the student's scores alone."""

OBJECTIVES = [
    *DIVERGENCES,
    CrossEntropy(),
    MinED(),
    MinED(top_k=3, temperature=2.0),
    DSKD(),
    DSKD(variant="v2", divergence="jensen_shannon"),
]


def name_of(objective):
    return repr(objective)[:60]

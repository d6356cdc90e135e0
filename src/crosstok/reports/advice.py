"""Which objective fits a pair, by numbers measured on it and by published results.

Each reason gives the number, the threshold, and the source of the threshold.
"""

from dataclasses import dataclass, field

from crosstok.reports.example_counts import ExampleNumbers, VocabularyNumbers

# The least similar pair in Strict's paper (arXiv 2610.08448): share of the teacher's tokens that
# are one-to-one, and the teacher's probability on the shared vocabulary. Below, it is untested.
STRICT_ONE_TO_ONE = 0.828
STRICT_MASS = 0.9969

TINY_PARAMETERS = 200_000_000
_BYTE_LEVEL = 1.5  # bytes per token

_ALM_WITH_CROSS_ENTROPY = (
    "if the data are answers worth learning, try alm+cross_entropy, too: in ALM's large-to-small "
    "experiment (arXiv 2503.20083, table 3: 8B to 2B, GSM8K / MATH) alm reached 68.5 / 36.7, with "
    "cross-entropy 70.2 / 36.4, cross-entropy alone 67.2 / 36.2."
)
_BYTES = (
    "the student reads nearly byte by byte: in ALM's table 1 two models moved to bytes reached "
    "50.6 and 52.0 with alm, 51.3 and 53.5 with alm+cross_entropy."
)
_TINY = (
    "the student has {millions:.0f}M parameters: for GPT-2 120M on short instructions a published "
    "comparison (arXiv 2602.21669) reports DSKD 16.7, MinED 16.4, ULD 15.4, cross-entropy 13.9 "
    "(Rouge-L). It does not include alm and strict: try dskd, too."
)


@dataclass(frozen=True)
class Advice:
    """A recommended objective, with the reason.

    Attributes:
        objective: value of the option ``objective``.
        options: values of the option ``options``, such as ``{"strict.top_k": None}``.
        reason: the numbers that the recommendation rests on.
        also: other objectives that fit these numbers.
        hints: further published results for such a pair.
    """

    objective: str
    reason: str
    options: dict[str, object] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def recommend(
    vocabulary: VocabularyNumbers,
    examples: ExampleNumbers,
    *,
    mass: float | None,
    gives_distributions: bool = True,
    student_parameters: int | None = None,
) -> Advice:
    """Recommend an objective for a pair.

    Args:
        vocabulary: sizes and overlap of the vocabularies.
        examples: shares of one-to-one tokens, coverage.
        mass: probability that the teacher gives to the shared vocabulary at one-to-one tokens; None
            if it was not measured.
        gives_distributions: false for a teacher that gives likelihoods of tokens only.
        student_parameters: number of parameters, for a hint about small students.
    """
    hints = _hints(vocabulary, examples, student_parameters)
    if not gives_distributions:
        reason = "the teacher gives likelihoods of tokens only, and alm needs no more"
        return Advice("alm", f"{reason}: {_reach(examples)}.", hints=hints)
    if vocabulary.is_same:
        reason = (
            f"teacher and student have one vocabulary (all {vocabulary.shared_ids:,} ids), and "
            f"{examples.one_to_one_student_tokens:.1%} of the student's tokens are one-to-one: "
            "strict over the whole vocabulary is the plain KL divergence, which needs no "
            "approximation (strict.divergence: reverse_kl, forward_kl or jensen_shannon)."
        )
        return Advice("strict", reason, {"strict.top_k": None}, hints=hints)
    against = _against_strict(examples, mass)
    if against is None:
        reason = (
            f"{examples.one_to_one_teacher_tokens:.1%} of the teacher's tokens are one-to-one with "
            f"the student's, and the shared vocabulary holds {mass:.2%} of the teacher's "
            f"probability there: no less than in the least similar pair that strict was tested on "
            f"({STRICT_ONE_TO_ONE:.1%} and {STRICT_MASS:.2%}; arXiv 2610.08448: ahead of GOLD and "
            "ULD on 3 of 3 pairs, one run each). It was not compared with alm."
        )
        return Advice("strict", reason, also=("alm",), hints=hints)
    return Advice("alm", f"{against}. alm does not need that: {_reach(examples)}.", hints=hints)


def _against_strict(examples: ExampleNumbers, mass: float | None) -> str | None:
    share = examples.one_to_one_teacher_tokens
    if share < STRICT_ONE_TO_ONE:
        silent = 1 - examples.one_to_one_student_tokens
        return (
            f"{share:.1%} of the teacher's tokens are one-to-one with the student's, below the "
            f"{STRICT_ONE_TO_ONE:.1%} of the least similar pair that strict was tested on (arXiv "
            f"2610.08448); strict would not train {silent:.1%} of the student's tokens"
        )
    if mass is None:
        return (
            f"{share:.1%} of the teacher's tokens are one-to-one with the student's, enough for "
            "strict, but the teacher's probability on the shared vocabulary was not measured"
        )
    if mass < STRICT_MASS:
        return (
            f"the shared vocabulary holds {mass:.2%} of the teacher's probability at one-to-one "
            f"tokens, below the {STRICT_MASS:.2%} of the least similar pair that strict was tested "
            "on (arXiv 2610.08448); strict would leave the rest out"
        )
    return None


def _reach(examples: ExampleNumbers) -> str:
    return (
        f"it compares the likelihoods of chunks ({examples.chunks:,} here, "
        f"{examples.student_tokens / max(1, examples.chunks):.2f} student tokens each), which "
        f"cover {examples.coverage:.2%} of the bytes"
    )


def _hints(
    vocabulary: VocabularyNumbers, examples: ExampleNumbers, student_parameters: int | None
) -> tuple[str, ...]:
    hints = []
    if not vocabulary.is_same:
        hints.append(_ALM_WITH_CROSS_ENTROPY)
        if examples.bytes - examples.cut_bytes < _BYTE_LEVEL * examples.student_tokens:
            hints.append(_BYTES)
        if student_parameters is not None and student_parameters < TINY_PARAMETERS:
            hints.append(_TINY.format(millions=student_parameters / 1e6))
    return tuple(hints)

"""Which objective fits a pair, by numbers that were measured on it and by published results.

A rule holds no further than the evidence behind it, so each reason says the number, the threshold,
and where the threshold comes from.
"""

from dataclasses import dataclass, field

from crosstok.reports.example_counts import ExampleNumbers, VocabularyNumbers

# Strict's least alike pair (arXiv 2610.08448): share of the teacher's tokens that are one-to-one,
# and the teacher's probability on the shared vocabulary. Below, nobody has tested it.
STRICT_ONE_TO_ONE = 0.828
STRICT_MASS = 0.9969

TINY_PARAMETERS = 200_000_000
_BYTE_LEVEL = 1.5  # bytes a token

_ALM_WITH_CROSS_ENTROPY = (
    "a next-token term is worth a run of its own (alm+cross_entropy), where the data are answers "
    "worth learning: in ALM's large-to-small experiment (arXiv 2503.20083, table 3: 8B to 2B, "
    "GSM8K / MATH) alm had 68.5 / 36.7, with cross-entropy 70.2 / 36.4, cross-entropy alone "
    "67.2 / 36.2."
)
_BYTES = (
    "the student reads nearly byte by byte: in ALM's table 1 two models moved to bytes had "
    "50.6 and 52.0 with alm, 51.3 and 53.5 with alm+cross_entropy."
)
_TINY = (
    "a student of {millions:.0f}M parameters: for GPT-2 120M on short instructions a table of "
    "others (arXiv 2602.21669) has DSKD 16.7, MinED 16.4, ULD 15.4, cross-entropy 13.9 (Rouge-L). "
    "alm and strict are not in it, so no one knows how they rank there: try dskd, too."
)


@dataclass(frozen=True)
class Advice:
    """An objective with its reason.

    Attributes:
        objective: for ``--objective``.
        options: for ``--options``, as ``{"strict.top_k": None}``.
        reason: in numbers.
        also: other objectives that the numbers do not speak against.
        hints: what else is known, and how well.
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
    """The objective that the evidence speaks for.

    Args:
        vocabulary: sizes and overlap.
        examples: shares of one-to-one tokens, coverage.
        mass: probability that the teacher gives to the shared vocabulary at one-to-one tokens;
            None where no teacher was there to measure it.
        gives_distributions: False for a teacher that gives likelihoods of tokens only.
        student_parameters: for a hint about small students.
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
            f"probability there: no less than in the least alike pair that strict was tested on "
            f"({STRICT_ONE_TO_ONE:.1%} and {STRICT_MASS:.2%}; arXiv 2610.08448: ahead of GOLD and "
            "ULD on 3 of 3 pairs, one run each). It was not compared with alm."
        )
        return Advice("strict", reason, also=("alm",), hints=hints)
    return Advice("alm", f"{against}. alm does not ask for that: {_reach(examples)}.", hints=hints)


def _against_strict(examples: ExampleNumbers, mass: float | None) -> str | None:
    share = examples.one_to_one_teacher_tokens
    if share < STRICT_ONE_TO_ONE:
        silent = 1 - examples.one_to_one_student_tokens
        return (
            f"{share:.1%} of the teacher's tokens are one-to-one with the student's, below the "
            f"{STRICT_ONE_TO_ONE:.1%} of the least alike pair that strict was tested on (arXiv "
            f"2610.08448); strict would say nothing about {silent:.1%} of the student's tokens"
        )
    if mass is None:
        return (
            f"{share:.1%} of the teacher's tokens are one-to-one with the student's, enough for "
            "strict, but what the teacher's probability on the shared vocabulary is was not "
            "measured"
        )
    if mass < STRICT_MASS:
        return (
            f"the shared vocabulary holds {mass:.2%} of the teacher's probability at one-to-one "
            f"tokens, below the {STRICT_MASS:.2%} of the least alike pair that strict was tested "
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

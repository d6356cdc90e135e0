"""Results of the demo for its four models: recovered shares, a table, a sentence."""

from collections.abc import Mapping

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crosstok.demo.corpus import Domain

BitsPerByte = Mapping[str, Mapping[str, float]]
"""Bits per byte by model and domain."""

TEACHER, TRANSPLANT, CROSS_ENTROPY, ALM = "teacher", "transplant", "cross-entropy", "ALM"
METHODS = (CROSS_ENTROPY, ALM)
DOMAINS: dict[Domain, str] = {"code": "code (trained on)", "prose": "prose (never trained on)"}
BOTH = "both"
"""The mean of the domains' bits per byte, each with the same weight."""


def with_mean(bits_per_byte: BitsPerByte) -> dict[str, dict[str, float]]:
    """Add the mean over domains to every model's bits per byte."""
    return {
        model: {**figures, BOTH: sum(figures[name] for name in DOMAINS) / len(DOMAINS)}
        for model, figures in bits_per_byte.items()
    }


def recovered_shares(bits_per_byte: BitsPerByte) -> dict[str, dict[str, float]]:
    """Share of what the untrained transplant lost against the teacher that each method recovers.

        (transplant - student) / (transplant - teacher)

    is 0 for the transplant, 1 for the teacher, and more than 1 for a model better than the teacher.

    Args:
        bits_per_byte: values of all four models, on the domains and on both.

    Returns:
        Share by method and domain.

    Raises:
        ValueError: the transplant lost nothing on a domain, so that no share is defined.
    """
    teacher, transplant = bits_per_byte[TEACHER], bits_per_byte[TRANSPLANT]
    for name in transplant:
        if not transplant[name] > teacher[name]:
            raise ValueError(
                f"bits per byte on {name}: transplant {transplant[name]:.3f}, teacher "
                f"{teacher[name]:.3f}. Nothing was lost, so nothing can be recovered: give the "
                "demo a trained model and a tokenizer that is not its own."
            )
    return {
        method: {
            name: (transplant[name] - bits) / (transplant[name] - teacher[name])
            for name, bits in bits_per_byte[method].items()
        }
        for method in METHODS
    }


def table(bits_per_byte: BitsPerByte, shares: BitsPerByte) -> Table:
    """Make a table: a column for each model, a row for each domain, recovered shares below."""
    shown = Table(title="Bits per byte on held-out text (lower is better)", title_justify="left")
    shown.add_column("")
    for model in bits_per_byte:
        shown.add_column(model, justify="right")
    rows = {**{str(name): label for name, label in DOMAINS.items()}, BOTH: "mean of both"}
    for name, label in rows.items():
        cells = (f"{figures[name]:.3f}" for figures in bits_per_byte.values())
        shown.add_row(label, *cells, end_section=name == BOTH)
    for name in rows:
        cells = (f"{shares[m][name]:.1%}" if m in shares else "" for m in bits_per_byte)
        shown.add_row(f"recovered, {name}", *cells)
    return shown


def sentence(shares: BitsPerByte) -> str:
    """Put the result in words."""
    alm, cross_entropy = shares[ALM], shares[CROSS_ENTROPY]
    return (
        f"ALM recovers {alm['code']:.1%} of the bits per byte that the transplant lost on code, "
        f"which it was trained on, and {alm['prose']:.1%} on prose, which it never saw "
        f"({alm[BOTH]:.1%} over both); cross-entropy recovers {cross_entropy['code']:.1%} on code "
        f"and {cross_entropy['prose']:.1%} on prose ({cross_entropy[BOTH]:.1%} over both)."
    )


def continuation(model: str, text: str) -> Padding:
    """Format what a model wrote, indented under its name."""
    written = Text.from_markup(f"[bold]{escape(model)}[/bold]\n")
    return Padding(
        written + Text(text.strip("\n").rstrip().expandtabs(4)), (0, 0, 1, 2), expand=False
    )

"""Two tokenizers, looked at: their numbers on texts, and a few texts as both cut them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from crosstok.alignment import Alignment, align_batch
from crosstok.corpora import Corpus, distinct_names, load_corpora
from crosstok.jobs.json_file import check_writable, write_json
from crosstok.jobs.result import JobResult
from crosstok.recipes import InspectTokenizersRecipe, takes
from crosstok.recipes.data import text_column
from crosstok.reports import (
    ChunkView,
    PairReport,
    chunk_view,
    compare_tokenizers,
    pair_page,
    write_page,
)
from crosstok.tokenizers import (
    Spans,
    TextEncoder,
    load_target_tokenizer,
    load_tokenizer,
    shared_texts,
)

_SHOWN_CHARACTERS = 600
_SHOWN_TEXTS = 6
_LOOKED_AT = 24  # texts of each file, of which the longest are shown


@dataclass(frozen=True)
class CutText:
    """A text under both tokenizers."""

    label: str
    source: Spans
    target: Spans
    alignment: Alignment


@dataclass(frozen=True, kw_only=True, repr=False)
class InspectTokenizersResult(JobResult):
    """What was found of two tokenizers.

    Attributes:
        names: source and target, as they were named.
        encoders: source and target.
        report: the pair's numbers, in all and by file.
        texts: a few texts, cut by both.
        folder: none: nothing is written but the files that the recipe names.
        metrics: the numbers of all texts together.
    """

    names: tuple[str, str]
    encoders: tuple[TextEncoder, TextEncoder]
    report: PairReport
    texts: tuple[CutText, ...]

    def views(self) -> list[ChunkView]:
        """The texts for a page."""
        vocabs = self.encoders[0].byte_vocab, self.encoders[1].byte_vocab
        return [
            chunk_view(
                text.label,
                (text.source, text.target),
                text.alignment,
                vocabs,
                ("source", "target"),
            )
            for text in self.texts
        ]


@takes(InspectTokenizersRecipe)
def inspect_tokenizers(recipe: InspectTokenizersRecipe) -> InspectTokenizersResult:
    """Count on the texts of a recipe, cut some of them, and write the files that it names.

    Raises:
        ValueError: a tokenizer or the data cannot be read.
    """
    check_writable(json=recipe.json, html=recipe.html)
    result = _look(recipe)
    write_json(recipe.json, result.report.as_json())
    if recipe.html is not None:
        page = pair_page(result.report.as_json(), *result.names, result.views())
        write_page(recipe.html, page)
    return result


def _look(recipe: InspectTokenizersRecipe) -> InspectTokenizersResult:
    names = recipe.source, recipe.target
    trust = recipe.trust_remote_code
    source = TextEncoder(load_tokenizer(names[0], trust_remote_code=trust))
    target = TextEncoder(load_target_tokenizer(names[1], names[0], trust_remote_code=trust))
    if recipe.data is None:
        texts: dict[str, Iterable[str]] = {"text": [recipe.text or ""]}
        shown = [("the text", recipe.text or "")]
    else:
        corpora = _load(recipe, recipe.data)
        share = max(1, _SHOWN_TEXTS // len(corpora))
        shown = [
            (f"{corpus.name}, text {number:,}", text)
            for corpus in corpora[:_SHOWN_TEXTS]
            for number, text in _telling(list(corpus.texts(_LOOKED_AT)), share)
        ]
        texts = {corpus.name: corpus.texts(recipe.max_texts) for corpus in corpora}
    report = compare_tokenizers(source, target, texts)
    numbers = {k: float(v) for k, v in report.as_json().items() if isinstance(v, int | float)}
    cut = _cut(shown, source, target)
    return InspectTokenizersResult(
        folder=None,
        metrics=numbers,
        names=names,
        encoders=(source, target),
        report=report,
        texts=cut,
    )


def _load(recipe: InspectTokenizersRecipe, sources: Sequence[str]) -> list[Corpus]:
    """The corpora of all sources; those of one name are distinguished by ``-2``, ``-3``, ..."""
    corpora = [
        corpus
        for source in sources
        for corpus in load_corpora(
            source,
            text_field=text_column(recipe.columns, recipe.text_field),
            text_unit=recipe.text_unit,
            split=recipe.split,
        )
    ]
    names = distinct_names([corpus.name for corpus in corpora])
    return [replace(corpus, name=name) for name, corpus in zip(names, corpora, strict=True)]


def _telling(texts: Sequence[str], number: int) -> list[tuple[int, str]]:
    """The first, and the longest of the others, in their order; numbers from 1."""
    order = sorted(range(1, len(texts)), key=lambda i: -min(len(texts[i]), _SHOWN_CHARACTERS))
    return [(i + 1, texts[i]) for i in sorted([0, *order[: number - 1]]) if i < len(texts)]


def _cut(
    shown: Sequence[tuple[str, str]], source: TextEncoder, target: TextEncoder
) -> tuple[CutText, ...]:
    read = shared_texts([text[:_SHOWN_CHARACTERS] for _, text in shown], source, target)
    ours = source(read, add_start=False, add_end=False)
    theirs = target(read, add_start=False, add_end=False)
    alignments = align_batch(ours, theirs, source.byte_vocab, target.byte_vocab)
    labels = [label for label, _ in shown]
    return tuple(map(CutText, labels, ours, theirs, alignments))

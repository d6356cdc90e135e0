"""Load texts and chats from data set names, files and folders, as data sets of `datasets`."""

from crosstok.corpora.examples import Examples, load_examples
from crosstok.corpora.files import distinct_names, plain_name
from crosstok.corpora.in_memory import as_examples, as_row
from crosstok.corpora.load import Corpus, load_corpora, load_corpus, read_rows
from crosstok.corpora.mixture import load_mixture

__all__ = [
    "Corpus",
    "Examples",
    "as_examples",
    "as_row",
    "distinct_names",
    "load_corpora",
    "load_corpus",
    "load_examples",
    "load_mixture",
    "plain_name",
    "read_rows",
]

"""The demo's text: what is cut out of a standard library, and how it is split."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from pathlib import Path

import pytest

from crosstok.demo import corpus
from crosstok.demo.corpus import SplitDocuments

STDLIB = Path(sysconfig.get_paths()["stdlib"])
# Hold no string over several lines in which white space would be tidied.
MODULES = ("argparse", "bisect", "dataclasses", "email/message", "enum", "json/decoder", "typing")


def test_documents_are_many_and_short_and_about_one_in_twenty_is_held_out(
    domains: dict[str, SplitDocuments],
) -> None:
    for documents, least in zip(domains.values(), (2_000_000, 500_000), strict=True):
        num_bytes = [sum(len(t.encode()) for t in p) for p in (documents.train, documents.held_out)]
        assert num_bytes[0] > least
        assert 0.02 < num_bytes[1] / sum(num_bytes) < 0.12
        lengths = [len(t.encode()) for t in (*documents.train, *documents.held_out)]
        assert min(lengths) >= corpus.MIN_DOCUMENT_BYTES
        assert max(lengths) <= corpus.MAX_DOCUMENT_BYTES


def test_no_document_is_in_both_parts_and_none_is_there_twice(
    domains: dict[str, SplitDocuments],
) -> None:
    for documents in domains.values():
        assert not set(documents.train) & set(documents.held_out)
        assert len(set(documents.train)) == len(documents.train)
        assert len(set(documents.held_out)) == len(documents.held_out)


def test_code_holds_neither_test_suites_nor_installed_packages(
    domains: dict[str, SplitDocuments],
) -> None:
    text = "\n".join(domains["code"].train)
    assert "class OrderedDict(" in text
    assert "import torch" not in text
    assert "class OrderedDictTests" not in text


def test_the_part_of_a_file_depends_on_its_name_alone(tmp_path: Path) -> None:
    names = [f"module_{index}.py" for index in range(60)]
    for name in names:
        body = f"def function_of_{name[:-3]}(argument):\n" + "    use(argument)\n" * 10
        (tmp_path / name).write_text(body)
    before = corpus.load_domain("code", tmp_path)
    assert corpus.load_domain("code", tmp_path) == before
    assert len(before.held_out) == sum(map(corpus.is_held_out, names)) > 0
    (tmp_path / next(name for name in names if not corpus.is_held_out(name))).unlink()
    assert corpus.load_domain("code", tmp_path).held_out == before.held_out


@pytest.mark.parametrize("module", MODULES)
def test_stripped_code_is_the_same_program_without_docstrings_and_comments(module: str) -> None:
    with tokenize.open(STDLIB / f"{module}.py") as file:
        source = file.read()
    stripped = corpus.strip_code(source)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    assert ast.dump(ast.parse(stripped)) == ast.dump(tree)
    assert not corpus.docstrings(stripped)
    tokens = tokenize.generate_tokens(io.StringIO(stripped).readline)
    assert all(token.type != tokenize.COMMENT for token in tokens)
    assert "\n\n\n" not in stripped


def test_awkward_docstrings_and_comments_are_cut_out_cleanly() -> None:
    source = (
        '"""Module é."""; x = 1  # one\n'
        "def only(): 'doc'\n"
        "class Empty:\n"
        '    """Two\n'
        '    lines."""  # and a comment\n'
        "async def both():\n"
        "    'é' 'joined'\n"
        "    # alone\n"
        "    return '# no comment'  \n"
        "\n\n\n"
        "y = 2  # at the end, without a line's end"
    )
    assert corpus.strip_code(source) == (
        "pass; x = 1\n"
        "def only(): pass\n"
        "class Empty:\n"
        "    pass\n"
        "async def both():\n"
        "\n"
        "    return '# no comment'\n"
        "\n"
        "y = 2\n"
    )
    assert corpus.docstrings(source) == ["Module é.", "doc", "Two\nlines.", "éjoined"]


@pytest.mark.parametrize(
    "source",
    [
        "# header\ntopics = {'if': 'The \"if\" statement\\n'\n 'chooses.\\n', 'for': 'Loops.'}\n",
        "topics = {\n    'if': r'''The \"if\" statement\nchooses.\n''',\n    'for': 'Loops.'}\n",
    ],
    ids=["joined lines, as up to 3.12", "long strings, as from 3.13"],
)
def test_topics_are_read_in_both_formats_without_running_the_file(source: str) -> None:
    found = corpus.topics("raise SystemExit\n" + source)
    assert found == {"if": 'The "if" statement\nchooses.\n', "for": "Loops."}


def test_a_file_without_topics_is_an_error() -> None:
    with pytest.raises(ValueError, match="assigns nothing to `topics`"):
        corpus.topics("subjects = {}")


def test_passages_are_cut_at_blank_lines_and_hold_every_line_that_fits() -> None:
    blocks = ["one\ntwo", "three", "x" * 30 + "\nfour\nfive", "six"]
    passages = corpus.cut("\n\n".join(blocks), max_bytes=20)
    assert passages == ["one\ntwo\n\nthree", "four\nfive\n\nsix"]


def test_unknown_domains_and_folders_without_text_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="domain is 'poetry'"):
        corpus.load_domain("poetry")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no code in the standard library folder"):
        corpus.load_domain("code", tmp_path)

"""Files of every kind give the same rows, and a name stands for what it says."""

import json
import logging

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crosstok.chats import parse_example
from crosstok.corpora import load_corpora, load_corpus, load_examples

ROWS = [
    {"text": 'a "quoted", word', "n": "1"},
    {"text": "two\nlines", "n": "2"},
    {"text": "", "n": "3"},
    {"text": "猫", "n": "4"},
]
TEXTS = [row["text"] for row in ROWS if row["text"]]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


def separated(mark, line_end="\n"):
    lines = [mark.join(map(quoted, row)) for row in [list(ROWS[0]), *(r.values() for r in ROWS)]]
    return line_end.join(lines)


def write(path, name):
    """The rows as a file of the kind that the name ends in."""
    file, table = path / name, pa.Table.from_pylist(ROWS)
    match name.rpartition(".")[2]:
        case "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case "json":
            file.write_text(json.dumps(ROWS))
        case "csv":
            file.write_text(separated(","))
        case "tsv":
            file.write_text(separated("\t"))
        case "parquet":
            pq.write_table(table, file)
        case "arrow":
            opened = pa.ipc.new_file if "file" in name else pa.ipc.new_stream
            with pa.OSFile(str(file), "wb") as sink, opened(sink, table.schema) as writer:
                writer.write_table(table)
    return str(file)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "file.arrow", "stream.arrow"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, streaming):
    corpus = load_corpus(write(tmp_path, name), streaming=streaming)
    assert list(corpus.texts()) == TEXTS
    assert corpus.num_skipped == 1


@pytest.mark.parametrize(("mark", "line_end"), [(";", "\n"), (",", "\r\n"), ("\t", "\r\n")])
def test_separators_and_line_ends_of_a_spreadsheet_are_found(tmp_path, mark, line_end):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + separated(mark, line_end).encode())
    assert list(load_corpus(str(tmp_path / "a.csv")).texts()) == TEXTS


def test_prompts_with_completions_are_read_from_tables(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,completion\n"Hello, you",Hi\n')
    (row,) = load_examples(str(tmp_path / "a.csv")).dataset
    pair = parse_example(row["example"], row["where"])
    assert (pair.prompt, pair.completion) == ("Hello, you", "Hi")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('{"data": [{"text": "a"}, {"text": "b"}], "version": 1}', ["a", "b"]),
        ('{\n "rows": [\n  {"text": "a"}\n ]\n}\n', ["a"]),
        ('{\n "text": "one row",\n "tags": ["x"]\n}\n', ["one row"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
    ],
)
def test_a_json_file_may_be_one_object_with_a_list_of_rows(tmp_path, content, texts):
    (tmp_path / "a.json").write_text(content)
    assert list(load_corpus(str(tmp_path / "a.json")).texts()) == texts


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_saved_to_disk_is_read_without_writing_to_its_folder(tmp_path, streaming):
    folder = tmp_path / "saved"
    saved = datasets.Dataset.from_list(ROWS).select([3, 1, 0])
    saved.save_to_disk(str(folder), num_shards=2)
    before = sorted(path.name for path in folder.iterdir())
    corpus = load_corpus(str(folder), streaming=streaming)
    assert list(corpus.texts()) == [ROWS[i]["text"] for i in (3, 1, 0)]
    assert corpus.name == "saved"
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [one.name for one in load_corpora(str(folder))] == ["saved"]


def test_saved_splits_are_chosen_by_name_and_listed(tmp_path):
    made = {name: datasets.Dataset.from_list([{"text": name}]) for name in ("fit", "check")}
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    assert list(load_corpus(str(tmp_path / "saved"), split="check").texts()) == ["check"]
    with pytest.raises(ValueError, match=r"no files of split 'train'; its splits are: fit, check"):
        load_corpus(str(tmp_path / "saved"))


def test_a_saved_data_set_that_lacks_a_file_is_named(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(ValueError, match=r"saved lacks data-00000-of-00001.arrow"):
        load_corpus(str(tmp_path / "saved"))


def test_a_folder_says_what_it_took_and_what_not(tmp_path, caplog):
    for name in ("train-1.jsonl", "train-2.csv", "test.jsonl"):
        write(tmp_path, name)
    for name in ("notes.pdf", "README", ".hidden"):
        (tmp_path / name).write_text("x")
    with caplog.at_level(logging.INFO, logger="crosstok"):
        load_corpus(str(tmp_path))
    [line] = [r.getMessage() for r in caplog.records if "read (" in r.getMessage()]
    assert line == (
        f"{tmp_path}, split train: 2 files read (1 .jsonl, 1 .csv); left out: 1 of split test, "
        "1 README, 1 .pdf"
    )


def test_a_folder_of_one_kind_needs_no_word(tmp_path, caplog):
    write(tmp_path, "a.jsonl")
    with caplog.at_level(logging.INFO, logger="crosstok"):
        load_corpus(str(tmp_path))
    assert "read (" not in caplog.text


def test_other_files_with_the_name_of_a_split_do_not_hide_the_data(tmp_path):
    write(tmp_path, "a.jsonl")
    (tmp_path / "train.log").write_text("step 1")
    assert list(load_corpus(str(tmp_path)).texts()) == TEXTS


@pytest.mark.parametrize("name", ["gl[ab]", "st*r", "wh?t", "[!a]"])
def test_a_folder_whose_name_looks_like_a_glob_reads_its_own_files(tmp_path, name):
    for folder in (name, "gla", "star", "what", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.txt").write_text(folder + "\n")
    assert list(load_corpus(str(tmp_path / name)).texts()) == [name]
    file = tmp_path / f"{name}.txt"
    file.write_text("a file\n")
    assert list(load_corpus(str(file)).texts()) == ["a file"]


def test_a_glob_reads_every_data_file_that_matches(tmp_path, caplog):
    for name in ("b.jsonl", "a.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "a.md").write_text("x")
    with caplog.at_level(logging.INFO, logger="crosstok"):
        corpus = load_corpus(str(tmp_path / "[ab].*"))
    assert list(corpus.texts()) == ["a.jsonl", "b.jsonl"]
    assert "2 files read (2 .jsonl); left out: 1 .md" in caplog.text
    named = load_corpora(str(tmp_path / "[ab].*"))
    assert [one.name for one in named] == ["a", "b"]
    with pytest.raises(ValueError, match=r"the glob .*x\*.* matches no file"):
        load_corpus(str(tmp_path / "x*"))

import gzip
import json
import lzma
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from crosstok.corpora import load_corpus, read_rows

ROWS = [
    {"text": "hello ☃", "id": 1},
    {"text": "  \n", "id": 2},
    {"text": None, "id": "three"},
    {"text": 5},
    {"id": 5},
    {"text": ["a"], "more": {"a": 1}},
    {"text": "2020-01-01"},
    {"text": "\ud800"},
]
TEXTS = ["hello ☃", "2020-01-01"]
PARAGRAPHS = "first line\nsecond line\n\nnext block\r\n\n\nlast"


def packed(path: Path, content: bytes) -> str:
    pack = {".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstandard.compress}
    path.write_bytes(pack.get(path.suffix, bytes)(content))
    return str(path)


def json_lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_rows_without_text_are_skipped_and_counted(tmp_path, suffix, streaming):
    source = packed(tmp_path / f"mixed.jsonl{suffix}", json_lines(ROWS))
    corpus = load_corpus(source, streaming=streaming)
    assert [row["text"] for row in corpus.dataset] == TEXTS
    assert corpus.num_skipped == 6
    assert corpus.name == "mixed"


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", ["first line", "second line", "next block", "last"]),
        ("paragraph", ["first line\nsecond line", "next block", "last"]),
        ("document", [PARAGRAPHS]),
    ],
)
def test_text_files_are_read_by_line_paragraph_or_document(tmp_path, suffix, unit, expected):
    source = packed(tmp_path / f"t.txt{suffix}", PARAGRAPHS.encode())
    assert list(load_corpus(source, text_unit=unit).texts()) == expected


def test_parquet_files_and_json_arrays_give_the_same_rows(tmp_path):
    rows = [{"body": "one", "n": 1}, {"body": None, "n": 2}, {"body": "two", "n": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    for name in ("a.parquet", "a.json"):
        corpus = load_corpus(str(tmp_path / name), text_field="body")
        assert list(corpus.texts()) == ["one", "two"]
        assert corpus.num_skipped == 1


def test_a_folder_is_read_by_split(tmp_path):
    packed(tmp_path / "train-0.jsonl", json_lines([{"text": "a"}]))
    packed(tmp_path / "train-1.txt.gz", b"b\nc\n")
    packed(tmp_path / "test.jsonl.xz", json_lines([{"text": "d"}]))
    (tmp_path / "README.md").write_text("not data")
    assert list(load_corpus(str(tmp_path)).texts()) == ["a", "b", "c"]
    assert list(load_corpus(str(tmp_path), split="test", streaming=True).texts()) == ["d"]
    with pytest.raises(ValueError, match=r"no files of split 'dev'; its splits are: train, test"):
        load_corpus(str(tmp_path), split="dev")


def test_files_of_a_folder_are_shards_for_workers(tmp_path):
    for name in "abc":
        packed(tmp_path / f"{name}.txt", f"{name}1\n{name}2\n".encode())
    assert load_corpus(str(tmp_path), streaming=True).dataset.num_shards == 3


def test_a_changed_file_is_read_again(tmp_path):
    for text in ("old", "new"):
        source = packed(tmp_path / "a.jsonl.xz", json_lines([{"text": text}]))
        assert list(load_corpus(source).texts()) == [text]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.xz"]


def test_the_count_of_skipped_rows_survives_the_cache(tmp_path):
    source = packed(tmp_path / "a.jsonl", json_lines(ROWS))
    assert [load_corpus(source).num_skipped for _ in range(2)] == [6, 6]


def test_several_zstandard_frames_are_read_to_the_last(tmp_path):
    frames = [zstandard.compress(b"one\ntw"), zstandard.compress(b""), zstandard.compress(b"o\n")]
    (tmp_path / "a.txt.zst").write_bytes(b"".join(frames))
    assert list(load_corpus(str(tmp_path / "a.txt.zst")).texts()) == ["one", "two"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_broken_json_is_named_by_its_line(tmp_path, suffix, streaming):
    content = b'{"text": "a"}\n\n' * 2500 + b'{"text": "b"\n{"text": "c"}\n'
    source = packed(tmp_path / f"b.jsonl{suffix}", content)
    with pytest.raises(ValueError, match=r"line 5001: broken JSON .* starts '\{\"text\": \"b\"'"):
        list(load_corpus(source, streaming=streaming).texts())


def test_a_broken_array_is_named_by_its_line(tmp_path):
    (tmp_path / "b.json").write_text('\n[\n{"text": "a"},\n{"text" "b"}]')
    with pytest.raises(ValueError, match=r"line 4: broken JSON .* starts '\{\"text\" \"b\"\}\]'"):
        load_corpus(str(tmp_path / "b.json"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl is empty: it has no rows"),
        ("a.txt.xz", b"", "a.txt.xz is empty: it has no rows"),
        (
            "a.jsonl",
            b'{"body": "x", "title": "y"}\n',
            r"no field 'text'.*'body', 'title'.*Give --columns text=body\.",
        ),
        ("a.jsonl", b'{"body": "x"}\n', r"Give --columns text=body\."),
        ("a.jsonl", b"[1]\n2\n", r"no row is a JSON object"),
        ("a.jsonl", b'{"text": ""}\n{"text": 1}\n', r"none of its 2 rows holds text"),
        ("a.txt", b"one\ntwo \xff\n", r"line 2: not UTF-8"),
        ("a.md", b"text\na\n", r"not a data file that can be read. Data files end in .jsonl"),
        ("a.arrow", b"ARROW1", r"not a readable Arrow file"),
        ("a.csv", b"", r"a.csv is empty: it has no rows"),
        ("a.csv", b"\xef\xbb\xbfbody\nx\n", r"Its fields are: 'body'. Give --columns text=body"),
        ("a.csv", b'text,n\na,1\n"b,2\n', r"a.csv, line 3: broken csv"),
        ("a.csv", b"text,n\na,1\nb, c,2\n", r"line 3: the row has 3 cells, and the header has 2"),
        ("a.csv", b"text,text\na,b\n", r"'text' is there twice"),
        ("a.csv", b"text\nb \xe9\n", r"a.csv, line 2: not UTF-8.*latin1"),
        ("a.jsonl", "\ufeff{}".encode("utf-16"), r"line 1: not UTF-8.*utf-16"),
        ("a.jsonl", b'[{"text": "a"},\n{"text": "b"}]', r"line 1: broken JSON.*is named .json"),
        ("a.jsonl", b'[{"text": "a"}]\n', r"line 1 is a whole array of rows.*is named .json"),
        ("a.jsonl", b"[" * 100_000, r"line 1: broken JSON \(too many nested brackets\)"),
        ("a.json", b'{"text": "a",\n "b": }', r"a.json, line 1: broken JSON"),
        ("a.parquet", b"PAR1", r"not a readable Parquet file"),
    ],
)
def test_bad_files_are_refused_with_the_next_step(tmp_path, name, content, message, streaming):
    source = packed(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        list(load_corpus(source, streaming=streaming).texts())


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.xz", "a.csv.zst"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_an_error(tmp_path, name, streaming):
    (tmp_path / name).write_bytes(b'{"text": "a"}\n')
    with pytest.raises(ValueError, match=rf"{name} cannot be decompressed.*is not compressed as"):
        load_corpus(str(tmp_path / name), streaming=streaming)


def test_marks_line_ends_and_blank_lines_of_other_systems_are_read_over(tmp_path):
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \n{"text": "b"}'
    assert list(load_corpus(packed(tmp_path / "a.jsonl", content)).texts()) == ["a", "b"]


def test_a_folder_with_the_name_of_a_file_is_a_folder(tmp_path):
    folder = tmp_path / "texts.jsonl"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"The folder .*texts.jsonl has no data files"):
        load_corpus(str(folder))
    packed(folder / "a.txt", b"one\n")
    assert list(load_corpus(str(folder)).texts()) == ["one"]


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_compressed_file_cut_short_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    packed(path, "".join(f"line {number**7 % 9973}\n" for number in range(9999)).encode())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cannot be decompressed after line .* truncated"):
        load_corpus(str(path))


@pytest.mark.parametrize("source", ["no/such/folder/here", "missing.jsonl", "./missing", "a b"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(source, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", None)
    with pytest.raises(ValueError, match="There is no file or folder"):
        load_corpus(source)


def test_an_unreachable_hub_is_an_error_with_the_next_step(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'some/set' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=r"no file or folder 'some/set'.*Couldn't reach.*without"):
        load_corpus("some/set")


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_data_sets_give_one_text_column(monkeypatch, streaming):
    asked = []

    def hub(name, config, split, streaming):
        asked.append((name, config, split))
        rows = datasets.Dataset.from_dict({"body": ["a", "", "b", None], "n": [1, 2, 3, 4]})
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr(datasets, "load_dataset", hub)
    corpus = load_corpus("me/set:en", text_field="body", split="test", streaming=streaming)
    assert list(corpus.dataset) == [{"text": "a"}, {"text": "b"}]
    assert (corpus.name, corpus.num_skipped, asked) == ("set", 2, [("me/set", "en", "test")])
    with pytest.raises(ValueError, match=r"no field 'text'.*'body', 'n'"):
        load_corpus("me/set", streaming=streaming)


def test_read_rows_keeps_every_field(tmp_path):
    source = packed(tmp_path / "exam.jsonl.gz", json_lines(ROWS[:2]))
    assert read_rows(source) == ROWS[:2]
    with pytest.raises(ValueError, match="row 1 is 3: every row must be"):
        read_rows(packed(tmp_path / "exam.jsonl", b"3\n"))

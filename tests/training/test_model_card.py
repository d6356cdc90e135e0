"""Model cards: what the hub reads, no paths of this machine, foreign text escaped."""

import pytest
import yaml
from huggingface_hub import ModelCard

from crosstok.training.model_card import Card, code, escape, public

RECIPE = {"model": "owner/base", "options": {"alm": {"temperature": 5.0}}}


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def make(**changes) -> Card:
    values = {"title": "new", "lines": ["one"], "recipe": RECIPE, "base_model": "owner/base"}
    return Card(**{**values, **changes})


def test_the_hub_finds_base_model_data_sets_and_figures(monkeypatch):
    monkeypatch.setattr("crosstok.training.model_card.card_data", lambda _: {"license": "mit"})
    card = make(
        datasets=["owner/texts:en", "local.jsonl"],
        results={"eval_wiki_bits_per_byte": 1.5, "eval_nan_bits_per_byte": float("nan"), "loss": 2},
    )
    data = front_matter(card.text())
    assert data["base_model"] == "owner/base"
    assert data["base_model_relation"] == "finetune"
    assert data["license"] == "mit"
    assert data["datasets"] == ["owner/texts"]
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-generation")
    assert data["tags"] == ["crosstok", "tokenizer-transfer"]
    [index] = data["model-index"]
    [result] = index["results"]
    assert (index["name"], result["dataset"]["name"]) == ("new", "wiki")
    assert result["metrics"] == [{"type": "bits_per_byte", "value": 1.5, "name": "bits per byte"}]
    assert ModelCard(card.text()).data.license == "mit"


def test_a_local_model_lends_its_licence_and_its_own_base(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nbase_model: owner/first\nlicense: other\nlicense_name: own\n"
        "license_link: https://example.org/l\n---\n# x\n"
    )
    data = front_matter(make(base_model=str(tmp_path)).text())
    assert data["base_model"] == "owner/first"
    assert (data["license"], data["license_name"]) == ("other", "own")
    assert data["license_link"] == "https://example.org/l"


@pytest.mark.parametrize(
    "readme", [None, "# no front matter", "---\n: [\n---\n", "---\n- 1\n---\n"]
)
def test_a_model_without_a_card_that_can_be_read_lends_nothing(tmp_path, readme):
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    data = front_matter(make(base_model=str(tmp_path)).text())
    assert "license" not in data
    assert "base_model" not in data


def test_a_model_in_memory_goes_by_the_name_that_it_was_loaded_by(monkeypatch):
    class Named(str):
        """As recipes name what is in memory."""

    monkeypatch.setattr("crosstok.training.model_card.card_data", lambda _: {})
    card = make(base_model=Named("owner/base"), datasets=[Named("<in memory>")])
    assert front_matter(card.text())["base_model"] == "owner/base"
    assert "datasets" not in front_matter(card.text())


def test_paths_go_by_their_last_part(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text("")
    given = {
        "data": [str(file), f"{file}:en", "owner/name:config", "https://a.org/b/c"],
        "nested": {"place": str(tmp_path / "not" / "there")},
        "relative": "./a/b",
        "number": 3,
    }
    shown = public(given)
    assert shown["data"] == [
        "texts.jsonl",
        "texts.jsonl:en",
        "owner/name:config",
        "https://a.org/b/c",
    ]
    assert shown["nested"]["place"] == "there"
    assert (shown["relative"], shown["number"]) == ("b", 3)
    card = make(
        recipe=given, base_model=str(tmp_path), datasets=[str(file)], lines=[code(str(file))]
    )
    assert str(tmp_path) not in card.text()


def test_foreign_text_does_not_leave_its_place():
    assert escape("a|b<c>\n# d`e") == "a\\|b&lt;c&gt; # d\\`e"
    assert code("a`b``c") == "```a`b``c```"
    assert code("`") == "`` ` ``"
    assert "\n" not in code("a\nb")
    recipe = {"text": "````\n# not a heading\n```"}
    card = make(title="x|<y>\n---", recipe=recipe, results={"a|b\n<c>": 1.0})
    text = card.text()
    assert "# x\\|&lt;y&gt; ---\n" in text
    assert "| a\\|b &lt;c&gt; | 1 |" in text
    body = text.split("## Recipe")[1]
    fence = body.strip().splitlines()[0].removesuffix("yaml")
    assert len(fence) == 5
    assert yaml.safe_load(body.split(fence + "yaml")[1].split(fence)[0]) == recipe

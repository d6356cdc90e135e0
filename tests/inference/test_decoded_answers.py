"""What a model writes is what the library decodes from its ids, for every kind of decoder."""

import pytest
import torch

from crosstok.byteview import EXACT, ByteModel
from crosstok.inference import Sampling, TokenModel
from tests.tiny_models import tiny_model
from tests.tokenizers.home_made import Parts, make

KINDS = (
    Parts("Lowercase", "Bert", "BPE suffix", "BPEDecoder"),
    Parts("none", "WhitespaceSplit", "BPE suffix", "BPEDecoder"),
    Parts("none", "WhitespaceSplit", "BPE prefix", "WordPiece"),
    Parts("Bert", "Bert", "WordPiece", "WordPiece"),
    Parts("none", "WhitespaceSplit", "WordLevel", "none"),
    Parts("none", "Digits Metaspace", "Unigram", "Metaspace"),
    Parts("none", "Metaspace Digits", "BPE", "Metaspace"),
    Parts("NFD", "ByteLevel", "BPE", "ByteLevel"),
)


@pytest.mark.parametrize("parts", KINDS, ids=lambda parts: f"{parts.model}-{parts.decoder}")
@pytest.mark.parametrize("seed", [0, 1])
def test_an_answer_is_what_the_library_decodes_after_the_prompt(parts, seed):
    tokenizer = make(parts)
    model = tiny_model("llama", len(tokenizer), seed=seed)
    answering = TokenModel(model, tokenizer)
    ids = torch.tensor([answering.reader.prompt_ids("the dog")])
    with torch.no_grad():
        whole = model.generate(ids, do_sample=False, max_new_tokens=12, eos_token_id=0)[0].tolist()
    before, after = (
        tokenizer.decode(row, skip_special_tokens=True) for row in (ids[0].tolist(), whole)
    )
    found = answering.generate(["the dog"], Sampling(max_new_tokens=12, temperature=0.0))
    assert before + found[0] == after


def test_marks_of_a_words_end_are_read_byte_by_byte_without_a_space_at_the_end():
    tokenizer = make(KINDS[1])
    model = tiny_model("llama", len(tokenizer))
    view = ByteModel(model, tokenizer, pruning=EXACT)
    spelling = view._reader.spell(b"the dog")
    ids = tokenizer.backend_tokenizer.encode("the dog", add_special_tokens=False).ids
    assert spelling.ids == ids
    assert view.logprob("the dog") > view.logprob("the dog ")  # also within a longer word
    # Where one word is certain, it comes after a space and ends the text without one.
    dog = tokenizer.convert_tokens_to_ids("dog</w>")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(1.0)
        model.get_output_embeddings().weight.zero_()
        model.get_output_embeddings().weight[dog] = 9 * model.model.norm.weight.sign()
    pieces = []
    assert (
        ByteModel(model, tokenizer).generate(b"lazy", max_new_bytes=5, on_text=pieces.append)
        == b" dog"
    )
    assert "".join(pieces) == " dog"

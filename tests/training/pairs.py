"""A student and a teacher with other tokenizers, loaded or as folders."""

from pathlib import Path

from transformers import PreTrainedModel

from tests.folders import CHATML, TURNS, save_pair
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

TEXTS = SENTENCES[:8]
TEACHER_TOKENIZER = tiny_tokenizer("bytelevel_bpe")
STUDENT_TOKENIZER = tiny_tokenizer("spm_bpe")
TOKENIZERS = {"student_tokenizer": STUDENT_TOKENIZER, "teacher_tokenizer": TEACHER_TOKENIZER}
QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}


def pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    """A student and a teacher that know nothing of each other, in fp64."""
    student = tiny_model("llama", len(STUDENT_TOKENIZER), seed=1).double()
    return student, tiny_model("llama", len(TEACHER_TOKENIZER)).double()


def save_chat_models(folder: Path) -> dict[str, str]:
    """A student and a wider teacher with chat templates, as folders."""
    marks, wide = ("<|im_start|>", "<|im_end|>"), {"hidden_size": 48, "head_dim": 12}
    return {
        "model": save_pair(folder / "student", "spm_bpe", TURNS, ("<turn>", "</turn>")),
        "teacher_model": save_pair(folder / "teacher", "bytelevel_bpe", CHATML, marks, **wide),
    }

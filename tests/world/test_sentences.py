"""Sentences made in code, by a reader of their own; and the small BERT that answers about them."""

import sys
from dataclasses import replace

import pytest
import torch
from drive import drive

from tombola.errors import WorldError
from tombola.pieces.schedule import Linear
from tombola.recipes import BERT_TICKET
from tombola.values.digest import code_identity
from tombola.world.catalogue import sentences_number, sentences_subject
from tombola.world.data.sentences import LENGTH, NOUNS, PLACES, TASKS, WORDS, sentences
from tombola.world.models import BertClassifier
from tombola.world.world import World


def read(row: torch.Tensor) -> tuple[str, bool]:
    """Subject and number, found as a reader would: the noun whose article follows no place."""
    words = [WORDS[number] for number in row.tolist() if number]
    for place in range(1, len(words) - 1):
        if words[place] == "the" and words[place - 1] not in PLACES:
            noun = words[place + 1]
            return noun.removesuffix("s"), noun.endswith("s")
    raise AssertionError(words)


def test_answers_are_those_of_a_reader() -> None:
    number, subject = (sentences(task, 300, 50, 100) for task in ("number", "subject"))
    for name, count in {"train": 300, "validation": 50, "test": 100}.items():
        assert torch.equal(number[name].inputs, subject[name].inputs)
        assert number[name].inputs.shape == (count, LENGTH)
        for row, many, noun in zip(
            number[name].inputs, number[name].targets, subject[name].targets, strict=True
        ):
            assert read(row) == (NOUNS[int(noun)], bool(many))


def test_sentences_are_all_different_and_always_the_same() -> None:
    parts = sentences("number")
    everything = torch.cat([part.inputs for part in parts.values()])
    assert len(everything.unique(dim=0)) == len(everything) == 3_500
    assert int(everything.max()) == len(WORDS) - 1
    assert 0.45 < float(parts["train"].targets.float().mean()) < 0.55
    assert sentences("number")["test"].digest == parts["test"].digest
    assert set(sentences("subject")["train"].targets.tolist()) == set(range(24))


def test_the_nearest_noun_does_not_give_the_number_away() -> None:
    """Who reads the last noun alone is right where it is the subject, and else half the time."""
    part = sentences("number")["train"]
    last = torch.tensor([WORDS[row[row != 0][-1]].endswith("s") for row in part.inputs])
    assert 0.5 < float((last == part.targets.bool()).float().mean()) < 0.8


def test_there_is_no_other_task() -> None:
    with pytest.raises(WorldError, match=r"sentences\('mood'\): there are number, subject"):
        sentences("mood")
    assert list(TASKS) == ["number", "subject"]


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(WorldError, match=r'pip install "tombola\[transformers\]"'):
        BertClassifier(10, 5, 2)


@pytest.fixture(scope="module")
def number() -> World:
    pytest.importorskip("transformers")
    return replace(sentences_number(), steps=6, evaluate_every=6)


def test_the_small_bert_reads_words_and_not_the_padding(number: World) -> None:
    network = number.new_network(0).eval()
    batch = number.batch(number.train, torch.arange(5))
    with torch.no_grad():
        outputs = network(batch.inputs)
        longest = int((batch.inputs != 0).sum(dim=1).max())
        shorter = network(batch.inputs[:, :longest])
    assert outputs.shape == (5, 2)
    torch.testing.assert_close(shorter, outputs)


def test_embeddings_and_head_are_not_pruned(number: World) -> None:
    names = [layer.name for layer in number.layers]
    assert len(names) == 13  # query, key, value and three more in each of two layers, the pooler
    assert names[-1] == "encoder.pooler.dense.weight"
    assert not any("embedding" in name or name.startswith("head") for name in names)
    assert sentences_subject().layers[:-1] == number.layers[:-1]


def test_a_tenth_of_the_original_weights_goes_in_each_round(number: World) -> None:
    recipe = replace(BERT_TICKET, schedule=Linear(rounds=3))
    recipe.check(number)
    rounds = drive(recipe.loop(recipe, number, 0))
    kept = [sum(turn.end.kept.values()) for turn in rounds[1:]]
    assert kept == [round(17_408 * density) for density in (0.9, 0.8, 0.7)]
    again = drive(recipe.loop(recipe, number, 0))
    assert [t.end.params.digest for t in again] == [t.end.params.digest for t in rounds]


def test_classes_of_transformers_are_named_by_its_version(number: World) -> None:
    import transformers

    name = code_identity(type(number.new_network(0).encoder))
    assert name == f"transformers.models.bert.modeling_bert.BertModel@{transformers.__version__}"
    assert len(number.digest) == 64

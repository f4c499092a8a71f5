"""The choice of tokens to recompute."""

import torch

from kvsplice_train.decoder import Cache, Rows
from kvsplice_train.linking import again, documents_looked_at, first_tokens, highest, reordered
from kvsplice_train.prompts import Context


def context_of(documents: list[list[int]]) -> Context:
    document = torch.tensor(documents)
    length = document.shape[1]
    positions = torch.arange(length).expand(document.shape)
    # Padding is not visible; the prefix (-1 at the front) is.
    visible = torch.tensor([[d >= 0 or any(e >= 0 for e in row[i:]) for i, d in enumerate(row)] for row in documents])
    return Context(Cache([], [], positions, visible), positions.clone() + 100, document)


PROMPT = context_of([[-1, -1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, -1]])


def test_the_share_counts_document_tokens_and_is_rounded_down():
    scores = torch.arange(13.0)[None]
    assert highest(scores, PROMPT, 0.25).nonzero()[:, 1].tolist() == [10, 11]
    assert highest(scores, PROMPT, 0.1 * 3).nonzero()[:, 1].tolist() == [9, 10, 11]
    assert highest(scores, PROMPT, 0.0).sum() == 0
    assert highest(scores, PROMPT, 1.0).nonzero()[:, 1].tolist() == list(range(2, 12))


def test_of_equal_scores_the_earlier_token_is_chosen():
    assert highest(torch.ones(1, 13), PROMPT, 0.2).nonzero()[:, 1].tolist() == [2, 3]


def test_first_tokens_are_those_of_each_document():
    assert first_tokens(PROMPT, 2).nonzero()[:, 1].tolist() == [2, 3, 5, 6]
    assert first_tokens(PROMPT, 5).nonzero()[:, 1].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]


def test_a_document_s_attention_leaves_out_its_first_tokens():
    assert documents_looked_at(torch.ones(1, 13), PROMPT).tolist() == [[1.0, 5.0]]


def test_scores_move_with_their_documents():
    scores = torch.arange(13.0)[None]
    after = context_of([[-1, -1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, -1]])
    moved = reordered(scores, PROMPT, after, [[1, 0]])
    assert moved[0, 2:12].tolist() == [5, 6, 7, 8, 9, 10, 11, 2, 3, 4]


def test_recomputed_tokens_are_fresh_in_order_and_no_longer_cached():
    chosen = torch.zeros(1, 13, dtype=torch.bool)
    chosen[0, [7, 3]] = True
    question = Rows(torch.tensor([[1, 2]]), torch.tensor([[12, 13]]), torch.ones(1, 2, dtype=torch.bool))
    rows, cache = again(PROMPT, chosen, question)
    assert rows.ids.tolist() == [[103, 107, 1, 2]] and rows.positions.tolist() == [[3, 7, 12, 13]]
    assert (~cache.visible[0]).nonzero()[:, 0].tolist() == [3, 7, 12]

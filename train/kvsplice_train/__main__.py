"""Commands: `general` and `train` make an adapter; `prompts`, `evaluate`, `score` and `beside` measure ways of linking; `golden` writes
golden values."""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from .adapter import BOTH, ENCODE, new_adapter
from .benchmark import benchmark_prompts, markdown, scores
from .beside import beside
from .decoder import Decoder
from .documents import Card, Passage, read_card, read_excluded, read_general, read_passages
from .evaluate import evaluate, likeliest, parse_setting, references
from .general import general_questions, write_general
from .golden import write_golden
from .lessons import Asked, grouped
from .prompts import PromptSet, read_prompts
from .questions import make_questions
from .teacher import teach
from .tokenizer import ModelTokenizer, read_tokenizer
from .training import Schedule, train
from .weights import ModelError, read_weights

# Questions over one pool of documents, and the pool's size; ten documents per question, as kvsplice retrieves them.
QUESTIONS_A_GROUP, POOL, DOCUMENTS = 4, 14, 10
ANSWER_TOKENS = 16


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="kvsplice_train", description=__doc__)
    commands = parser.add_subparsers(required=True)
    trainer = commands.add_parser("train", help="make an adapter for a model and documents")
    trainer.add_argument("model", help="a .gguf file or a Hugging Face folder")
    trainer.add_argument("out", type=Path, help="folder for the adapter; a second call continues from its checkpoint")
    trainer.add_argument("--card", required=True, help="how the model is prompted; models/kvsplice-135m.json is an example of a card")
    trainer.add_argument("--documents", required=True, help="folder of .txt and .md files, or .jsonl of {title, text}")
    trainer.add_argument("--general", help=".jsonl of {question, title, text} or {question, passages}, so that the adapter works for other documents too")
    trainer.add_argument("--exclude", help=".jsonl of {text}: passages used in an evaluation; never trained on")
    trainer.add_argument("--questions", type=int, default=3, help="questions that the model generates per passage (%(default)s)")
    trainer.add_argument("--held-out", type=int, default=24, help="groups of questions that decide when to stop (%(default)s)")
    trainer.add_argument("--where", choices=(ENCODE, BOTH), default=ENCODE, help="passes that the adapter acts on (%(default)s)")
    trainer.add_argument("--rank", type=int, default=8)
    trainer.add_argument("--modules", default="k_proj,v_proj,o_proj", help="comma-separated list (%(default)s)")
    trainer.add_argument("--layers", help="FIRST:LAST; all if omitted")
    trainer.add_argument("--steps", type=int, default=300)
    trainer.add_argument("--groups", type=int, default=4, help="groups per step (%(default)s)")
    trainer.add_argument("--recompute", type=float, default=0.0, help="share that every second step recomputes, as answers will")
    trainer.add_argument("--states", type=float, default=0.0, help="initial weight of the distance of the question's states")
    trainer.add_argument("--learning-rate", type=float, default=7e-4)
    trainer.add_argument("--check-every", type=int, default=40)
    trainer.add_argument("--seed", type=int, default=1)
    trainer.set_defaults(run=run_train)
    general = commands.add_parser("general", help="a general set for `train`: questions about passages, and about pairs of linked passages")
    general.add_argument("out", type=Path)
    general.add_argument("--passages", type=Path, required=True, help=".jsonl or .jsonl.gz of {id, title, text}")
    general.add_argument("--questions", type=Path, required=True, help="of {question, gold, source}")
    general.add_argument("--exclude", help=".jsonl of {text}: passages to leave out")
    general.add_argument("--repeat", action="append", default=[], metavar="SOURCE=N", help="repeat a source's questions N times")
    general.add_argument("--two", type=int, default=2600, help="maximum number of questions over two passages (%(default)s)")
    general.add_argument("--seed", type=int, default=1)
    general.set_defaults(run=run_general)
    maker = commands.add_parser("prompts", help="token ids for question sets with known passages")
    maker.add_argument("model")
    maker.add_argument("out", type=Path)
    maker.add_argument("--card", required=True)
    maker.add_argument("--passages", type=Path, required=True, help=".jsonl or .jsonl.gz of {id, title, text}")
    maker.add_argument("--set", action="append", required=True, metavar="NAME=FILE", help="of {question, answers, gold, distractors}")
    maker.add_argument("--limit", type=int)
    maker.set_defaults(run=run_prompts)
    evaluator = commands.add_parser("evaluate", help="answers and distances from full attention by ways of linking")
    evaluator.add_argument("model")
    evaluator.add_argument("prompts", help="token ids: {prefix, documents, questions, ends}")
    evaluator.add_argument("out", type=Path)
    evaluator.add_argument("--settings", required=True, help="separated by ';', as in none;prefix+recompute=0.15+last=5;adapter=FOLDER")
    evaluator.add_argument("--limit", type=int)
    evaluator.set_defaults(run=run_evaluate)
    scorer = commands.add_parser("score", help="accuracy, intervals and rank correlations from the output of `evaluate`")
    scorer.add_argument("model")
    scorer.add_argument("prompts", type=Path)
    scorer.add_argument("results", type=Path)
    scorer.add_argument("--json", action="store_true", help="print everything instead of tables")
    scorer.set_defaults(run=run_score)
    compared = commands.add_parser("beside", help="how close two outputs of `evaluate` are at the first token of each answer")
    compared.add_argument("expected", type=Path)
    compared.add_argument("found", type=Path, help="kvsplice's own, from bench/linking/answers.ts")
    compared.add_argument("--pairs", help="ways by their names in both, as in full=full;prefix+recompute=0.15+last=5:prefix+0.15")
    compared.set_defaults(run=lambda options: print(beside(*(json.loads(p.read_text()) for p in (options.expected, options.found)), options.pairs)))
    golden = commands.add_parser("golden", help="golden values of tiny random models")
    golden.add_argument("out", type=Path)
    golden.set_defaults(run=lambda options: write_golden(options.out))
    for command in (trainer, evaluator):
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--batch", type=int, default=32)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ModelError as error:
        sys.exit(str(error))


def decoder_of(options: argparse.Namespace) -> Decoder:
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    return Decoder(read_weights(options.model), options.device, dtype)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_train(options: argparse.Namespace) -> None:
    rng = random.Random(options.seed)
    tokenizer, card = read_tokenizer(options.model), read_card(options.card)
    decoder = decoder_of(options)
    own = read_passages(options.documents, card, tokenizer)
    general = read_general(options.general) if options.general else []
    excluded = read_excluded(options.exclude) if options.exclude else set()
    all_passages = dict.fromkeys([*own, *(p for question in general for p in question.passages)])
    passages = [p for p in all_passages if p.text.strip() not in excluded]
    names = {passage: f"p{i}" for i, passage in enumerate(passages)}
    prompts = prompt_set(card, tokenizer, names)
    say(f"{len(own)} passages from your documents, {len(general)} general questions, {len(passages)} passages in total")
    made = make_questions(decoder, prompts, card, tokenizer, [names[p] for p in own if p in names], options.questions, options.batch)
    say(f"the model generated {len(made)} questions")
    texts = [((name,), text) for name, text in made]
    texts += [(tuple(names[p] for p in g.passages), g.question) for g in general if all(p in names for p in g.passages)]
    asked = [Asked(text, tuple(tokenizer.tokens(card.question.replace("{question}", text))), needs) for needs, text in texts]
    groups = list(grouped(asked, {names[p]: f"{p.title}\n{p.text}" for p in passages}, DOCUMENTS, POOL, QUESTIONS_A_GROUP, rng))
    if len(groups) <= options.held_out:
        raise ModelError(f"{len(groups)} groups of questions are too few to hold out {options.held_out}. Give more documents.")
    rng.shuffle(groups)
    groups = groups[: options.held_out + options.steps * options.groups]
    say(f"full attention answers {sum(map(len, groups))} questions")
    lessons = iter(teach(decoder, prompts, [question for group in groups for question in group], options.batch, ANSWER_TOKENS))
    taught = [[next(lessons) for _ in group] for group in groups]
    adapter = new_adapter(
        decoder.config,
        options.rank,
        2 * options.rank,
        options.where,
        options.modules.split(","),
        layers_of(options.layers, decoder.config.layers),
        options.seed,
        options.device,
    )
    schedule = Schedule(
        options.steps, options.groups, options.learning_rate, options.check_every, recompute=options.recompute, states=options.states
    )
    held_out = [lesson for group in taught[: options.held_out] for lesson in group]
    checks = train(decoder, prompts, adapter, taught[options.held_out :], held_out, schedule, options.out, str(options.model), say)
    best = min(checks, key=lambda check: check.divergence)
    print(json.dumps({"adapter": str(options.out), "before": asdict(checks[0]), "best": asdict(best)}))


def prompt_set(card: Card, tokenizer: ModelTokenizer, names: dict[Passage, str]) -> PromptSet:
    prefix = (*tokenizer.begin, *tokenizer.tokens(card.system))
    documents = {name: tuple(tokenizer.tokens(card.filled(passage))[: card.max_document_tokens]) for passage, name in names.items()}
    example = tuple(tokenizer.tokens(card.filled(card.example))) if card.example else ()
    return PromptSet(prefix, documents, {}, tokenizer.ends, example)


def layers_of(text: str | None, count: int) -> range:
    if text is None:
        return range(count)
    first, last = map(int, text.split(":"))
    return range(first, min(last + 1, count))


def run_evaluate(options: argparse.Namespace) -> None:
    decoder, prompts = decoder_of(options), read_prompts(options.prompts)
    settings = [parse_setting(text) for text in options.settings.split(";")]
    results = {}
    for name, questions in prompts.questions.items():
        asked = questions[: options.limit]
        expected = references(decoder, prompts, asked, options.batch)
        answered = evaluate(decoder, prompts, asked, expected, settings, options.batch, lambda line, name=name: say(f"{name}: {line}"))
        first = [likeliest(reference.log_probabilities[0]) for reference in expected]
        results[name] = {"full": {"answers": [reference.answer for reference in expected], "first": first}}
        results[name] |= {setting: asdict(found) for setting, found in answered.items()}
        options.out.write_text(json.dumps(results))


def run_general(options: argparse.Namespace) -> None:
    excluded = read_excluded(options.exclude) if options.exclude else set()
    repeat = {source: int(count) for source, _, count in (text.partition("=") for text in options.repeat)}
    count = write_general(options.out, general_questions(options.passages, options.questions, excluded, repeat, options.two, options.seed))
    say(f"{count} questions")


def run_prompts(options: argparse.Namespace) -> None:
    sets = {name: Path(file) for name, _, file in (text.partition("=") for text in options.set)}
    made = benchmark_prompts(read_card(options.card), read_tokenizer(options.model), options.passages, sets, options.limit)
    options.out.write_text(json.dumps(made))


def run_score(options: argparse.Namespace) -> None:
    prompts, results = (json.loads(path.read_text()) for path in (options.prompts, options.results))
    scored = scores(prompts, results, read_tokenizer(options.model))
    print(json.dumps(scored, indent=1) if options.json else markdown(scored))


if __name__ == "__main__":
    main()

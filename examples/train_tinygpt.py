"""Train a character TinyGPT on a text file, store its weights as int8, and print what that costs.

    python examples/train_tinygpt.py --data tinyshakespeare.txt

The defaults are nanoGPT's CPU configuration: 4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps, AdamW 1e-3
to 1e-4 on a cosine after 100 warm-up steps, betas (0.9, 0.99), weight decay 0.1, norm clipped to 1, no dropout. The loss
is over all consecutive windows of the last 10% of the text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tinyml
from tinyml import data, models, optim


def main() -> None:
    """Parse the arguments, train, quantize, compare, sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text (default: the shipped King James Bible)")
    for name, default in {"layers": 4, "heads": 4, "dim": 128, "context": 64, "batch": 12, "steps": 2000, "warmup": 100,
                          "epochs": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--min-lr", type=float, default=1e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--evaluate", type=int, default=500, metavar="N",
                        help="evaluate, and print a sample, every N updates")
    parser.add_argument("--checkpoints", metavar="DIR", help="write checkpoints to DIR, and resume from one that is there")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses, as .svg")
    parser.add_argument("--save", metavar="FILE", help="save the int8 model, which `tinyml generate FILE` reads")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args()

    tinyml.manual_seed(args.seed)
    text = data.read_text(args.data) if args.data else data.bible()
    tokenizer = data.CharTokenizer(text)
    ids = tokenizer.encode(text)
    split = int(0.9 * len(ids))
    model = models.TinyGPT(tokenizer.vocab_size, args.context, args.layers, args.heads, args.dim, args.dropout,
                           characters=tokenizer.characters)
    optimizer = optim.AdamW(model.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    schedule = optim.CosineAnnealingLR(optimizer, args.epochs * args.steps, args.min_lr, args.warmup)
    windows = data.TextDataset(ids[:split], args.context, stride=1)
    batches = data.RandomBatches(windows, args.batch, args.steps, args.seed)
    tests = data.DataLoader(data.TextDataset(ids[split:], args.context), 64)
    prompt = ids[split : split + min(20, args.context)]

    def sample(model: models.TinyGPT = model, length: int = 100) -> str:
        return tokenizer.decode(model.generate(prompt, length, 0.8, 20, args.seed))

    trainer = tinyml.Trainer(model, optimizer, schedule=schedule, clip_norm=1.0, checkpoint_dir=args.checkpoints,
                             checkpoint_every=args.evaluate if args.checkpoints else None, evaluate_every=args.evaluate,
                             sample=sample)
    trainer.fit(batches, args.epochs, validation=tests, metric="loss", resume=args.checkpoints is not None)
    if args.plot:
        tinyml.report.plot_losses(trainer.history, args.plot)

    int8 = model.to_int8()
    print()
    result = tinyml.precision.compare(model, int8, tests)
    found = models.perplexity(int8, ids[split:])
    print(f"\nint8: perplexity {found['perplexity']:.3f}, {found['bits']:.4f} bits per character\n\n{sample(int8, 300)}")
    if args.save:
        int8.save(args.save)
    if args.json:
        Path(args.json).write_text(json.dumps({"arguments": vars(args), **result.as_dict()}, indent=2))


if __name__ == "__main__":
    main()

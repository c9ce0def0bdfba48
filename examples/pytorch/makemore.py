"""Karpathy's first lectures of nn-zero-to-hero with `import tinyml as torch`: micrograd's neuron, makemore's two models.

    python examples/pytorch/makemore.py --steps 2000

Lines that had to change are marked. The names are made up here: names.txt of makemore is not shipped.
"""

import argparse
import random

import tinyml as torch
import tinyml.nn.functional as F

SYLLABLES = ["an", "be", "ca", "dor", "el", "fi", "ga", "hu", "is", "ja", "ka", "lo", "mi", "no", "ra", "sa", "to", "vi"]


def neuron() -> None:
    """Lecture 1: one neuron, its value and its gradients (micrograd's last cells do the same in PyTorch)."""
    x1 = torch.Tensor([2.0]).double()
    x1.requires_grad = True
    x2 = torch.Tensor([0.0]).double()
    x2.requires_grad = True
    w1 = torch.Tensor([-3.0]).double()
    w1.requires_grad = True
    w2 = torch.Tensor([1.0]).double()
    w2.requires_grad = True
    b = torch.Tensor([6.8813735870195432]).double()
    b.requires_grad = True
    n = x1 * w1 + x2 * w2 + b
    o = torch.tanh(n)
    print(o.data.item())
    o.backward()
    for name, t in (("x2", x2), ("w2", w2), ("x1", x1), ("w1", w1)):
        print(name, t.grad.item())
    assert abs(o.item() - 0.7071) < 1e-4 and abs(x1.grad.item() + 1.5) < 1e-4


def bigrams(words: list[str], stoi: dict[str, int], itos: dict[int, str]) -> float:
    """Lecture 2: counts of pairs, names drawn from them, and the same as a layer trained by gradient descent."""
    V = len(stoi)
    N = torch.zeros((V, V), dtype=torch.int32)
    for w in words:
        chs = [".", *w, "."]
        for ch1, ch2 in zip(chs, chs[1:]):
            N[stoi[ch1], stoi[ch2]] += 1
    P = (N + 1).float()
    P /= P.sum(1, keepdims=True)
    torch.manual_seed(2147483647)       # changed: torch.Generator; there is one generator
    for _ in range(3):
        out, ix = [], 0
        while True:
            ix = torch.multinomial(P[ix], num_samples=1, replacement=True).item()
            out.append(itos[ix])
            if ix == 0:
                break
        print("".join(out))
    xs, ys = [], []
    for w in words:
        chs = [".", *w, "."]
        for ch1, ch2 in zip(chs, chs[1:]):
            xs.append(stoi[ch1])
            ys.append(stoi[ch2])
    xs, ys = torch.tensor(xs), torch.tensor(ys)
    num = xs.nelement()
    W = torch.randn((V, V), requires_grad=True)
    for _ in range(50):
        xenc = torch.eye(V)[xs]         # changed: F.one_hot comes with the layers
        logits = xenc @ W
        counts = logits.exp()
        probs = counts / counts.sum(1, keepdims=True)
        loss = -probs[torch.arange(num), ys].log().mean() + 0.01 * (W**2).mean()
        W.grad = None
        loss.backward()
        W.data += -20 * W.grad
    print(f"bigrams: loss {loss.item():.4f}")
    return loss.item()


def mlp(words: list[str], stoi: dict[str, int], itos: dict[int, str], steps: int) -> float:
    """Lecture 3: an embedding, a hidden layer and cross entropy (Bengio et al. 2003)."""
    block_size, V = 3, len(stoi)
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = context[1:] + [ix]
    X, Y = torch.tensor(X), torch.tensor(Y)
    C = torch.randn((V, 10))
    W1 = torch.randn((30, 100))
    b1 = torch.randn(100)
    W2 = torch.randn((100, V)) * 0.1
    b2 = torch.zeros(V)
    parameters = [C, W1, b1, W2, b2]
    print(sum(p.nelement() for p in parameters))
    for p in parameters:
        p.requires_grad = True
    lossi = []
    for i in range(steps):
        ix = torch.randint(0, X.shape[0], (32,))
        emb = C[X[ix]]
        h = torch.tanh(emb.view(-1, 30) @ W1 + b1)
        logits = h @ W2 + b2
        loss = F.cross_entropy(logits, Y[ix])
        for p in parameters:
            p.grad = None
        loss.backward()
        lr = 0.1 if i < steps // 2 else 0.01
        for p in parameters:
            p.data += -lr * p.grad
        lossi.append(loss.log10().item())
    with torch.no_grad():
        emb = C[X]
        h = torch.tanh(emb.view(emb.shape[0], -1) @ W1 + b1)
        loss = F.cross_entropy(h @ W2 + b2, Y)
    print(f"MLP: loss {loss.item():.4f}")
    for _ in range(3):
        out, context = [], [0] * block_size
        while len(out) < 20:
            emb = C[torch.tensor([context])]
            h = torch.tanh(emb.view(1, -1) @ W1 + b1)
            probs = F.softmax(h @ W2 + b2, dim=1)
            ix = torch.multinomial(probs, num_samples=1).item()
            context = context[1:] + [ix]
            if ix == 0:
                break
            out.append(itos[ix])
        print("".join(out))
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    random.seed(0)
    words = ["".join(random.choices(SYLLABLES, k=random.randint(1, 3))) for _ in range(400)]
    chars = sorted(set("".join(words)))
    stoi = {s: i + 1 for i, s in enumerate(chars)} | {".": 0}
    itos = {i: s for s, i in stoi.items()}
    neuron()
    torch.manual_seed(0)
    first, second = bigrams(words, stoi, itos), mlp(words, stoi, itos, args.steps)
    assert second < first


if __name__ == "__main__":
    main()

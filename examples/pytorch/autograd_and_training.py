"""PyTorch's beginner tutorials on autograd, building a model and the optimization loop, with `import tinyml as torch`.

    python examples/pytorch/autograd_and_training.py --epochs 5

Lines that had to change are marked; the data set is the one that comes with tinyml.
"""

import argparse

import tinyml as torch
from tinyml import data, nn


def autograd() -> None:
    """Gradients of one layer's loss, and how to switch them off."""
    x, y = torch.ones(5), torch.zeros(3)
    w = torch.randn(5, 3, requires_grad=True)
    b = torch.randn(3, requires_grad=True)
    z = torch.matmul(x, w) + b
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
    print(f"Gradient function for z = {z.grad_fn}")
    print(f"Gradient function for loss = {loss.grad_fn}")
    loss.backward()
    print(w.grad)
    print(b.grad)
    z = torch.matmul(x, w) + b
    assert z.requires_grad
    with torch.no_grad():
        z = torch.matmul(x, w) + b
    assert not z.requires_grad
    z = torch.matmul(x, w) + b
    assert not z.detach().requires_grad
    inp = torch.eye(4, 5, requires_grad=True)
    out = (inp + 1).pow(2).t()
    out.backward(torch.ones_like(out), retain_graph=True)
    print(f"First call\n{inp.grad}")
    out.backward(torch.ones_like(out), retain_graph=True)
    print(f"\nSecond call\n{inp.grad}")
    inp.grad.zero_()
    out.backward(torch.ones_like(out), retain_graph=True)
    print(f"\nCall after zeroing gradients\n{inp.grad}")


class NeuralNetwork(nn.Module):
    """The tutorial's network, for 28 x 28 pixels."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 128),        # changed: 512 in the tutorial
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, x):
        x = self.flatten(x)
        logits = self.linear_relu_stack(x)
        return logits


def train_loop(dataloader, model, loss_fn, optimizer) -> None:
    """One pass over the training set."""
    model.train()
    for batch, (X, y) in enumerate(dataloader):
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 20 == 0:
            print(f"loss: {loss.item():>7f}  [batch {batch:>3d}]")


def test_loop(dataloader, model, loss_fn) -> float:
    """The share of images that the model has right."""
    model.eval()
    size, num_batches = 0, len(dataloader)
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X)
            test_loss += loss_fn(pred, torch.as_tensor(y)).item()
            correct += (pred.argmax(1) == torch.as_tensor(y)).type(torch.float).sum().item()
            size += len(y)
    print(f"Test Error: \n Accuracy: {100 * correct / size:>0.1f}%, Avg loss: {test_loss / num_batches:>8f} \n")
    return correct / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    autograd()
    # changed: torchvision.datasets.FashionMNIST and torch.utils.data.DataLoader
    training_data, test_data = (data.load_dataset("shipped", split) for split in ("train", "test"))
    train_dataloader = data.DataLoader(training_data, batch_size=64, shuffle=True)
    test_dataloader = data.DataLoader(test_data, batch_size=64)
    model = NeuralNetwork()             # changed: .to("cpu") comes with the layers
    print(model)
    X = torch.rand(1, 28, 28)
    pred_probab = nn.Softmax(dim=1)(model(X))
    y_pred = pred_probab.argmax(1)
    print(f"Predicted class: {y_pred}")
    for name, param in model.named_parameters():
        print(f"Layer: {name} | Size: {param.size()} | Values : {param[:2]} \n")
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)     # changed: 1e-3, for the smaller network
    for t in range(args.epochs):
        print(f"Epoch {t + 1}\n-------------------------------")
        train_loop(train_dataloader, model, loss_fn, optimizer)
        accuracy = test_loop(test_dataloader, model, loss_fn)
    print(f"Done! {100 * accuracy:.1f}%")


if __name__ == "__main__":
    main()

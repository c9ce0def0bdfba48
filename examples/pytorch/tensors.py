"""PyTorch's beginner tutorial on tensors, with `import tinyml as torch`; lines that had to change are marked.

    python examples/pytorch/tensors.py
"""

import numpy as np

import tinyml as torch


def main() -> None:
    # making tensors
    data = [[1, 2], [3, 4]]
    x_data = torch.tensor(data)
    np_array = np.array(data)
    x_np = torch.from_numpy(np_array)
    x_ones = torch.ones_like(x_data)
    print(f"Ones Tensor: \n {x_ones} \n")
    x_rand = torch.rand_like(x_data, dtype=torch.float)
    print(f"Random Tensor: \n {x_rand} \n")
    shape = (2, 3)
    rand_tensor, ones_tensor, zeros_tensor = torch.rand(shape), torch.ones(shape), torch.zeros(shape)
    print(f"{rand_tensor}\n{ones_tensor}\n{zeros_tensor}")

    # what they are
    tensor = torch.rand(3, 4)
    print(f"Shape of tensor: {tensor.shape}")
    print(f"Datatype of tensor: {tensor.dtype}")
    print(f"Device tensor is stored on: {tensor.device}")
    tensor = tensor.to("cpu")           # changed: there is no accelerator to move to

    # slices, joins, products
    tensor = torch.ones(4, 4)
    print(f"First row: {tensor[0]}")
    print(f"First column: {tensor[:, 0]}")
    print(f"Last column: {tensor[..., -1]}")
    tensor[:, 1] = 0
    print(tensor)
    t1 = torch.cat([tensor, tensor, tensor], dim=1)
    print(t1)
    y1 = tensor @ tensor.T
    y2 = tensor.matmul(tensor.T)
    y3 = torch.rand_like(y1)
    y3.copy_(torch.matmul(tensor, tensor.T))        # changed: out= is refused
    assert torch.equal(y1, y2) and torch.equal(y1, y3)
    z1, z2 = tensor * tensor, tensor.mul(tensor)
    assert torch.equal(z1, z2)
    agg = tensor.sum()
    agg_item = agg.item()
    print(agg_item, type(agg_item))
    print(f"{tensor} \n")
    tensor.add_(5)
    print(tensor)

    # shared memory with NumPy, both ways
    t = torch.ones(5)
    n = t.numpy()
    t.add_(1)
    print(f"t: {t}\nn: {n}")
    n = np.ones(5)
    t = torch.from_numpy(n)
    np.add(n, 1, out=n)
    print(f"t: {t}\nn: {n}")
    assert (t == 2).all() and x_np.dtype == torch.int64


if __name__ == "__main__":
    main()

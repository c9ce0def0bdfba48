"""What works on elements, rows or columns: norms, softmax, pointwise functions, pooling, codes, dropout, optimizers."""

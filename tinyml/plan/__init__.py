"""How a graph runs: lowered to steps on codes or floats, bound to memory."""

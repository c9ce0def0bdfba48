"""How a graph runs: it is lowered to steps on codes or floats, and the steps are bound to memory."""

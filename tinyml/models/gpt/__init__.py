"""TinyGPT: its network, how it generates, and how it is read from other libraries' files."""

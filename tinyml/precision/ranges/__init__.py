"""Where ranges come from: data, and the observers that watch it."""

"""Attention, rotary positions, and the step that decodes one token of a GPT."""

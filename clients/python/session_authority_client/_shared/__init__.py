"""The half that both flavours share: it decides, converts and counts, and waits for nothing."""

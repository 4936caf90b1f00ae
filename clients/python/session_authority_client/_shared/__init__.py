"""The code that both flavours of the client share. It decides, converts and counts, and waits for
nothing.
"""

"""Describes a device in words, from its user agent and its client hints.

The function `appearance` is the entry point. `appearance` splits the user agent into parts
(`agents`), and reads the system from the parts (`systems`, `platforms`, `models`). `appearance`
also names the browser, the app or the program without a user (`programs`, `browsers`, `crawlers`).
Client hints (`hints`) take precedence over the user agent (`hinted`).
"""

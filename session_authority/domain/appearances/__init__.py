"""Describes a device in words, from its user agent and its client hints.

`appearance` is the entry point. It splits the user agent (`agents`), reads the system (`systems`,
`platforms`, `models`), and names the program that runs there (`programs`, `browsers`, `crawlers`).
Client hints (`hints`) take precedence over the user agent (`hinted`).
"""

"""Owns the way from a user agent and client hints to the words that show a device.

`appearance` is the door. The agent is split (`agents`), its system read (`systems`, `platforms`,
`models`), then the program that runs there is named (`programs`, `browsers`, `crawlers`). Client
hints (`hints`) go before the agent (`hinted`).
"""

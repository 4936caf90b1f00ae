"""The flavour for asyncio. Most of the flavour for threads is generated from it."""
